"""What the last import changed, and taking it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, case, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit
from mailbot.config import Society
from mailbot.credentials import encode_id
from mailbot.registration import people
from mailbot.registration.context import Context
from mailbot.registration.people import Person
from mailbot.store.tables import member, roster_batch, roster_change, temporary

from . import live
from .compare import before_place, changed_columns, indexes
from .live import Turn
from .rows import Progress, silent

MOST = 4000
"""Members whose facts are opened at once."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a batch did to one member. `columns`: labels of what changed."""

    member_id: int
    kind: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LastBatch:
    """The batch that `undo` would take back."""

    id: int
    at: int
    actor: str
    joined: int
    changed: int
    left: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Undone:
    """What was taken back. `kept`: members who joined with the batch and have registered since."""

    batch: int
    removed: int
    restored: int
    returned: int
    kept: int


async def last_changes(ctx: Context, society: Society, limit: int) -> LastBatch | None:
    """The last live batch with its first `limit` changes; None when there is none."""
    async with ctx.store.read() as tx:
        batch = await _last(tx, society.id)
        if batch is None:
            return None
        rows = await _page(tx, society.id, batch.id, 0, limit)
    changes = tuple(_change(ctx, society.id, batch.id, row) for row in rows)
    return LastBatch(batch.id, batch.at, batch.actor, batch.joined, batch.changed, batch.left, changes)


def _change(ctx: Context, society: str, batch_id: int, row: Any) -> Change:
    if row.kind != "changed" or row.sealed is None:
        return Change(row.member_id, row.kind)
    after = people.open_person(ctx.ring, row.sealed, society, row.member_id)
    columns = changed_columns(_before(ctx, society, batch_id, row), after)
    return Change(row.member_id, row.kind, columns)


async def undo(
    ctx: Context,
    society: Society,
    *,
    actor: str,
    now: int,
    batch_id: int | None = None,
    progress: Progress = silent,
) -> Undone | str:
    """Takes the last live batch back; or the reason why not, in words. Raises Busy.

    Who joined with it and has not registered is removed, whoever changed or left is as before, letters too.
    """
    async with Turn(ctx, society.id, now) as turn:
        await live.finish(ctx, turn, society, progress)
        async with ctx.store.read() as tx:
            batch = await _last(tx, society.id)
            asked = await _state(tx, society.id, batch_id) if batch_id is not None else None
        if batch_id is not None and asked is None:
            return f"there is no import {encode_id(batch_id)}"
        if asked == "undone":
            return "this import has been undone already"
        if batch is None:
            return "there is no import to undo"
        if batch_id is not None and batch.id != batch_id:
            return f"a newer import, {encode_id(batch.id)}, builds upon this one: undo that one first"
        counts = dict.fromkeys(("removed", "restored", "returned", "kept"), 0)
        total, done, after = batch.joined + batch.changed + batch.left, 0, 0
        pace = live.Pace()
        while True:
            async with ctx.store.read() as tx:
                rows = await _page(tx, society.id, batch.id, after, min(pace.size, MOST))
            if not rows:
                break
            restored = [_restored(ctx, society.id, batch.id, row, now) for row in rows if row.kind == "changed"]
            async with pace.piece(ctx, turn) as tx:
                await _take_back(tx, society.id, batch, rows, restored, counts)
            after, done = rows[-1].member_id, done + len(rows)
            progress("取り消しています", done, total)
        async with ctx.store.begin() as tx:
            await turn.renew(tx)
            mine = (roster_batch.c.society == society.id, roster_batch.c.id == batch.id)
            await tx.execute(update(roster_batch).where(*mine).values(state="undone"))
            await audit.record(tx, actor, "roster-undone", society.id, None, {"batch": batch.id, **counts}, now)
    return Undone(batch.id, **counts)


async def _last(tx: AsyncConnection, society: str) -> Any:
    mine = (roster_batch.c.society == society, roster_batch.c.state == "live")
    return (await tx.execute(select(roster_batch).where(*mine).order_by(roster_batch.c.at.desc()).limit(1))).first()


