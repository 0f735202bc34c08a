"""A staged batch becomes the roster, piece by piece: each piece is a few set-based statements in one transaction.

The commit point is one row: `roster_batch.state = 'going'`. From there on everything needed lies in the database, and a
batch whose program died is finished by the next roster command. The pieces exist because SQLite has one writer:
100,000 rows in one transaction hold its lock for several seconds, and mail coming in meanwhile would get 451. Between
two pieces the lock rests longer than the 100 ms in which SQLite's waiters look again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, func, insert, literal, null, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit
from mailbot.config import Society
from mailbot.registration import people
from mailbot.registration.context import Context
from mailbot.store import new_id
from mailbot.store.engine import insert as upsert
from mailbot.store.tables import lease, member, roster_batch, roster_change, roster_stage, temporary

from .rows import Progress

FIRST_PIECE, LEAST_PIECE, LARGEST_PIECE = 1000, 50, 8000
AIM_SECONDS = 0.2
"""How long one transaction should hold the write lock, on whatever machine; one second is the limit."""
REST_SECONDS = 0.15
LEASE_MS = 120_000
DAY_MS = 86_400_000
_CACHE_KIB = 64_000

_COPIED = (
    "person_key",
    "household",
    "sealed",
    "row_digest",
    "name_index",
    "kana_index",
    "number_index",
    "file_address_index",
    "protected",
    "left_on",
)


class Busy(Exception):
    """Another roster command works on this society."""


class Turn:
    """One roster command at a time and society: a row lease. Lifetime: one command."""

    def __init__(self, ctx: Context, society: str, now: int) -> None:
        self._ctx, self._name, self._holder = ctx, f"roster/{society}", f"{new_id():x}"
        # `now` stands still during a command; the lease has to move on with the real time spent
        self._start, self._now = time.monotonic(), now

    async def __aenter__(self) -> Turn:
        async with self._ctx.store.begin() as tx:
            await tx.execute(delete(lease).where(lease.c.name == self._name, lease.c.until <= self._time()))
            row = upsert(tx)(lease).values(name=self._name, holder=self._holder, until=self._time() + LEASE_MS)
            if (await tx.execute(row.on_conflict_do_nothing().returning(lease.c.name))).first() is None:
                raise Busy("another roster command works on this society; try again in two minutes")
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._ctx.store.begin() as tx:
            await tx.execute(delete(lease).where(lease.c.name == self._name, lease.c.holder == self._holder))

    async def renew(self, tx: AsyncConnection) -> None:
        """Belongs into every transaction of the command. Raises Busy when the turn was lost."""
        mine = (lease.c.name == self._name, lease.c.holder == self._holder)
        if (await tx.execute(update(lease).where(*mine).values(until=self._time() + LEASE_MS))).rowcount != 1:
            raise Busy("this command took too long between two steps and lost its turn; run it again")

    def _time(self) -> int:
        return self._now + int((time.monotonic() - self._start) * 1000)


class Pace:
    """Sizes transactions by how long the last one took. Lifetime: one command."""

    def __init__(self) -> None:
        self.size = FIRST_PIECE
        self.longest = 0.0

    @asynccontextmanager
    async def piece(self, ctx: Context, turn: Turn) -> AsyncIterator[AsyncConnection]:
        """A writing transaction for about `size` rows, and a rest behind it for whoever else wants to write."""
        async with ctx.store.begin() as tx:
            begun = time.perf_counter()
            await turn.renew(tx)
            await _cache(tx)
            yield tx
        took = time.perf_counter() - begun
        self.longest = max(self.longest, took)
        # down at once to what would have fitted, up with care; one slow disk sync is no reason to crawl
        fitting = self.size * AIM_SECONDS / max(took, 0.001)
        wanted = max(fitting, self.size / 4) if fitting < self.size else min((self.size + fitting) / 2, self.size * 2)
        self.size = int(min(max(wanted, LEAST_PIECE), LARGEST_PIECE))
        if took > AIM_SECONDS / 10:
            await asyncio.sleep(REST_SECONDS)


# --- staging --------------------------------------------------------------------------------------------------------


async def open_batch(
    ctx: Context, turn: Turn, society: Society, batch_id: int, digest: bytes, actor: str, partial: bool, now: int
) -> None:
    """A new batch in state `staged`, later than every other one of the society."""
    async with ctx.store.begin() as tx:
        await turn.renew(tx)
        last = await tx.scalar(select(func.max(roster_batch.c.at)).where(roster_batch.c.society == society.id))
        await tx.execute(
            insert(roster_batch).values(
                society=society.id,
                id=batch_id,
                at=max(now, (last or 0) + 1),
                actor=actor,
                file_digest=digest,
                partial=partial,
                state="staged",
            )
        )


async def stage(ctx: Context, turn: Turn, rows: Sequence[dict[str, Any]], changes: Sequence[dict[str, Any]]) -> None:
    """Adds a chunk to an open batch."""
    async with ctx.store.begin() as tx:
        await turn.renew(tx)
        if rows:
            await tx.execute(insert(roster_stage), rows)
        if changes:
            await tx.execute(insert(roster_change), changes)


async def drop_abandoned(ctx: Context, turn: Turn, society: str) -> None:
    """Forgets batches that never reached the commit point."""
    async with ctx.store.read() as tx:
        old = (
            await tx.scalars(
                select(roster_batch.c.id).where(roster_batch.c.society == society, roster_batch.c.state == "staged")
            )
        ).all()
    for batch_id in old:
        await _clear(ctx, turn, society, batch_id, changes=True)
        async with ctx.store.begin() as tx:
            await tx.execute(
                delete(roster_batch).where(roster_batch.c.society == society, roster_batch.c.id == batch_id)
            )


async def _clear(ctx: Context, turn: Turn, society: str, batch_id: int, changes: bool = False) -> None:
    """Removes staged rows in pieces (SQLite overwrites what it deletes)."""
    stage_line, change_member = roster_stage.c.line, roster_change.c.member_id
    keys = [(roster_stage, stage_line), *([(roster_change, change_member)] if changes else [])]
    pace = Pace()
    for table, key in keys:
        mine = (table.c.society == society, table.c.batch_id == batch_id)
        done = -1
        while done:
            some = select(key).where(*mine).order_by(key).limit(pace.size)
            async with pace.piece(ctx, turn) as tx:
                done = (await tx.execute(delete(table).where(*mine, key.in_(some)))).rowcount


# --- going live -----------------------------------------------------------------------------------------------------


async def commit(ctx: Context, turn: Turn, society: Society, batch_id: int, counts: dict[str, int]) -> None:
    """The commit point: from here on the batch is carried out, whatever happens to this program."""
    async with ctx.store.begin() as tx:
        await turn.renew(tx)
        await tx.execute(_batch(society.id, batch_id).values(state="going", **counts))


async def finish(ctx: Context, turn: Turn, society: Society, progress: Progress) -> None:
    """Carries out the batch that is past its commit point, if there is one. Doing a piece twice does no harm."""
    mine = (roster_batch.c.society == society.id, roster_batch.c.state == "going")
    async with ctx.store.read() as tx:
        batch = (await tx.execute(select(roster_batch).where(*mine))).first()
    if batch is None:
        return
    total, done, pace = batch.joined + batch.changed + batch.left, 0, Pace()
    staged = and_(roster_stage.c.society == society.id, roster_stage.c.batch_id == batch.id)
    async for piece in _pieces(ctx, pace, roster_stage.c.line, and_(staged, roster_stage.c.verdict != "same")):
        done += pace.size
        async with pace.piece(ctx, turn) as tx:
            await _put_live(tx, society, batch, piece)
        progress("名簿に反映しています", min(done, total), total)
    if not batch.partial:
        await _leave(ctx, turn, pace, society, batch)
    async with ctx.store.begin() as tx:
        await turn.renew(tx)
        await tx.execute(_batch(society.id, batch.id).values(state="live"))
        facts = {name: getattr(batch, name) for name in ("joined", "changed", "left", "same", "partial")}
        await audit.record(tx, batch.actor, "roster-imported", society.id, None, {"batch": batch.id, **facts}, batch.at)
    await _clear(ctx, turn, society.id, batch.id)


def _batch(society: str, batch_id: int) -> Any:
    return update(roster_batch).where(roster_batch.c.society == society, roster_batch.c.id == batch_id)


async def _pieces(
    ctx: Context, pace: Pace, key: ColumnElement[int], where: ColumnElement[bool]
) -> AsyncIterator[ColumnElement[bool]]:
    """Conditions that cut the rows into pieces of the pace's size, in the key's order."""
    after: int | None = None
    while True:
        begin = where if after is None else and_(where, key > after)
        async with ctx.store.read() as tx:
            end = await tx.scalar(select(key).where(begin).order_by(key).offset(pace.size - 1).limit(1))
            if end is None and await tx.scalar(select(key).where(begin).limit(1)) is None:
                return
        part = [] if after is None else [key > after]
        yield and_(where, *part, *([] if end is None else [key <= end]))
        if end is None:
            return
        after = end


async def _cache(tx: AsyncConnection) -> None:
    """SQLite's 2 MB of page cache would be written out again and again while ten indexes grow."""
    if tx.dialect.name == "sqlite":
        await tx.exec_driver_sql(f"PRAGMA cache_size=-{_CACHE_KIB}")


