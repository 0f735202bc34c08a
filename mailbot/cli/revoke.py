"""`mailbot revoke`: the emergency stop for links, sessions and letters."""

from __future__ import annotations

from typing import Annotated

import typer

from mailbot import app
from mailbot.cli import common
from mailbot.registration import stops

_STOPS = {"links": stops.revoke_links, "sessions": stops.revoke_sessions, "letters": stops.revoke_letters}


def register(command: typer.Typer) -> None:
    command.command()(revoke)


def revoke(
    links: Annotated[bool, typer.Option("--links", help="One-time URLs already mailed.")] = False,
    sessions: Annotated[bool, typer.Option("--sessions", help="Everybody who is logged in.")] = False,
    letters: Annotated[bool, typer.Option("--letters", help="Temporary credentials on paper, not used yet.")] = False,
    society: Annotated[str | None, typer.Option(help="Only this society; all when absent.")] = None,
    since: Annotated[str | None, typer.Option(help="Only those made since then: 3h, 2d or 2026-11-20T09:30.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make what was handed out worthless, at once."""
    if not (links or sessions or letters):
        raise typer.BadParameter("name what to revoke: --links, --sessions or --letters")
    what = [name for name, wanted in (("links", links), ("sessions", sessions), ("letters", letters)) if wanted]
    if since is not None:
        common.parse_since(since, 0)  # a slip is told before the question
    if not yes:
        typer.confirm(
            f"Revoke {', '.join(what)} of {society or 'every society'}" + (f" since {since}" if since else "") + "?",
            abort=True,
        )

    async def work() -> str:
        async with common.opened() as (ctx, now):
            moment = common.parse_since(since, now) if since else None
            chosen = app.society_of(ctx.settings, society).id if society else None
            done = {name: await _STOPS[name](ctx, chosen, moment, common.actor(), now) for name in what}
            return ", ".join(f"{count} {name} revoked" for name, count in done.items()) + "."

    print(common.run(work()))
