"""`mailbot queue`: the outgoing mails."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from mailbot import app, audit
from mailbot.cli import common
from mailbot.credentials import decode_id, encode_id
from mailbot.delivery import outbox
from mailbot.delivery.policy import MailState
from mailbot.mail.address import AddressError, parse_typed
from mailbot.mail.fields import escaped
from mailbot.office import nextstep, replies, timeline
from mailbot.registration import stops

Mail = Annotated[str, typer.Argument(help="The mail's id, from `queue list`.")]
Society = Annotated[str | None, typer.Option(help="Only this society.")]


def register(command: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="The outgoing mails: what waits, what became of each.")
    for function in (status, watch, find, show, retry, cancel, hold, release, pause, resume):
        group.command()(function)
    group.command("list")(list_)
    command.add_typer(group, name="queue")


def held_words(held: dict[str, tuple[int, str]]) -> list[str]:
    """One sentence for each stop of outgoing mail."""
    return [
        f"mails of {society or 'every society'} wait since {common.moment(at)} ({reason}); "
        f"`mailbot queue resume{f' --society {society}' if society else ''}` lets them go"
        for society, (at, reason) in sorted(held.items())
    ]


async def _status() -> tuple[list[dict[str, Any]], list[str]]:
    async with common.opened() as (ctx, now), ctx.store.read() as tx:
        held = await stops.held(tx)
        rows = [
            {
                "society": row.society,
                "lane": outbox.Lane(row.lane).name.lower(),
                "state": row.state,
                "mails": row.mails,
                "oldest seconds": (now - row.oldest) // 1000,
                "paused": row.state == MailState.QUEUED and not held.keys().isdisjoint({outbox.ALL, row.society}),
            }
            for row in await outbox.status(tx)
        ]
        return rows, held_words(held)


def status(json: common.Json = False) -> None:
    """How many mails wait, by society, lane and state, and whether they may leave."""
    rows, held = common.run(_status())
    if not json:
        for words in held:
            print(f"PAUSED: {words}.")
    common.show(rows, json, empty="The queue is empty.")


def watch(seconds: Annotated[int, typer.Option(min=1, help="Time between two looks.")] = 2) -> None:
    """The status, again and again, until Ctrl-C."""

    def table() -> Table:
        rows, held = common.run(_status())
        made = Table(*(rows[0] if rows else ["The queue is empty."]), box=None, title="; ".join(held) or None)
        for row in rows:
            made.add_row(*map(str, row.values()))
        return made

    try:
        with Live(table(), console=common.out, auto_refresh=False) as live:
            while True:
                time.sleep(seconds)
                live.update(table(), refresh=True)
    except KeyboardInterrupt:
        return


def list_(
    society: Society = None,
    state: Annotated[MailState | None, typer.Option(help="Only mails in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    json: common.Json = False,
) -> None:
    """Mails, newest first."""

    async def work() -> list[dict[str, Any]]:
        async with common.opened() as (ctx, _), ctx.store.read() as tx:
            found = await outbox.list_mails(tx, society=society, state=state, limit=limit)
            if society and not found:  # mails of a society that is gone may still be there
                app.society_of(ctx.settings, society)
            return [
                {
                    "id": encode_id(row.id),
                    "society": row.society,
                    "letter": row.letter,
                    "to": row.recipient,
                    "state": row.state,
                    "reason": row.reason,
                    "attempts": row.attempts,
                    "created_at": row.created_at,
                    "next_at": row.next_attempt_at if row.state == "queued" else None,
                }
                for row in found
            ]

    common.show(common.run(work()), json, empty="No such mail.")


def find(
    society: Annotated[str, typer.Argument(help="The society's id.")],
    address: Annotated[str, typer.Argument(help="The mail address of who says that no mail came.")],
    json: common.Json = False,
) -> None:
    """What came from an address, why it got no answer, what went to it (newest first), and what to do next (Japanese).
    For anybody's address, on a roster or not."""

    async def work() -> tuple[list[timeline.Moment], str]:
        async with common.opened() as (ctx, _):
            chosen = app.society_of(ctx.settings, society)
            try:
                found = await timeline.of_address(ctx, chosen, parse_typed(address))
            except AddressError as error:
                raise common.Failed(f"{escaped(address, 80)} is no mail address: {error}") from None
            return found, nextstep.next_step(chosen, found)

    found, todo = common.run(work())
    rows = [
        {
            "at": one.at if json else common.moment(one.at),
            "event": one.event,
            "what": one.what,
            "mail": encode_id(one.mail) if one.mail else None,
        }
        for one in found
    ]
    if json:
        common.fields([("found", rows), ("next", todo)], True)
        return
    if rows:
        common.show(rows, False)
    print(f"→ {todo}")


