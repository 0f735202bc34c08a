"""`mailbot imap`: the mailboxes elsewhere, and the mails in them that got no answer."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mailbot import audit
from mailbot.cli import common
from mailbot.config.site import ImapMailbox
from mailbot.intake.imap import ledger


def register(command: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Mailboxes elsewhere whose mail the robot takes in.")
    group.command("status")(status)
    group.command("list")(list_)
    group.command("rescan")(rescan)
    command.add_typer(group, name="imap")


def status(json: common.Json = False) -> None:
    """Every mailbox: is it read, and if not why; since when it is watched, when it was looked at last, what waits."""

    async def work() -> list[dict[str, Any]]:
        async with common.opened() as (ctx, now), ctx.store.read() as tx:
            known = {str(row["mailbox"]): row for row in await ledger.overview(tx)}
            troubles = await ledger.troubles(tx)
            unseen = {"place": None, "since_at": None, "seen_at": None, "waiting": 0, "ignored": 0}
            return [
                {**unseen, **row, "mailbox": name, **_state(row.get("seen_at"), troubles.get(name), box, now)}
                for name, box in ctx.settings.site.imap.items()
                for row in [known.get(name, {})]
            ]

    rows = [{"mailbox": row.pop("mailbox"), **row} for row in common.run(work())]
    common.show(rows, json, empty="No mailbox is configured; docs/imap.md says how.")


def _state(seen_at: Any, trouble: tuple[int, str] | None, mailbox: ImapMailbox, now: int) -> dict[str, str | None]:
    """`seen_at`: when the last look began, which takes its time where much has come."""
    if trouble and trouble[0] > (seen_at or 0):
        return {"state": "down", "trouble": trouble[1]}
    if seen_at is None or now - seen_at > (2 * mailbox.rest_seconds + 60) * 1000:
        return {"state": "down", "trouble": "not looked at lately: does the robot run? `mailbot check` tries to log in"}
    return {"state": "up", "trouble": None}


def list_(
    ignored: Annotated[bool, typer.Option(help="Those that came in too long ago to be answered, instead.")] = False,
    json: common.Json = False,
) -> None:
    """Mails that are tried again later, newest first."""

    async def work() -> list[dict[str, Any]]:
        async with common.opened() as (ctx, _), ctx.store.read() as tx:
            return await ledger.listed(tx, ignored=ignored)

    common.show(common.run(work()), json, empty="No mail came in too long ago." if ignored else "No mail waits.")


def rescan(
    mailbox: Annotated[str, typer.Argument(help="NAME of its [imap.NAME].")],
    since: Annotated[str, typer.Option(help="An age such as 3h or 2d, or a time such as 2026-11-20T09:30.")],
) -> None:
    """Read a mailbox from its first mail again, and answer what arrived since then. Nobody gets a second answer."""

    async def work() -> tuple[int, int]:
        async with common.opened() as (ctx, now):
            box = ctx.settings.site.imap.get(mailbox)
            begin = common.parse_since(since, now)
            async with ctx.store.begin() as tx:
                if box is None or not await ledger.rescan(tx, mailbox, begin):
                    raise common.Failed(f"no mailbox {mailbox} was opened yet; `mailbot imap status` shows them")
                await audit.record(
                    tx, common.actor(), "imap-rescan", "", None, {"mailbox": mailbox, "since": begin}, now
                )
            return begin, box.rest_seconds

    begin, seconds = common.run(work())
    print(f"Mails in {mailbox} since {common.moment(begin)} are answered at its next look, within {seconds} seconds.")
