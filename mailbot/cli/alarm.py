"""`mailbot alarm`: what a person should look at, as the ops page shows it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mailbot import audit
from mailbot.cli import common
from mailbot.store import alarms


def register(command: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="What a person should look at; the ops page shows it too.")
    group.command("list")(list_)
    group.command("clear")(clear)
    command.add_typer(group, name="alarm")


def list_(json: common.Json = False) -> None:
    """All alarms, newest first."""

    async def work() -> list[dict[str, Any]]:
        async with common.opened() as (ctx, _), ctx.store.read() as tx:
            return [
                {
                    "society": row.society or "-",
                    "kind": row.kind,
                    "times": row.count,
                    "first_at": row.first_at,
                    "last_at": row.last_at,
                    "what": row.text,
                }
                for row in await alarms.alarms(tx)
            ]

    common.show(common.run(work()), json, empty="No alarms.")


def clear(
    kind: Annotated[str, typer.Argument(help="The alarm's kind, from `alarm list`.")],
    society: Annotated[str, typer.Option(help="The alarm's society; none for the whole installation.")] = "",
) -> None:
    """Forget an alarm that was dealt with; it comes back when it happens again."""

    async def work() -> None:
        async with common.opened() as (ctx, now), ctx.store.begin() as tx:
            if not await alarms.clear(tx, society, kind):
                raise common.Failed(f"no alarm {kind}; `mailbot alarm list` shows them")
            await audit.record(tx, common.actor(), "alarm-cleared", society, None, {"kind": kind}, now)

    common.run(work())
    print("Cleared.")
