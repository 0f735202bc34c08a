"""Import of a society's roster: dry run, all or nothing, the same file twice does nothing, `diff` and `undo`.

A file is read twice, streaming: once for everything that is wrong with it, once to compare it with the members there
are. Only a file without any complaint changes something.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import func, or_, select

from mailbot.config import Society
from mailbot.registration import people
from mailbot.registration.context import Context
from mailbot.store import new_id
from mailbot.store.tables import member

from . import live
from .compare import CHUNK, Comparison, Decisions, Detail, Tally
from .live import Busy, Turn
from .rows import Complaints, Progress, RosterFile, Row, check, open_file, silent
from .undo import Change, LastBatch, Undone, last_changes, undo

__all__ = [
    "Busy",
    "Change",
    "Decisions",
    "Detail",
    "LastBatch",
    "Progress",
    "Report",
    "Undone",
    "import_file",
    "last_changes",
    "undo",
]

MANY = 2
MANY_PERCENT = 20
"""A whole roster in which more than MANY members, and more than this share, are absent is refused unless meant so."""


@dataclass(frozen=True)
class Report:
    """What an import did, or a dry run would do. With complaints nothing was changed."""

    batch: int | None
    """None: nothing was changed."""
    encoding: str
    rows: int
    joined: int
    changed: int
    same: int
    left: int
    letters: int
    """New temporary credentials."""
    complaints: tuple[str, ...]
    complaint_count: int
    notes: tuple[str, ...]
    """Worth a look; they stop nothing."""
    details: tuple[Detail, ...]
    """The first rows that joined or changed."""


async def import_file(
    ctx: Context,
    society: Society,
    file: Path,
    *,
    actor: str,
    now: int,
    partial: bool = False,
    dry_run: bool = False,
    many_leave: bool = False,
    decisions: Decisions = Decisions(),  # noqa: B008  # frozen
    progress: Progress = silent,
) -> Report:
    """Takes a roster file over. Raises Busy. Names, dates and numbers are in no complaint, log or report."""
    complaints, notes = Complaints(file.name), Complaints(file.name)
    today = people.today(now)
    opened = open_file(file, complaints)
    if opened is None:
        return _report(None, "", 0, None, 0, complaints, notes)
    if opened.layout.ignored:
        positions = "、".join(f"{position}列目" for position in opened.layout.ignored)
        notes.add(0, f"使わない列です: {positions}")
    before = _digest(file)
    checked = check(opened, ctx.settings, ctx.ring, society, today, complaints, notes, progress)
    comparison = Comparison(ctx, society, new_id(), checked, decisions, complaints, now)
    if dry_run or complaints:
        async for _ in _compared(ctx, society, opened, comparison, today, checked.rows, progress):
            pass
        left = await _left(ctx, society, comparison, partial, many_leave, today, complaints)
        return _report(None, opened.encoding, checked.rows, comparison, left, complaints, notes)
    batch = comparison.batch
    async with Turn(ctx, society.id, now) as turn:
        await live.drop_abandoned(ctx, turn, society.id)
        await live.finish(ctx, turn, society, progress)
        await live.open_batch(ctx, turn, society, batch, before, actor, partial, now)
        async for stage, changes in _compared(ctx, society, opened, comparison, today, checked.rows, progress):
            await live.stage(ctx, turn, [row for row in stage if not partial or row["verdict"] != "same"], changes)
            if complaints:
                break
        left = await _left(ctx, society, comparison, partial, many_leave, today, complaints)
        if _digest(file) != before:
            complaints.add(0, "読んでいる間にファイルが変わりました。もう一度実行してください。")
        tally = comparison.tally
        unchanged = tally.joined + tally.changed + left == 0
        if complaints or unchanged:
            await live.drop_abandoned(ctx, turn, society.id)
            return _report(None, opened.encoding, checked.rows, comparison, left, complaints, notes)
        counts = {"joined": tally.joined, "changed": tally.changed, "left": left, "same": tally.same}
        await live.commit(ctx, turn, society, batch, counts)
        await live.finish(ctx, turn, society, progress)
    return _report(batch, opened.encoding, checked.rows, comparison, left, complaints, notes)


async def _compared(
    ctx: Context,
    society: Society,
    file: RosterFile,
    comparison: Comparison,
    today: str,
    total: int,
    progress: Progress,
) -> AsyncIterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """The file's second reading, in chunks. What is wrong with rows was said at the first."""
    done = 0
    for chunk in batched(file.rows(ctx.settings, society, today, Complaints(file.path.name)), CHUNK):
        yield await comparison.chunk(chunk)
        done += len(chunk)
        progress("名簿と比べています", done, total)


def batched(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    """Lists of at most `size` rows."""
    while chunk := list(islice(rows, size)):
        yield chunk


async def _left(
    ctx: Context,
    society: Society,
    comparison: Comparison,
    partial: bool,
    many_leave: bool,
    today: str,
    complaints: Complaints,
) -> int:
    """How many are absent from a whole roster; a complaint where that cannot be meant."""
    if partial:
        return 0
    c = member.c
    here = select(func.count()).where(c.society == society.id, or_(c.left_on.is_(None), c.left_on > today))
    async with ctx.store.read() as tx:
        present = await tx.scalar(here) or 0
    left = present - comparison.tally.stayed
    if left > MANY and left * 100 > present * MANY_PERCENT and not many_leave:
        complaints.add(
            0,
            f"名簿にいる{present}人のうち{left}人がこのファイルにいません。名簿の一部なら --partial を、"
            "本当にやめた方々なら --many-leave を付けてください。",
        )
    return left


def _digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _report(
    batch: int | None,
    encoding: str,
    rows: int,
    comparison: Comparison | None,
    left: int,
    complaints: Complaints,
    notes: Complaints,
) -> Report:
    tally = comparison.tally if comparison else Tally()
    return Report(
        batch,
        encoding,
        rows,
        tally.joined,
        tally.changed,
        tally.same,
        left,
        tally.letters,
        tuple(complaints.lines()),
        complaints.count,
        tuple(notes.lines()),
        tuple(tally.details),
    )
