"""`mailbot help`: what members wrote to the help desk."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mailbot import app
from mailbot.cli import common
from mailbot.credentials import decode_id, encode_id
from mailbot.office import help as desk
from mailbot.office.members import masked

Name = Annotated[str, typer.Argument(help="The society's id.")]
Id = Annotated[str, typer.Argument(help="The request's id, from `help list`.")]


def register(command: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="What members wrote to the help desk: list, read, done.")
    group.command("list")(list_)
    group.command("show")(show)
    group.command("done")(done)
    command.add_typer(group, name="help")


def _sender(one: desk.Request) -> dict[str, Any]:
    member_id = one.sender.member_id
    return {
        "address is": one.sender.words + (f", but not sure: {one.doubt}" if one.doubt else ""),
        "member": encode_id(member_id) if member_id else None,
        "name": masked(one.name, 1) or None,
    }


def list_(
    society: Name,
    all_: Annotated[bool, typer.Option("--all", help="Also those that are done, newest first.")] = False,
    json: common.Json = False,
) -> None:
    """Open requests, the oldest first: who wrote, and whom the roster knows at that address."""

    async def work() -> list[desk.Request]:
        async with common.opened() as (ctx, _), ctx.store.read() as tx:
            return await desk.requests(ctx, tx, app.society_of(ctx.settings, society), done=all_)

    rows = [
        {
            "request": encode_id(one.id),
            "received_at": one.received_at,
            "from": one.address,
            **_sender(one),
            "state": one.state,
            "subject": one.subject or None,
        }
        for one in common.run(work())
    ]
    common.show(rows, json, empty="No requests." if all_ else "No open requests.")


def show(society: Name, request: Id, json: common.Json = False) -> None:
    """One request with its text, made harmless for a terminal; recorded in the audit."""
    request_id = decode_id(request)

    async def work() -> desk.Request:
        async with common.opened() as (ctx, now), ctx.store.begin() as tx:
            chosen = app.society_of(ctx.settings, society)
            found = await desk.show(ctx, tx, chosen, request_id, common.actor(), now) if request_id else None
            if found is None:
                raise _no_request(society, request)
            return found

    one = common.run(work())
    facts: list[tuple[str, Any]] = [
        ("request", encode_id(one.id)),
        ("received_at", one.received_at),
        ("from", one.address),
        ("from field", one.sender_field or None),
        *_sender(one).items(),
        ("member is", one.member_state),
        ("acknowledged", one.acknowledged),
        ("state", one.state),
        ("done_at", one.done_at),
        ("done by", one.done_by),
        ("subject", one.subject or None),
    ]
    if json:
        common.fields([*facts, ("text", one.text)], True)
        return
    common.fields(facts, False)
    print()
    print(one.text or "(no text that can be read)")


def done(society: Name, request: Id) -> None:
    """Mark a request as dealt with."""
    request_id = decode_id(request)

    async def work() -> None:
        async with common.opened() as (ctx, now), ctx.store.begin() as tx:
            chosen = app.society_of(ctx.settings, society)
            if not request_id or not await desk.close(tx, chosen, request_id, common.actor(), now):
                raise _no_request(society, request, "open ")

    common.run(work())
    print("Done.")


def _no_request(society: str, request: str, kind: str = "") -> common.Failed:
    return common.Failed(f"no {kind}request {request}; `mailbot help list {society}` shows them")
