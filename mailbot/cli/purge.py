"""`mailbot purge`: removes at once what need not be kept any more; the robot does the same bit by bit."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from mailbot import audit
from mailbot.cli import common
from mailbot.registration import timetable


def register(command: typer.Typer) -> None:
    command.command()(purge)


def purge(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: common.Json = False,
) -> None:
    """Remove what need not be kept any more (`retention.*`, `purge_left_days`), to the end. Safe beside the robot."""

    async def work() -> dict[str, int]:
        async with common.opened() as (ctx, now):
            if dry_run:
                async with ctx.store.scan() as tx:
                    return await timetable.overdue(ctx, tx, now)
            gone: Counter[str] = Counter()
            removed = 1
            while removed:  # each turn is short: mail that comes in meanwhile is not kept waiting
                async with ctx.store.begin() as tx:
                    removed = await timetable.purge(ctx, tx, now, gone)
            if gone.total():
                async with ctx.store.begin() as tx:
                    await audit.record(tx, common.actor(), "purged", "", None, {"count": gone.total()}, now)
            return gone

    found = common.run(work())
    rows: list[dict[str, Any]] = [{"table": name, "rows": count} for name, count in sorted(found.items())]
    common.show(rows, json)
    if not json:
        print(f"{sum(found.values())} rows {'would go' if dry_run else 'removed'}.")