async def _put_live(tx: AsyncConnection, society: Society, batch: Any, piece: ColumnElement[bool]) -> None:
    s, m, t = roster_stage.c, member.c, temporary.c
    # joined
    names = ("society", "id", *_COPIED, "sealed_nickname", "state", "choices", "created_at", "batch")
    constants = (literal("invited"), literal("{}"), literal(batch.at), s.batch_id)
    joined = select(s.society, s.member_id, *(s[name] for name in _COPIED), s.sealed_nickname, *constants)
    await tx.execute(
        upsert(tx)(member).from_select(names, joined.where(piece, s.verdict == "joined")).on_conflict_do_nothing()
    )
    # changed; a nickname somebody chose stays
    nickname = case((m.state == "invited", s.sealed_nickname), else_=m.sealed_nickname)
    await tx.execute(
        update(member)
        .where(m.society == s.society, m.id == s.member_id, piece, s.verdict == "changed")
        .values({**{name: s[name] for name in _COPIED}, "sealed_nickname": nickname, "batch": s.batch_id})
    )
    # letters: a new one replaces the old one
    has_new = and_(piece, s.temporary_id.is_not(None))
    await tx.execute(
        update(temporary)
        .where(
            t.society == society.id,
            t.state == "live",
            t.member_id.in_(select(s.member_id).where(has_new)),
            t.id.not_in(select(s.temporary_id).where(has_new)),
        )
        .values(state="revoked", ended_at=batch.at)
    )
    days = society.temporary.lifetime_days
    end = null() if days is None else literal(batch.at + days * DAY_MS)
    letters = {
        "society": s.society,
        "id": s.temporary_id,
        "member_id": s.member_id,
        "login_key": s.temporary_login_key,
        "sealed_login_id": s.sealed_login_id,
        "sealed_password": s.sealed_password,
        "kid": s.kid,
        "generation": literal(0),
        "format": s.format,
        "state": literal("live"),
        "failures": literal(0),
        "expires_at": end,
        "created_at": literal(batch.at),
    }
    still_invited = select(*letters.values()).join(member, and_(m.society == s.society, m.id == s.member_id))
    await tx.execute(
        upsert(tx)(temporary)
        .from_select(list(letters), still_invited.where(has_new, m.state == "invited"))
        .on_conflict_do_nothing()
    )
    # who left has no use for a letter
    gone = select(s.member_id).where(piece, s.left_on <= people.today(batch.at))
    await _end_letters(tx, society.id, gone, batch.at)


