"""利用者情報入力: new login ID, password, address and nickname; with it the member is registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import credentials as secrets_room
from mailbot.config import Journey, Society
from mailbot.credentials import KeyRefused
from mailbot.mail.address import Address, stored
from mailbot.store.tables import member, temporary

from .. import choices, people, words
from ..context import Context
from ..outcomes import Complaint, End, Field, JourneyEnd, Refused
from ..people import Person
from .base import FormStep, JourneyState, Passed
from .register import LETTER_ID, Chosen, register
from .temporary_login import printed_password


@dataclass(frozen=True, slots=True)
class _Known:
    person: Person
    nickname: str
    printed_id: str = ""
    printed_password: str | None = None


class Credentials(FormStep):
    """The last step of a registration."""

    name = "credentials"
    registers = True

    def problems(self, society: Society, journey: Journey) -> list[str]:
        if journey.login_id != "chosen":
            return ["login_id: in the step 'credentials' the member chooses it; 'settings' is for the others"]
        return []

    def fields(self, society: Society, journey: Journey) -> tuple[Field, ...]:
        id_label, password_label = society.label("credentials.login-id"), society.label("credentials.password")
        id_rules = secrets_room.describe_login_id(society.login_id, id_label, choices.reserved(society))
        rules = secrets_room.describe(society.password, password_label)
        label = society.label("profile.title")
        changed_later = (f"ここでは変えられません。登録が終わってから、「{label}」で変えられます。",)
        address = {
            "editable": (Field("address", "credentials.address", "email", "email"),),
            "fixed": (Field("address", "credentials.address", "shown", "off", changed_later, required=False),),
            "hidden": (),
        }[society.credentials.address]
        return (
            Field("login_id", "credentials.login-id", "text", "username", tuple(id_rules)),
            Field("password", "credentials.password", "password", "new-password", tuple(rules)),
            Field("password_again", "credentials.password-again", "password", "new-password"),
            *address,
            Field("nickname", "credentials.nickname", "text", "nickname", required=False),
        )

    async def values(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState
    ) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        known = await _known(ctx, tx, society, state)
        filled = {"login_id": "", "address": state.address, "nickname": ""}
        if known is not None:
            by_name = society.credentials.nickname_from == "name"
            filled["login_id"] = known.printed_id if society.login_id.keep_printed else ""
            filled["nickname"] = known.person.name[: choices.MAX_NICKNAME] if by_name else known.nickname
        return filled, {}

    async def check(
        self, ctx: Context, society: Society, state: JourneyState, form: Mapping[str, str], now: int
    ) -> Passed | Refused:
        async with ctx.store.read() as tx:
            known = await _known(ctx, tx, society, state)
            typed_id = secrets_room.login_id_text(choices.text_of(form, "login_id"))
            is_taken = await choices.is_taken(ctx, tx, society, typed_id, state.member_id)
        if known is None:
            return Passed()  # the letter died meanwhile; `leave` says how the journey ends
        id_label = society.label("credentials.login-id")
        found = choices.login_id(society, typed_id, "login_id", id_label, known.printed_id or None)
        if is_taken and not found:
            if not await choices.count_taken(ctx, society, state.member_id, now):
                return Refused.whole(words.ENOUGH_TODAY, 429)
            found.append(choices.taken("login_id", id_label))
        typed_address = choices.text_of(form, "address")
        address: Address | Complaint = stored(state.address)
        if society.credentials.address == "editable" and typed_address.strip() != state.address:
            # else it was accepted when the mail came, whatever its dots
            address = choices.address(ctx, typed_address, "address", society.label("credentials.address"))
        facts = choices.known_facts(
            society,
            known.person,
            (typed_id, known.printed_id),
            (state.address, *((address.text,) if isinstance(address, Address) else ())),
            known.printed_password,
        )
        password = choices.text_of(form, "password")
        found += choices.password(
            society,
            password,
            choices.text_of(form, "password_again"),
            ("password", "password_again"),
            society.label("credentials.password"),
            facts,
        )
        if isinstance(address, Complaint):
            found.append(address)
        nickname = choices.nickname(choices.text_of(form, "nickname"))
        found += choices.nickname_complaints(nickname, "nickname", society.label("credentials.nickname"), False)
        if found or isinstance(address, Complaint):
            return Refused(tuple(found))
        password_hash = await ctx.passwords.hash(password)
        return Passed(
            {"chosen": Chosen(typed_id, people.login_key(typed_id), "chosen", password_hash, address, nickname)}
        )

    async def leave(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, passed: Passed, now: int
    ) -> JourneyEnd | None:
        chosen = passed.values.get("chosen")
        if chosen is None:
            m = member.c
            stands = await tx.scalar(select(m.state).where(m.society == society.id, m.id == state.member_id))
            return JourneyEnd(End.DONE, already=True) if stands == "registered" else JourneyEnd(End.EXPIRED)
        return await register(ctx, tx, society, state, chosen, now)

    async def conflict(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, passed: Passed
    ) -> Refused | None:
        """Two members chose one ID in the same moment."""
        if await choices.is_taken(ctx, tx, society, passed.values["chosen"].login_id, state.member_id):
            return Refused((choices.taken("login_id", society.label("credentials.login-id")),))
        return None


async def _known(ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState) -> _Known | None:
    """What the roster and the letter say; None when the letter the journey was proved with, or the member, is gone."""
    m, t = member.c, temporary.c
    row = (
        await tx.execute(
            select(m.sealed, m.sealed_nickname).where(m.society == society.id, m.id == state.member_id)
        )
    ).first()
    if row is None:
        return None
    known = _Known(
        people.open_person(ctx.ring, row.sealed, society.id, state.member_id),
        people.open_text(ctx.ring, row.sealed_nickname, society.id, "member", "sealed_nickname", state.member_id),
    )
    if LETTER_ID not in state.answers:
        return known
    columns = (t.id, t.sealed_login_id, t.sealed_password, t.kid, t.generation, t.format)
    statement = select(*columns).where(
        t.society == society.id,
        t.id == state.answers[LETTER_ID],
        t.member_id == state.member_id,
        t.state == "live",
    )
    letter = (await tx.execute(statement)).first()
    if letter is None:
        return None
    try:
        printed, _ = printed_password(ctx, society, letter)
    except KeyRefused:
        return None
    printed_id = people.open_text(
        ctx.ring, letter.sealed_login_id, society.id, "temporary", "sealed_login_id", letter.id
    )
    return _Known(known.person, known.nickname, printed_id, printed)


CREDENTIALS = Credentials()
