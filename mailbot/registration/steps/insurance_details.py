"""ご本人の確認: symbol, number, birth date and what else the society's file asks, all of which must fit one member.

Whether nobody fits, or two do, or somebody who is registered already: the answer is one sentence, and costs the same
work. Guesses are counted for the network, the society, and the symbol and number typed, whether anybody has them or
not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import ratelimit
from mailbot.config import Journey, Society, Start
from mailbot.mail.address import Address, AddressError, stored
from mailbot.ratelimit import Hit, Ledger
from mailbot.store import new_id
from mailbot.store.tables import member

from .. import choices, dates, limits, people, words
from ..context import Context
from ..outcomes import Complaint, Field, FieldKind, Refused
from ..people import Person
from .base import ProofStep, Proved

MAX_KANA = 80
_KANA = re.compile(r"[ァ-ヺa-z]+")
_NOBODY = Person(kana="ヤマダハナコ", birth_date="1970-01-01")

_KINDS: dict[str, tuple[FieldKind, str]] = {
    "address": ("email", "email"),
    "symbol": ("text", "off"),
    "number": ("digits", "off"),
    "kana": ("text", "off"),
    "birth-date": ("date", "bday"),
}


class InsuranceDetails(ProofStep):
    """Finds the one member whom everything typed fits."""

    name = "insurance-details"

    def problems(self, society: Society, journey: Journey) -> list[str]:
        asked = journey.details.fields
        found = [
            f"details.fields: {needed} is needed to find a member"
            for needed in ("number", "birth-date")
            if needed not in asked
        ]
        if len(set(asked)) < len(asked):
            found.append("details.fields: a field stands twice")
        by_page = Start.PAGE in journey.starts
        if by_page and "address" in asked:
            found.append("details.fields: a start by page has no invited address to compare with")
        if by_page and not journey.requires_address_on_file and "settings" not in journey.steps:
            found.append("steps: a start by page knows no address: the step 'settings' must ask for it")
        return found

    def fields(self, society: Society, journey: Journey) -> tuple[Field, ...]:
        asked = journey.details
        return tuple(
            Field(_form_name(one), f"details.{one}", *_KINDS[one], _hint(asked.hints.get(one)))
            for one in asked.fields
        )

    async def prove(
        self,
        ctx: Context,
        tx: AsyncConnection,
        society: Society,
        journey: Journey,
        invited: str,
        form: Mapping[str, str],
        network: str,
        now: int,
    ) -> Proved | Refused:
        typed = _read(ctx, society, journey, invited, form, now)
        if isinstance(typed, Refused):
            return typed
        strict = journey.requires_address_on_file
        index = people.number_index(ctx.ring, society.id, typed.symbol, typed.number)
        hits = limits.insurance_details(ctx.settings.site, society, network, index.hex(), Start.PAGE in journey.starts)
        ledger = await Ledger.lock(tx, [hit.key for hit in hits], now)
        if (over := ledger.allow(hits)) is not None:
            return Refused.whole(words.too_often(ledger.again_at(over), now), 429)
        await ledger.save(tx)
        row = await _only_one(ctx, tx, society, index, typed, "kana" in journey.details.fields, now)
        if row is None:
            return Refused.whole(wrong_details(society, journey))
        address = ""
        if strict:
            try:
                address = stored(people.open_person(ctx.ring, row.sealed, society.id, row.id).address).text
            except AddressError:
                return Refused.whole(wrong_details(society, journey))
        # behind one address of a carrier or an employer many members are right in the same hour
        await ratelimit.forgive(tx, _guesses(hits))
        return Proved(row.id, address, {})


def wrong_details(society: Society, journey: Journey) -> str:
    """Whatever keeps the details from fitting: unknown, mistyped, of two people, registered already, left."""
    labels = [society.label(f"details.{one}") for one in journey.details.fields if one != "address"]
    return (
        f"入力された内容では、ご本人を確認できませんでした。{'、'.join(labels)}を、健康保険の書面やカードと見比べて、"
        "もう一度入力してください。何度も違ったときは、次の日まで受け付けられません。"
        "まちがいがないときは、このページの下の「お困りのときは」へご連絡ください。"
        "利用登録がお済みの方は、ログイン画面からお入りください。"
    )


def _guesses(hits: list[Hit]) -> list[Hit]:
    return [hit for hit in hits if hit.scope != "web"]


def _form_name(field: str) -> str:
    return field.replace("-", "_")


def _hint(text: str | None) -> tuple[str, ...]:
    return (text,) if text else ()


def _read(
    ctx: Context, society: Society, journey: Journey, invited: str, form: Mapping[str, str], now: int
) -> Person | Refused:
    """What was typed, read forgivingly, as facts of a person; what cannot be anybody's is no guess."""
    facts: dict[str, str] = {}
    found: list[Complaint] = []
    for one in journey.details.fields:
        name, label = _form_name(one), society.label(f"details.{one}")
        typed = choices.text_of(form, name)
        if one == "birth-date":
            born = _birth_date(label, form, name, now)
            if isinstance(born, Complaint):
                found.append(born)
            else:
                facts[name] = born.isoformat()
        elif not typed.strip():
            found.append(Complaint(name, f"{label}を入力してください。"))
        elif one == "address":
            found += _other_address(ctx, typed, invited, name, label)
        elif one == "kana":
            if len(typed) > MAX_KANA or not _KANA.fullmatch(people.folded_kana(typed)):
                found.append(Complaint(name, f"{label}は、{MAX_KANA}文字以内のカタカナで入力してください。"))
            facts[name] = typed
        else:
            most = journey.details.symbol_max if one == "symbol" else journey.details.number_max
            facts[name] = people.folded_number(typed)
            if not facts[name].isalnum():
                found.append(Complaint(name, f"{label}は、数字または文字で入力してください。"))
            elif len(facts[name]) > most:
                found.append(Complaint(name, f"{label}は、{most}けた以内で入力してください。"))
    return Refused(tuple(found)) if found else Person(**facts)