async def _end_letters(tx: AsyncConnection, society: str, members: Any, now: int) -> None:
    await tx.execute(
        update(temporary)
        .where(temporary.c.society == society, temporary.c.state == "live", temporary.c.member_id.in_(members))
        .values(state="revoked", ended_at=now)
    )


async def _leave(ctx: Context, turn: Turn, pace: Pace, society: Society, batch: Any) -> None:
    """Who is not in a whole roster left today."""
    m, s, today = member.c, roster_stage.c, people.today(batch.at)
    in_file = select(s.line).where(s.society == m.society, s.batch_id == batch.id, s.person_key == m.person_key)
    here = and_(m.society == society.id, or_(m.left_on.is_(None), m.left_on > today))
    async for piece in _pieces(ctx, pace, m.id, m.society == society.id):
        absent = and_(piece, here, ~in_file.exists())
        async with ctx.store.read() as tx:
            if await tx.scalar(select(m.id).where(absent).limit(1)) is None:
                continue
        async with pace.piece(ctx, turn) as tx:
            facts = (m.society, literal(batch.id), m.id, literal("left"), m.left_on, m.protected)
            names = ["society", "batch_id", "member_id", "kind", "left_on_before", "protected_before"]
            await tx.execute(
                upsert(tx)(roster_change).from_select(names, select(*facts).where(absent)).on_conflict_do_nothing()
            )
            await _end_letters(tx, society.id, select(m.id).where(absent), batch.at)
            await tx.execute(update(member).where(absent).values(left_on=today, batch=batch.id))