async def _state(tx: AsyncConnection, society: str, batch_id: int) -> str | None:
    mine = (roster_batch.c.society == society, roster_batch.c.id == batch_id)
    return await tx.scalar(select(roster_batch.c.state).where(*mine))


async def _page(tx: AsyncConnection, society: str, batch_id: int, after: int, limit: int) -> Sequence[Any]:
    c = roster_change.c
    return (
        await tx.execute(
            select(roster_change, member.c.sealed, member.c.state)
            .outerjoin(member, (member.c.society == c.society) & (member.c.id == c.member_id))
            .where(c.society == society, c.batch_id == batch_id, c.member_id > after)
            .order_by(c.member_id)
            .limit(limit)
        )
    ).all()


def _before(ctx: Context, society: str, batch_id: int, row: Any) -> Person:
    return Person.load(ctx.ring.open(bytes(row.sealed_before), before_place(society, batch_id, row.member_id)))


def _restored(ctx: Context, society: str, batch_id: int, row: Any, now: int) -> dict[str, Any]:
    """Values of `member` as they were; keys of the row carry a mark so that they are no columns."""
    person = _before(ctx, society, batch_id, row)
    place = (society, "member", "sealed_nickname", row.member_id)
    return {
        "key": row.member_id,
        "sealed": people.seal_person(ctx.ring, person, society, row.member_id, now),
        "row_digest": row.digest_before,
        "left_on": row.left_on_before,
        "protected": row.protected_before,
        "nickname": people.seal_text(ctx.ring, person.nickname, *place, now) if person.nickname else None,
        **indexes(ctx, society, person),
    }


async def _take_back(
    tx: AsyncConnection,
    society: str,
    batch: Any,
    rows: Sequence[Any],
    restored: list[dict[str, Any]],
    counts: dict[str, int],
) -> None:
    m = member.c
    joined = [row.member_id for row in rows if row.kind == "joined"]
    removed = (
        await tx.execute(delete(member).where(m.society == society, m.id.in_(joined), m.state == "invited"))
    ).rowcount
    counts["removed"] += removed
    counts["kept"] += sum(row.kind == "joined" and row.state == "registered" for row in rows)
    if restored:
        columns: dict[str, Any] = {name: bindparam(name) for name in restored[0] if name not in ("key", "nickname")}
        nickname = case((m.state == "invited", bindparam("nickname")), else_=m.sealed_nickname)
        await tx.execute(
            update(member)
            .where(m.society == society, m.id == bindparam("key"))
            .values({**columns, "sealed_nickname": nickname}),
            restored,
        )
        counts["restored"] += len(restored)
    left = [{"key": row.member_id, "left_on": row.left_on_before} for row in rows if row.kind == "left"]
    if left:
        back = update(member).where(m.society == society, m.id == bindparam("key")).values(left_on=bindparam("left_on"))
        await tx.execute(back, left)
        counts["returned"] += len(left)
    await _letters_back(tx, society, [row.member_id for row in rows if row.kind != "joined"], batch.at)


async def _letters_back(tx: AsyncConnection, society: str, members: list[int], at: int) -> None:
    """The batch's own letters go, those it ended live again (it stamped both with its own moment)."""
    t, other = temporary.c, temporary.alias()
    mine = (t.society == society, t.member_id.in_(members))
    await tx.execute(delete(temporary).where(*mine, t.created_at == at, t.state == "live"))
    invited = exists().where(member.c.society == society, member.c.id == t.member_id, member.c.state == "invited")
    taken = exists().where(other.c.society == society, other.c.login_key == t.login_key, other.c.state == "live")
    await tx.execute(
        update(temporary)
        .where(*mine, t.state == "revoked", t.ended_at == at, t.created_at < at, invited, ~taken)
        .values(state="live", ended_at=None)
    )
