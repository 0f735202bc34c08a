"""A member as staff see one: what the roster says, and how far the registration is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Society
from mailbot.mail.address import AddressError, parse_typed
from mailbot.store.tables import address as address_table
from mailbot.store.tables import member, temporary

from . import formula, people
from .context import Context
from .people import Person

MAX_FOUND = 100
# whatever a Japanese keyboard makes of the key with the hyphen
_DASH = re.compile(r"[-\u2010-\u2015\u2212\u30fc]")


@dataclass(frozen=True, slots=True)
class Letter:
    """Credentials on paper, without the password."""

    id: int
    login_id: str
    state: str
    failures: int
    paused_until: int | None
    expires_at: int | None
    created_at: int


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """Everything about a member but secrets."""

    society: str
    id: int
    state: str
    person: Person
    nickname: str
    login_id: str | None
    protected: bool
    left_on: str | None
    registered_at: int | None
    last_login_at: int | None
    password_expires_at: int | None
    addresses: tuple[tuple[int, str], ...]
    """(slot, address) proved by the member."""
    letters: tuple[Letter, ...]
    """Newest first."""
    unreachable: frozenset[int] = frozenset()
    """Slots of addresses that mail does not reach."""


async def view(ctx: Context, tx: AsyncConnection, society: Society, member_id: int) -> MemberRecord | None:
    """The member, None when there is none with this id."""
    found = await _records(ctx, tx, society, member.c.id == member_id)
    return found[0] if found else None


async def find(ctx: Context, tx: AsyncConnection, society: Society, text: str) -> list[MemberRecord]:
    """Members whose name, kana, symbol-number, login ID, printed ID or a mail address is exactly `text` (width, blanks
    and case aside); up to 100."""
    ring, text = ctx.ring, text.strip()
    symbol, number, *_ = [*_DASH.split(unicodedata.normalize("NFKC", text), maxsplit=1), ""]
    by_address = select(address_table.c.member_id).where(
        address_table.c.society == society.id, address_table.c.address_key.in_(_address_keys(text))
    )
    by_letter = select(temporary.c.member_id).where(
        temporary.c.society == society.id, temporary.c.login_key == people.temporary_key(ring, society.id, text)
    )
    ways: list[ColumnElement[bool]] = [
        member.c.name_index == people.name_index(ring, society.id, text),
        member.c.kana_index == people.kana_index(ring, society.id, text),
        member.c.number_index == people.number_index(ring, society.id, symbol, number),
        member.c.login_key == formula.login_key(ring, society, text),
        member.c.file_address_index.in_(
            [people.file_address_index(ring, society.id, key) for key in _address_keys(text)]
        ),
        member.c.id.in_(by_address),
        member.c.id.in_(by_letter),
    ]
    ids: set[int] = set()
    for way in ways:  # one indexed look-up each: an OR over all of them would read the whole table
        statement = select(member.c.id).where(member.c.society == society.id, way).limit(MAX_FOUND)
        ids |= set(await tx.scalars(statement))
    return await _records(ctx, tx, society, member.c.id.in_(sorted(ids)[:MAX_FOUND]))


def _address_keys(text: str) -> list[str]:
    try:
        return [parse_typed(text).key]
    except AddressError:
        return []


async def _records(
    ctx: Context, tx: AsyncConnection, society: Society, which: ColumnElement[bool]
) -> list[MemberRecord]:
    rows = (
        await tx.execute(
            select(member).where(member.c.society == society.id, which).order_by(member.c.created_at, member.c.id)
        )
    ).all()
    ids = [row.id for row in rows]
    addresses: dict[int, list[tuple[int, str]]] = {}
    dead: dict[int, set[int]] = {}
    letters: dict[int, list[Letter]] = {}
    a, t = address_table.c, temporary.c
    columns = (a.member_id, a.slot, a.address, a.unreachable_at)
    statement = select(*columns).where(a.society == society.id, a.member_id.in_(ids))
    for member_id, slot, text, unreachable_at in await tx.execute(statement.order_by(a.slot)):
        addresses.setdefault(member_id, []).append((slot, text))
        if unreachable_at is not None:
            dead.setdefault(member_id, set()).add(slot)
    newest = select(temporary).where(t.society == society.id, t.member_id.in_(ids)).order_by(t.created_at.desc(), t.id)
    for row in await tx.execute(newest):
        letters.setdefault(row.member_id, []).append(_letter(ctx, society, row))
    return [
        replace(
            _record(ctx, society, row, addresses.get(row.id, []), letters.get(row.id, [])),
            unreachable=frozenset(dead.get(row.id, ())),
        )
        for row in rows
    ]


def _letter(ctx: Context, society: Society, row: Any) -> Letter:
    login_id = people.open_text(ctx.ring, row.sealed_login_id, society.id, "temporary", "sealed_login_id", row.id)
    return Letter(row.id, login_id, row.state, row.failures, row.paused_until, row.expires_at, row.created_at)


def _record(
    ctx: Context, society: Society, row: Any, addresses: Sequence[tuple[int, str]], letters: Sequence[Letter]
) -> MemberRecord:
    return MemberRecord(
        society.id,
        row.id,
        row.state,
        people.open_person(ctx.ring, row.sealed, society.id, row.id),
        people.open_text(ctx.ring, row.sealed_nickname, society.id, "member", "sealed_nickname", row.id),
        formula.shown_id(ctx.ring, society, row.id, row.login_kind, row.login_id, row.sealed) or None,
        row.protected,
        row.left_on,
        row.registered_at,
        row.last_login_at,
        people.password_end(society, row.password_set_at),
        tuple(addresses),
        tuple(letters),
    )
