"""Requests for help as staff read them, with whom the roster knows at the sender's address."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit
from mailbot.config import Society
from mailbot.mail.bodytext import MAX_FIELD, harmless
from mailbot.registration import people
from mailbot.registration.context import Context
from mailbot.store.tables import address, help_request, member

OPEN, DONE = "open", "done"
SHOWN = 500
"""Requests listed at once."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose address a request came from: the members who have it on file, and those who proved it."""

    on_file: frozenset[int]
    proved: frozenset[int]

    @property
    def member_id(self) -> int | None:
        """The one member it can be; None when there is none or more than one."""
        known = self.on_file | self.proved
        return next(iter(known)) if len(known) == 1 else None

    @property
    def words(self) -> str:
        """For staff: on file, proved, shared or unknown."""
        known = len(self.on_file | self.proved)
        if known == 0:
            return "unknown"
        if known > 1:
            return f"shared by {known} members"
        ways = [name for name, ids in (("on file", self.on_file), ("proved by the member", self.proved)) if ids]
        return " and ".join(ways)


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `doubt`: why the sender is not sure to have written it (a reason of docs/refusals.md), or empty."""

    id: int
    received_at: int
    address: str
    sender: Sender
    name: str
    """Of `sender.member_id`."""
    member_state: str | None
    sender_field: str
    subject: str
    text: str
    doubt: str
    state: str
    acknowledged: bool
    done_at: int | None
    done_by: str | None


async def requests(
    ctx: Context, tx: AsyncConnection, society: Society, *, done: bool = False, limit: int = SHOWN
) -> list[Request]:
    """The open requests, the one that waits longest first; `done`: all of them, newest first."""
    c = help_request.c
    statement = select(help_request).where(c.society == society.id).limit(limit)
    if done:
        statement = statement.order_by(c.received_at.desc(), c.id)
    else:
        statement = statement.where(c.state == OPEN).order_by(c.received_at, c.id)
    return await _read(ctx, tx, society, (await tx.execute(statement)).all())


async def show(
    ctx: Context, tx: AsyncConnection, society: Society, request_id: int, actor: str, now: int
) -> Request | None:
    """One request, None when there is none with this id. It tells of a person, so that reading it is recorded."""
    c = help_request.c
    statement = select(help_request).where(c.society == society.id, c.id == request_id)
    found = await _read(ctx, tx, society, (await tx.execute(statement)).all())
    if not found:
        return None
    await audit.record(tx, actor, "help-shown", society.id, found[0].sender.member_id, {"request": request_id}, now)
    return found[0]


async def close(tx: AsyncConnection, society: Society, request_id: int, actor: str, now: int) -> bool:
    """Marks a request as dealt with. False when there is no open one with this id."""
    c = help_request.c
    mine = (c.society == society.id, c.id == request_id, c.state == OPEN)
    closed = await tx.execute(update(help_request).where(*mine).values(state=DONE, done_at=now, done_by=actor))
    if not closed.rowcount:
        return False
    await audit.record(tx, actor, "help-done", society.id, None, {"request": request_id}, now)
    return True


async def waiting(tx: AsyncConnection) -> Sequence[Any]:
    """Open requests of every society that has some: (society, requests, oldest in ms)."""
    c = help_request.c
    columns = (c.society, func.count().label("requests"), func.min(c.received_at).label("oldest"))
    return (await tx.execute(select(*columns).where(c.state == OPEN).group_by(c.society).order_by(c.society))).all()


async def _read(ctx: Context, tx: AsyncConnection, society: Society, rows: Sequence[Any]) -> list[Request]:
    senders = await _senders(ctx, tx, society, {row.address_key for row in rows})
    ids = {one.member_id for one in senders.values() if one.member_id is not None}
    m = member.c
    known = {}
    if ids:
        statement = select(m.id, m.sealed, m.state).where(m.society == society.id, m.id.in_(ids))
        known = {row.id: row for row in await tx.execute(statement)}
    found = []
    for row in rows:
        sender = senders[row.address_key]
        said = json.loads(people.open_text(ctx.ring, row.sealed, society.id, help_request.name, "sealed", row.id))
        who = known.get(sender.member_id or 0)
        found.append(
            Request(
                row.id,
                row.received_at,
                row.address,
                sender,
                people.open_person(ctx.ring, who.sealed, society.id, who.id).name if who else "",
                who.state if who else None,
                harmless(said["from"], MAX_FIELD),
                harmless(said["subject"], MAX_FIELD),
                harmless(said["text"]),
                said["doubt"],
                row.state,
                row.outbox_id is not None,
                row.done_at,
                row.done_by,
            )
        )
    return found


async def _senders(ctx: Context, tx: AsyncConnection, society: Society, keys: set[str]) -> dict[str, Sender]:
    if not keys:
        return {}
    m, a = member.c, address.c
    indexes = {people.file_address_index(ctx.ring, society.id, key): key for key in keys}
    on_file: dict[str, set[int]] = {key: set() for key in keys}
    proved: dict[str, set[int]] = {key: set() for key in keys}
    statement = select(m.file_address_index, m.id).where(m.society == society.id, m.file_address_index.in_(indexes))
    for index, member_id in await tx.execute(statement):
        on_file[indexes[bytes(index)]].add(member_id)
    statement = select(a.address_key, a.member_id).where(a.society == society.id, a.address_key.in_(keys))
    for key, member_id in await tx.execute(statement):
        proved[key].add(member_id)
    return {key: Sender(frozenset(on_file[key]), frozenset(proved[key])) for key in keys}
