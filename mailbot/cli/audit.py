"""`mailbot audit`: the chained record of staff and security events."""

from __future__ import annotations

import csv
import json as json_module
import sys
from typing import Annotated, Any

import typer
from sqlalchemy import select

from mailbot import app, audit
from mailbot.cli import common
from mailbot.credentials import encode_id
from mailbot.store.tables import audit as audit_table

_IDS = ("batch", "letter", "mail")
"""Facts that are ids."""


def register(command: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="The record of staff and security events; its rows are chained.")
    group.command("verify")(verify)
    group.command("export")(export)
    command.add_typer(group, name="audit")


def verify() -> None:
    """Check the chain. Status 1 when a row was changed or removed."""

    async def work() -> int | None:
        async with common.opened() as (ctx, _), ctx.store.scan() as tx:
            return await audit.verify(tx)

    broken = common.run(work())
    if broken is not None:
        raise common.fail(common.Failed(f"The chain breaks at row {broken}: that row or one before it was changed."))
    print("The chain is whole.")


def _named(facts: str) -> str:
    """The facts with ids as the other commands name them."""
    known = json_module.loads(facts)
    named = {name: encode_id(known[name]) for name in _IDS if isinstance(known.get(name), int)}
    return json_module.dumps(known | named, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def export(
    society: Annotated[str | None, typer.Option(help="Only this society.")] = None,
    since: Annotated[str | None, typer.Option(help="Only since then: 3h, 2d or 2026-11-20T09:30.")] = None,
    json: common.Json = False,
) -> None:
    """Write the record as CSV (or JSON): who did what to whose account, and when."""

    async def work() -> list[dict[str, Any]]:
        async with common.opened() as (ctx, now), ctx.store.scan() as tx:
            statement = select(audit_table).order_by(audit_table.c.number)
            if society is not None:
                statement = statement.where(audit_table.c.society == society)
            if since is not None:
                statement = statement.where(audit_table.c.at >= common.parse_since(since, now))
            found = (await tx.execute(statement)).all()
            if society is not None and not found:  # the record of a society that is gone may still be there
                app.society_of(ctx.settings, society)
            return [
                {
                    "number": row.number,
                    "at": common.moment(row.at),
                    "actor": row.actor,
                    "event": row.event,
                    "society": row.society,
                    "member": encode_id(row.member_id) if row.member_id else "",
                    "facts": _named(row.facts),
                }
                for row in found
            ]

    rows = common.run(work())
    if json:
        print(json_module.dumps(rows, ensure_ascii=False, indent=1))
        return
    writer = csv.DictWriter(sys.stdout, ("number", "at", "actor", "event", "society", "member", "facts"))
    writer.writeheader()
    writer.writerows(rows)
