"""Checks of what members choose (login ID, password, nickname, address) for registration, profile and reissue alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import credentials, ratelimit
from mailbot.config import Society
from mailbot.credentials import Code, Format, Problem
from mailbot.credentials import Context as KnownFacts
from mailbot.mail.address import Address, AddressError, parse_typed
from mailbot.ratelimit import Hit, Limits
from mailbot.store.tables import member, temporary

from . import formula, people, words
from .context import Context
from .outcomes import Complaint, Refused
from .people import Person

MAX_NICKNAME = 40
TAKEN_A_DAY = 10


def reserved(society: Society) -> tuple[Format, ...]:
    """Formats of printed IDs, which a chosen one must not look like."""
    return (Format.parse(society.temporary.login_id),)


def login_id(society: Society, typed: str, field: str, label: str, printed: str | None = None) -> list[Complaint]:
    """What is wrong with a chosen login ID, apart from somebody having it."""
    found = credentials.login_id_problems(society.login_id, typed, reserved(society), printed)
    complaints = [Complaint(field, credentials.sentence(problem, label)) for problem in found]
    if _of_others(society, typed):
        text = f"この形の{label}は、ほかの方のために空けてあります。別のものにしてください。"
        complaints.append(Complaint(field, text))
    return complaints


def _of_others(society: Society, typed: str) -> bool:
    """Whether it is what the formula, or a mail address, makes somebody else's login ID."""
    if society.formula is not None and formula.read(society.formula, typed) is not None:
        return True
    by_address = any(journey.login_id == "address" for journey in society.journeys.values())
    return by_address and people.looks_like_address(typed)


def taken(field: str, label: str) -> Complaint:
    """Somebody else has the login ID (SC-7)."""
    return Complaint(field, credentials.sentence(Problem(Code.TAKEN), label))


async def is_taken(ctx: Context, tx: AsyncConnection, society: Society, typed: str, member_id: int) -> bool:
    """Whether another member has this login ID, or holds a live letter with it."""
    by_letter = (
        select(temporary.c.member_id)
        .where(
            temporary.c.society == society.id,
            temporary.c.login_key == people.temporary_key(ctx.ring, society.id, typed),
            temporary.c.state == "live",
        )
        .scalar_subquery()
    )
    statement = select(member.c.id).where(
        member.c.society == society.id,
        member.c.id != member_id,
        or_(member.c.login_key == formula.login_key(ctx.ring, society, typed), member.c.id == by_letter),
    )
    return (await tx.execute(statement.limit(1))).first() is not None


async def may_hear_taken(tx: AsyncConnection, society: Society, member_id: int, now: int) -> bool:
    """Counts that a member hears an ID is taken; a few times a day, so that nobody lists the IDs there are."""
    hit = Hit(society.id, "taken", str(member_id), Limits(day=TAKEN_A_DAY))
    return (await ratelimit.hit(tx, [hit], now))[0]


async def count_taken(ctx: Context, society: Society, member_id: int, now: int) -> bool:
    """`may_hear_taken` in a transaction of its own."""
    async with ctx.store.begin() as tx:
        return await may_hear_taken(tx, society, member_id, now)


def password(
    society: Society, typed: str, again: str, fields: tuple[str, str], label: str, known: KnownFacts
) -> list[Complaint]:
    """What is wrong with a new password and its repetition; `fields` are their names."""
    found = [
        Complaint(fields[0], credentials.sentence(problem, label))
        for problem in credentials.problems(society.password, typed, known)
    ]
    if not found and credentials.normalised(typed) != credentials.normalised(again):
        found.append(Complaint(fields[1], words.NOT_THE_SAME))
    return found


def known_facts(
    society: Society, person: Person, login_ids: tuple[str, ...], addresses: tuple[str, ...], previous: str | None
) -> KnownFacts:
    """What somebody who knows the member would try first."""
    numbers = (person.symbol, person.number, person.symbol + person.number)
    return KnownFacts(
        login_ids=tuple(filter(None, login_ids)),
        numbers=tuple(filter(None, numbers)),
        birth_date=person.born,
        addresses=tuple(filter(None, addresses)),
        societies=(society.name, society.service, society.id),
        previous=previous,
    )


def left_empty(society: Society, form: Mapping[str, str], labels: Mapping[str, str]) -> Refused | None:
    """What was left empty among credentials (field -> key of its label). No guess: neither looked up nor counted."""
    empty = [name for name in labels if not text_of(form, name).strip()]
    found = tuple(Complaint(name, f"{society.label(labels[name])}を入力してください。") for name in empty)
    return Refused(found) if found else None


def nickname(typed: str) -> str:
    """A nickname on one line: blanks and what cannot be seen become one blank."""
    visible = "".join(letter if letter.isprintable() else " " for letter in typed[:1024])
    return " ".join(visible.split())


def nickname_complaints(text: str, field: str, label: str, required: bool) -> list[Complaint]:
    if required and not text:
        return [Complaint(field, f"{label}を入力してください。")]
    if len(text) > MAX_NICKNAME:
        return [Complaint(field, f"{label}は、{MAX_NICKNAME}文字以内で入力してください。いま{len(text)}文字です。")]
    return []


def address(ctx: Context, typed: str, field: str, label: str) -> Address | Complaint:
    """The address a person typed, forgivingly read."""
    try:
        return parse_typed(typed, frozenset(ctx.settings.site.smtp.legacy_domains))
    except AddressError as error:
        return Complaint(field, words.bad_address(error.problem, label))


def text_of(form: Mapping[str, Any], field: str) -> str:
    """A form's field, empty when it is missing or a file."""
    value = form.get(field, "")
    return value if isinstance(value, str) else ""
