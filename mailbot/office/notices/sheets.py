"""Live letters -> sheets of paper: who stands on which, in what order, addressed to whom."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Society
from mailbot.credentials import KeyRefused
from mailbot.registration import people
from mailbot.registration.context import Context
from mailbot.registration.people import Person
from mailbot.registration.steps.temporary_login import printed_password
from mailbot.store.tables import member, notice_batch, notice_letter, temporary

CHUNK = 1000
INSURED = frozenset(("本人", "被保険者", "被保険者本人"))
"""What rosters call the insured person, who stands first."""
CARD_PERSONS = 2
"""Persons on one postcard; a larger household gets several."""

_LETTER = tuple(
    temporary.c[name]
    for name in (
        "id",
        "member_id",
        "sealed_login_id",
        "sealed_password",
        "kid",
        "generation",
        "format",
        "expires_at",
    )
)

Per = Literal["household", "person"]
Paper = Literal["a4", "postcard"]


@dataclass(frozen=True, slots=True)
class Letter:
    """Somebody's live credentials with all that is printed about the person."""

    member_id: int
    temporary_id: int
    generation: int
    household: bytes
    protected: bool
    person: Person
    nickname: str
    login_id: str
    password: str = field(repr=False)
    expires_at: int | None

    @property
    def insured(self) -> bool:
        return self.person.relation in INSURED