def _id(text: str) -> int:
    found = decode_id(text)
    if found is None:
        raise common.Failed(f"{text} is no mail id; `mailbot queue list` shows them")
    return found


def show(mail: Mail, json: common.Json = False) -> None:
    """One mail and every attempt to deliver it, in the relay's own words."""

    async def work() -> tuple[Any, Sequence[Any]]:
        async with common.opened() as (ctx, _), ctx.store.read() as tx:
            found = await outbox.show(tx, _id(mail))
            if found is None:
                raise common.Failed(f"no mail {mail}; `mailbot queue list` shows them")
            return found

    row, attempts = common.run(work())
    tries = [
        {
            "attempt": a.number,
            "at": a.at if json else common.moment(a.at),
            "outcome": a.outcome,
            "relay said": a.relay_reply,
        }
        for a in attempts
    ]
    facts = [(name, _named(name, value)) for name, value in row._mapping.items() if name not in ("facts", "id")]
    facts.append(("means", replies.ended(row.state, row.reason, row.recipient)))
    if json:
        common.fields([("id", mail), *facts, ("tries", tries)], True)
        return
    common.fields([("id", mail), *facts], False)
    print()
    common.show(tries, False, empty="Not tried yet.")


def _named(column: str, value: Any) -> Any:
    """Ids and lanes as the other commands name them."""
    if column == "lane":
        return outbox.Lane(value).name.lower()
    return encode_id(value) if column in ("member_id", "link_id") and value else value


def _change(mail: str, verb: str, work: Callable[..., Awaitable[bool]], done: str, refused: str) -> None:
    async def change() -> str:
        async with common.opened() as (ctx, now), ctx.store.begin() as tx:
            if not await work(tx, _id(mail), now):
                raise common.Failed(refused)
            await audit.record(tx, common.actor(), f"queue.{verb}", "", None, {"mail": mail}, now)
            return done

    print(common.run(change()))


def retry(mail: Mail) -> None:
    """Try a waiting, held or failed mail again now. A mail whose link has died is not sent."""
    _change(
        mail,
        "retry",
        outbox.retry,
        "It goes out with the next batch.",
        "That mail was delivered or cancelled, or its time has passed.",
    )


def cancel(mail: Mail) -> None:
    """Never send a waiting mail."""
    _change(mail, "cancel", outbox.cancel, "Cancelled.", "That mail does not wait any more.")


def hold(mail: Mail) -> None:
    """Keep a waiting mail back until `release`."""
    _change(mail, "hold", outbox.hold, "Held.", "That mail does not wait any more.")


def release(mail: Mail) -> None:
    """Let a held mail go."""
    _change(mail, "release", outbox.release, "Released.", "That mail is not held.")


def pause(
    reason: Annotated[str, typer.Option(help="For colleagues; stands in the audit record.")],
    society: Society = None,
) -> None:
    """Let no mail leave, of all societies or of one. Nothing is lost, and links and PINs go on ageing meanwhile."""

    async def work() -> bool:
        async with common.opened() as (ctx, now):
            chosen = app.society_of(ctx.settings, society).id if society else outbox.ALL
            return await stops.hold_mails(ctx, chosen, reason, common.actor(), now)

    begun = common.run(work())
    of, option = (society, f" --society {society}") if society else ("every society", "")
    print(f"Mails of {of} wait {'now' if begun else 'already'}; `mailbot queue resume{option}` lets them go.")


def resume(society: Society = None) -> None:
    """Let mails leave again. A society that was paused alone is named alone."""

    async def work() -> tuple[bool, list[str]]:
        async with common.opened() as (ctx, now):
            chosen = app.society_of(ctx.settings, society).id if society else outbox.ALL
            done = await stops.release_mails(ctx, chosen, common.actor(), now)
            async with ctx.store.read() as tx:
                return done, held_words(await stops.held(tx))

    done, still = common.run(work())
    of = society or "every society"
    print(f"Mails of {of} leave again." if done else f"Mails of {of} were not paused.")
    for words in still:
        print(f"Still PAUSED: {words}.")