def _birth_date(label: str, form: Mapping[str, str], name: str, now: int) -> date | Complaint:
    """The three fields as one: what is wrong is said once, beside the group."""
    parts = [choices.text_of(form, f"{name}_{part}") for part in ("year", "month", "day")]
    if not any(part.strip() for part in parts):
        return Complaint(name, f"{label}を入力してください。")
    born = dates.read_birth_date(parts[0], parts[1], parts[2], date.fromisoformat(people.today(now)))
    if isinstance(born, date):
        return born
    return Complaint(name, born.complaints(label)[0].text)


def _other_address(ctx: Context, typed: str, invited: str, name: str, label: str) -> list[Complaint]:
    """OM-2: the invited address has to be typed as it was at the entry."""
    address = choices.address(ctx, typed, name, label)
    if isinstance(address, Complaint):
        # an address with dots in odd places was accepted when the mail came
        return [] if typed.strip() == invited else [address]
    if isinstance(address, Address) and address.key == stored(invited).key:
        return []
    return [Complaint(name, f"ご案内のメールが届いた{label}を入力してください。いまの入力は、それと違います。")]


async def _only_one(
    ctx: Context, tx: AsyncConnection, society: Society, index: bytes, typed: Person, by_kana: bool, now: int
) -> Any:
    """The row of the only member whom the facts fit, if still to register; None else. A registered twin counts: nobody
    may register in the name of the other."""
    c = member.c
    statement = select(c.id, c.state, c.sealed, c.left_on).where(c.society == society.id, c.number_index == index)
    rows = list(await tx.execute(statement))
    people_here = [(row, people.open_person(ctx.ring, row.sealed, society.id, row.id)) for row in rows]
    if not people_here:  # nobody costs what somebody costs
        nobody = new_id()
        people.open_person(
            ctx.ring, people.seal_person(ctx.ring, _NOBODY, society.id, nobody, now), society.id, nobody
        )
    kana = people.folded_kana(typed.kana)
    fitting = [
        row
        for row, person in people_here
        if person.birth_date == typed.birth_date
        and (not by_kana or people.folded_kana(person.kana) == kana)
        and not people.has_left(society, row.left_on, now)
    ]
    return fitting[0] if len(fitting) == 1 and fitting[0].state == "invited" else None


INSURANCE_DETAILS = InsuranceDetails()