@dataclass(frozen=True, slots=True)
class Sheet:
    """One sheet: to whom it goes, and whose credentials stand on it; which of how many for the same people."""

    recipient: Person
    letters: tuple[Letter, ...]
    part: int = 1
    parts: int = 1

    @property
    def ends_at(self) -> int | None:
        """When the first of its passwords ends."""
        return min((one.expires_at for one in self.letters if one.expires_at is not None), default=None)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whose letters: everybody's not yet printed, everybody's, or those of some members (with their households)."""

    everybody: bool = False
    members: frozenset[int] = frozenset()
    households: bool = False


def rank(person: Person, member_id: int) -> tuple[bool, str, int]:
    """Order inside a household: the insured person, then by age, the oldest first."""
    return person.relation not in INSURED, person.birth_date or "9999", member_id


# --- reading --------------------------------------------------------------------------------------------------------


async def live_letters(ctx: Context, society: Society, chosen: Chosen, now: int) -> list[Letter]:
    """Letters that still open a registration: invited, not left, not run out, made with a key that still counts."""
    m, t = member.c, temporary.c
    who: list[ColumnElement[bool]] = [m.society == society.id]
    letters: list[ColumnElement[bool]] = [t.society == society.id, t.state == "live"]
    if chosen.members:
        who.append(await _members(ctx, society, chosen))
    elif not chosen.everybody:
        letters.append(~_printed(society))
    found: list[Letter] = []
    after = 0
    while True:
        # two statements: joined, SQLite looks for each member at the letters of all later ones
        columns = (m.id, m.household, m.sealed, m.sealed_nickname, m.protected, m.left_on, m.state)
        some = select(*columns).where(*who, m.id > after).order_by(m.id).limit(CHUNK)
        async with ctx.store.scan() as tx:
            members = {row.id: row for row in await tx.execute(some)}
            rows = (await tx.execute(select(*_LETTER).where(*letters, t.member_id.in_(list(members))))).all()
        found += [one for row in rows if (one := _letter(ctx, society, members[row.member_id], row, now)) is not None]
        if len(members) < CHUNK:
            return found
        after = max(members)


def _printed(society: Society) -> ColumnElement[bool]:
    n, b = notice_letter.c, notice_batch.c
    whole = and_(b.society == n.society, b.id == n.batch_id, b.state == "printed")
    mine = select(n.sheet).join(notice_batch, whole)
    return mine.where(n.society == society.id, n.temporary_id == temporary.c.id).exists()


async def _members(ctx: Context, society: Society, chosen: Chosen) -> ColumnElement[bool]:
    m, members = member.c, list(chosen.members)
    if not chosen.households:
        return m.id.in_(members)
    async with ctx.store.read() as tx:
        rows = await tx.scalars(select(m.household).where(m.society == society.id, m.id.in_(members)).distinct())
        return m.household.in_([key for key in rows if key is not None]) | m.id.in_(members)


def _letter(ctx: Context, society: Society, who: Any, row: Any, now: int) -> Letter | None:
    if who.state != "invited" or people.has_left(society, who.left_on, now):
        return None
    if row.expires_at is not None and row.expires_at <= now:
        return None
    try:
        password, _ = printed_password(ctx, society, row)
    except KeyRefused:  # made with a key that became known: nobody can use it
        return None
    ring = ctx.ring
    return Letter(
        who.id,
        row.id,
        row.generation,
        bytes(who.household or b""),
        who.protected,
        people.open_person(ring, who.sealed, society.id, who.id),
        people.open_text(ring, who.sealed_nickname, society.id, "member", "sealed_nickname", who.id),
        people.open_text(ring, row.sealed_login_id, society.id, "temporary", "sealed_login_id", row.id),
        password,
        row.expires_at,
    )


# --- grouping -------------------------------------------------------------------------------------------------------


async def arranged(
    ctx: Context, society: Society, letters: Iterable[Letter], per: Per, paper: Paper, now: int
) -> list[Sheet]:
    """Sheets by postal code and household. A protected person stands alone, and under the own address only."""
    groups: list[list[Letter]] = []
    ordered = sorted(letters, key=lambda one: (one.household, *rank(one.person, one.member_id)))
    for household, together in groupby(ordered, key=lambda one: one.household):
        shared: list[Letter] = []
        for one in together:
            if one.protected or per == "person" or not household:
                groups.append([one])
            else:
                shared.append(one)
        groups += [shared] if shared else []
    heads = await _heads(ctx, society, [group for group in groups if len(group) > 1 or per == "household"], now)
    sheets: list[Sheet] = []
    for group in groups:
        recipient, parts = _recipient(group, heads.get(group[0].household)), list(_parts(group, paper))
        sheets += [Sheet(recipient, part, number, len(parts)) for number, part in enumerate(parts, 1)]
    first = {id(sheet): sheet.letters[0] for sheet in sheets}
    return sorted(
        sheets,
        key=lambda sheet: (
            sheet.recipient.postal_code,
            first[id(sheet)].household,
            first[id(sheet)].protected,
            rank(first[id(sheet)].person, first[id(sheet)].member_id),
        ),
    )


def _parts(group: Sequence[Letter], paper: Paper) -> Iterator[tuple[Letter, ...]]:
    """A4 takes any number of people on several pages; of postcards a large household gets several."""
    size = len(group) if paper == "a4" else CARD_PERSONS
    for start in range(0, len(group), size):
        yield tuple(group[start : start + size])


def _recipient(group: Sequence[Letter], head: Person | None) -> Person:
    """The household's insured person, who may be registered already; else the first on the sheet."""
    first = group[0]
    chosen = first.person if head is None or first.protected or first.insured else head
    if chosen.postal_address:
        return chosen
    known = next((one.person for one in group if one.person.postal_address), chosen)
    return replace(chosen, postal_code=known.postal_code, postal_address=known.postal_address)


async def _heads(
    ctx: Context, society: Society, groups: Sequence[Sequence[Letter]], now: int
) -> dict[bytes, Person]:
    """Insured persons of households whose sheet has none. Who is protected or gone is nobody's address."""
    keys = [
        group[0].household
        for group in groups
        if group[0].household and not group[0].protected and not group[0].insured
    ]
    found: dict[bytes, Person] = {}
    for start in range(0, len(keys), CHUNK):
        async with ctx.store.scan() as tx:
            for row in await _household_rows(tx, society, keys[start : start + CHUNK]):
                person = people.open_person(ctx.ring, row.sealed, society.id, row.id)
                if person.relation in INSURED and person.postal_address and not people.has_left(
                    society, row.left_on, now
                ):
                    found.setdefault(bytes(row.household), person)
    return found


async def _household_rows(tx: AsyncConnection, society: Society, keys: Collection[bytes]) -> Sequence[Any]:
    m = member.c
    columns = (m.id, m.household, m.sealed, m.left_on)
    where = (m.society == society.id, m.household.in_(list(keys)), ~m.protected)
    return (await tx.execute(select(*columns).where(*where).order_by(m.id))).all()
