"""Which letter stood on which sheet of which batch; what became of it; and the end of a batch's letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit
from mailbot.config import Society
from mailbot.credentials import encode_id
from mailbot.office.roster.live import Turn
from mailbot.registration.context import Context
from mailbot.store.tables import inbox, notice_batch, notice_letter, temporary

from .paper import Printed

CHUNK = 2000
"""Rows written in one transaction, so that none holds SQLite's write lock for long."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One run of the printer, and how many of its letters still live."""

    id: int
    at: int
    actor: str
    paper: str
    per: str
    sheets: int
    letters: int
    live: int
    used: int
    ended: int


@dataclass(frozen=True, slots=True)
class Line:
    """One letter on a sheet. `mail_at`: when a mail came to the sheet's own address, where it has one."""

    sheet: int
    member_id: int
    generation: int
    state: str
    tag: str | None
    mail_at: int | None


async def stage(
    ctx: Context, turn: Turn, society: Society, batch: dict[str, Any], sheets: Sequence[Printed]
) -> None:
    """Writes the manifest in pieces; it counts once `seal` has run."""
    rows = [
        {
            "society": society.id,
            "batch_id": batch["id"],
            "sheet": one.number,
            "member_id": letter.member_id,
            "temporary_id": letter.temporary_id,
            "generation": letter.generation,
            "tag": one.tag or None,
        }
        for one in sheets
        for letter in one.sheet.letters
    ]
    async with ctx.store.begin() as tx:
        await turn.renew(tx)
        await tx.execute(insert(notice_batch).values(society=society.id, state="making", **batch))
    for start in range(0, len(rows), CHUNK):
        async with ctx.store.begin() as tx:
            await turn.renew(tx)
            await tx.execute(insert(notice_letter), rows[start : start + CHUNK])


async def seal(tx: AsyncConnection, society: Society, batch_id: int, digest: bytes) -> None:
    """From here on the batch counts as printed."""
    mine = (notice_batch.c.society == society.id, notice_batch.c.id == batch_id)
    await tx.execute(update(notice_batch).where(*mine).values(state="printed", file_digest=digest))


async def drop_unfinished(ctx: Context, turn: Turn, society: Society) -> None:
    """Forgets batches whose program died before the file was there."""
    b, n = notice_batch.c, notice_letter.c
    async with ctx.store.read() as tx:
        old = (await tx.execute(select(b.id, b.sheets).where(b.society == society.id, b.state == "making"))).all()
    for batch in old:
        for first in range(1, batch.sheets + 1, CHUNK // 4):
            part = n.sheet.between(first, first + CHUNK // 4 - 1)
            async with ctx.store.begin() as tx:
                await turn.renew(tx)
                await tx.execute(delete(notice_letter).where(n.society == society.id, n.batch_id == batch.id, part))
        async with ctx.store.begin() as tx:
            await tx.execute(delete(notice_batch).where(b.society == society.id, b.id == batch.id))


# --- looking up -----------------------------------------------------------------------------------------------------


async def batches(ctx: Context, society: Society) -> list[Batch]:
    """Every batch, the newest first."""
    b, n, t = notice_batch.c, notice_letter.c, temporary.c
    states: dict[int, Counter[str]] = {}
    letter = (t.society == n.society) & (t.id == n.temporary_id)
    counted = (
        select(n.batch_id, t.state, func.count())
        .outerjoin_from(notice_letter, temporary, letter)
        .where(n.society == society.id)
        .group_by(n.batch_id, t.state)
    )
    async with ctx.store.scan() as tx:
        for batch_id, state, count in await tx.execute(counted):
            states.setdefault(batch_id, Counter())[state or "gone"] += count
        mine = select(notice_batch).where(b.society == society.id, b.state == "printed")
        rows = (await tx.execute(mine.order_by(b.at.desc(), b.id))).all()
    found = []
    for row in rows:
        count = states.get(row.id, Counter())
        total = sum(count.values())
        ended = total - count["live"] - count["used"]
        numbers = (row.sheets, total, count["live"], count["used"], ended)
        found.append(Batch(row.id, row.at, row.actor, row.paper, row.per, *numbers))
    return found


async def lines(ctx: Context, society: Society, batch_id: int, sheets: Collection[int] = ()) -> list[Line]:
    """Letters of a batch in the order of its file; of some sheets only, where any are named."""
    n, t, b = notice_letter.c, temporary.c, notice_batch.c
    tagged = (inbox.c.society == n.society) & (inbox.c.tag == n.tag)
    mail_at = select(func.min(inbox.c.received_at)).where(tagged).correlate(notice_letter).scalar_subquery()
    statement = (
        select(n.sheet, n.member_id, n.generation, t.state, n.tag, mail_at.label("mail_at"))
        .join_from(notice_letter, notice_batch, (b.society == n.society) & (b.id == n.batch_id))
        .outerjoin(temporary, (t.society == n.society) & (t.id == n.temporary_id))
        .where(n.society == society.id, n.batch_id == batch_id, b.state == "printed")
        .order_by(n.sheet, n.member_id)
    )
    async with ctx.store.scan() as tx:
        rows = (await tx.execute(statement)).all()
    wanted = frozenset(sheets)
    return [
        Line(row.sheet, row.member_id, row.generation, row.state or "gone", row.tag, row.mail_at)
        for row in rows
        if not wanted or row.sheet in wanted
    ]


async def kind_of(ctx: Context, society: Society, batch_id: int) -> tuple[str, str] | None:
    """(paper, per) of a batch; None when there is no such batch."""
    b = notice_batch.c
    mine = (b.society == society.id, b.id == batch_id, b.state == "printed")
    async with ctx.store.read() as tx:
        row = (await tx.execute(select(b.paper, b.per).where(*mine))).first()
    return (row.paper, row.per) if row is not None else None


# --- the end of letters ---------------------------------------------------------------------------------------------


async def revoke(
    ctx: Context, society: Society, batch_id: int, sheets: Collection[int], *, actor: str, now: int
) -> int:
    """Kills the letters of a batch (of some sheets only, where any are named) that still live; how many."""
    n, t = notice_letter.c, temporary.c
    printed = select(n.temporary_id).where(n.society == society.id, n.batch_id == batch_id)
    wanted = sorted(sheets)
    if wanted:
        printed = printed.where(n.sheet.in_(wanted))
    total, changed = 0, CHUNK
    while changed == CHUNK:
        live = select(t.id).where(t.society == society.id, t.state == "live", t.id.in_(printed)).limit(CHUNK)
        async with ctx.store.begin() as tx:
            dying = update(temporary).where(t.society == society.id, t.id.in_(live))
            changed = (await tx.execute(dying.values(state="revoked", ended_at=now))).rowcount
        total += changed
    facts: dict[str, str | int | bool | None] = {"batch": encode_id(batch_id), "sheets": len(wanted)}
    async with ctx.store.begin() as tx:
        await audit.record(tx, actor, "notices-revoked", society.id, None, {**facts, "count": total}, now)
    return total
