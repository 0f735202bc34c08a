"""基本設定: address, password, and what else the society's file asks; nothing counts before the mail was opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import credentials as secrets_room
from mailbot.config import Journey, Society
from mailbot.store.tables import member

from .. import choices, formula, people, words
from ..context import Context
from ..outcomes import Complaint, Field, Refused
from ..people import Person
from .base import FormStep, JourneyState, Passed

SETTINGS = "settings"
"""Answer that holds what was typed: {hash, nickname, wanted}; the address is the journey's."""
DRAFT = "draft"
"""Answer that holds a form whose address was found free: {address, nickname, wanted}."""
ADDRESS_HINT = "携帯電話やスマートフォンのメールアドレスも使えます。"
ID_HINT = "このメールアドレスが、ログインIDになります。ほかの方がログインIDにしているメールアドレスは使えません。"


class Settings(FormStep):
    """May be changed again from the pages behind it. The password's hash is kept with the journey, sealed."""

    name = "settings"
    editable = True

    def problems(self, society: Society, journey: Journey) -> list[str]:
        found = []
        if journey.login_id == "chosen":
            found.append("login_id: \"formula\" or \"address\", for 'settings' asks for none; 'credentials' does")
        if journey.login_id == "formula" and journey.steps[0] != "formula-login":
            found.append("login_id: \"formula\" is for journeys that begin with 'formula-login'")
        if journey.steps[-1] != "confirm-by-mail":
            found.append("steps: a journey with 'settings' ends with 'confirm-by-mail', which proves the address")
        return found

    def fields(self, society: Society, journey: Journey) -> tuple[Field, ...]:
        rules = secrets_room.describe(society.password, society.label("settings.password"))
        hints = (ADDRESS_HINT, *((ID_HINT,) if journey.login_id == "address" else ()))
        kinds = {
            "address": (Field("address", "settings.address", "email", "email", hints),),
            "password": (
                Field("password", "settings.password", "password", "new-password", tuple(rules)),
                Field("password_again", "settings.password-again", "password", "new-password"),
            ),
            "nickname": (Field("nickname", "settings.nickname", "text", "nickname", required=False),),
            "wanted": (Field("wanted", "settings.wanted", "choices", "off", required=False),),
        }
        return tuple(field for name in journey.settings for field in kinds[name])

    async def values(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState
    ) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        """`typed`: it was filled in before, and only the password is asked again; `free`: its address may be used."""
        row = await _member(tx, society, state)
        before, draft = state.answers.get(SETTINGS), state.answers.get(DRAFT)
        typed = draft or before
        nickname = typed["nickname"] if typed else _nickname(ctx, society, row)
        wanted = typed["wanted"] if typed else {one.id: one.default for one in society.profile.wanted}
        filled = {"address": draft["address"] if draft else state.address, "nickname": nickname}
        filled |= {f"wanted.{name}": "yes" for name, on in wanted.items() if on}
        facts = {
            "shows": shown_facts(ctx, society, state, row),
            "wanted": society.profile.wanted,
            "typed": before is not None,
            "free": draft is not None,
        }
        return filled, facts

    async def check(
        self, ctx: Context, society: Society, state: JourneyState, form: Mapping[str, str], now: int
    ) -> Passed | Refused:
        label = society.label("settings.address")
        address = choices.address(ctx, choices.text_of(form, "address"), "address", label)
        addressed = by_address(society, state)
        async with ctx.store.read() as tx:
            row = await _member(tx, society, state)
            taken = (
                addressed
                and not isinstance(address, Complaint)
                and await choices.is_taken(ctx, tx, society, address.text, state.member_id)
            )
        if taken:
            if not await choices.count_taken(ctx, society, state.member_id, now):
                return Refused.whole(words.ENOUGH_TODAY, 429)
            return Refused((Complaint("address", words.address_taken(label)),))
        nickname = choices.nickname(choices.text_of(form, "nickname")) if "nickname" in state.journey.settings else ""
        asks = "wanted" in state.journey.settings
        wanted = {one.id: f"wanted.{one.id}" in form if asks else one.default for one in society.profile.wanted}
        if "try" in form and addressed:
            if isinstance(address, Complaint):
                return Refused((address,))
            draft = {"address": address.text, "nickname": nickname[: choices.MAX_NICKNAME], "wanted": wanted}
            return Passed(answers={DRAFT: draft}, stays=True)
        found: list[Complaint] = [address] if isinstance(address, Complaint) else []
        person = people.open_person(ctx.ring, row.sealed, society.id, state.member_id)
        fixed = login_id_of(society, state, person, "")
        if fixed is None:
            return Refused.whole(words.NO_FORMULA)
        facts = choices.known_facts(
            society,
            person,
            (fixed,),
            () if isinstance(address, Complaint) else (address.text,),
            formula.first_password(person) if state.journey.login_id == "formula" else None,
        )
        password = choices.text_of(form, "password")
        found += choices.password(
            society,
            password,
            choices.text_of(form, "password_again"),
            ("password", "password_again"),
            society.label("settings.password"),
            facts,
        )
        found += choices.nickname_complaints(nickname, "nickname", society.label("settings.nickname"), False)
        if found or isinstance(address, Complaint):
            return Refused(tuple(found))
        typed = {"hash": await ctx.passwords.hash(password), "nickname": nickname, "wanted": wanted}
        return Passed(answers={SETTINGS: typed, DRAFT: None}, address=address.text)


def by_address(society: Society, state: JourneyState) -> bool:
    """Whether the journey makes the address the login ID; else the formula does."""
    return state.journey.login_id == "address" or society.formula is None


def login_id_of(society: Society, state: JourneyState, person: Person, address: str) -> str | None:
    """The login ID the journey leads to; None where symbol and number do not fit the formula."""
    if society.formula is None or by_address(society, state):
        return address
    return formula.login_id(society.formula, person.symbol, person.number)


def shown_facts(ctx: Context, society: Society, state: JourneyState, row: Any) -> tuple[tuple[str, str], ...]:
    """(key of a label, text) of what cannot be changed here."""
    person = people.open_person(ctx.ring, row.sealed, society.id, state.member_id)
    born = person.born
    texts = {
        "name": person.name,
        "kana": person.kana,
        "birth-date": f"{born.year}年{born.month}月{born.day}日" if born else "",
    }
    fixed = state.journey.login_id == "formula" and login_id_of(society, state, person, "")
    first = (("login.id", fixed),) if fixed else ()
    return (*first, *((f"settings.{name}", texts[name]) for name in state.journey.shows if texts[name]))


async def _member(tx: AsyncConnection, society: Society, state: JourneyState) -> Any:
    m = member.c
    statement = select(m.id, m.sealed, m.sealed_nickname).where(m.society == society.id, m.id == state.member_id)
    return (await tx.execute(statement)).one()  # a journey of nobody is at its end before any step


def _nickname(ctx: Context, society: Society, row: Any) -> str:
    return people.open_text(ctx.ring, row.sealed_nickname, society.id, "member", "sealed_nickname", row.id)


SETTINGS_STEP = Settings()
