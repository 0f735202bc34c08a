"""`mailbot suppression`: addresses that mail does not reach, and what they still get."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mailbot import app, audit
from mailbot.cli import common
from mailbot.credentials import encode_id
from mailbot.delivery import suppression
from mailbot.delivery.suppression import Note, Source
from mailbot.mail.address import Address, AddressError, parse_typed
from mailbot.mail.causes import Cause
from mailbot.mail.fields import escaped
from mailbot.office import replies
from mailbot.registration import bounces

Society = Annotated[str, typer.Argument(help="The society's id.")]
Which = Annotated[str, typer.Argument(help="The mail address.")]


def register(command: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Addresses that mail does not reach: why, and since when.")
    group.command("list")(list_)
    for function in (add, remove):
        group.command()(function)
    command.add_typer(group, name="suppression")


def _address(text: str) -> Address:
    try:
        return parse_typed(text)
    except AddressError as error:
        raise common.Failed(f"{escaped(text, 80)} is no mail address: {error}") from None


def list_(
    society: Annotated[str | None, typer.Argument(help="Only this society.")] = None,
    cause: Annotated[Cause | None, typer.Option(help="Only this cause.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    json: common.Json = False,
) -> None:
    """Addresses that mail did not reach, the latest first, with words that can be said on the phone."""

    async def work() -> list[dict[str, Any]]:
        async with common.opened() as (ctx, _), ctx.store.read() as tx:
            found = await suppression.rows(tx, society=society, cause=cause, limit=limit)
            if society and not found:
                app.society_of(ctx.settings, society)
            return [
                {
                    "society": row.society,
                    "address": row.address,
                    "cause": row.cause,
                    "means": replies.known_words(row.cause, row.source, row.address),
                    "source": row.source,
                    "times": row.count,
                    "last_at": row.last_at,
                    "mail": encode_id(row.outbox_id) if row.outbox_id else None,
                    "words": row.words,
                }
                for row in found
            ]

    common.show(common.run(work()), json, empty="No address is suppressed.")


def add(
    society: Society,
    address: Which,
    reason: Annotated[str, typer.Option(help="For colleagues; stands in the list.")] = "staff",
) -> None:
    """Send nothing more to an address. Blank mails from it, or `remove`, end that."""

    async def work() -> None:
        async with common.opened() as (ctx, now), ctx.store.begin() as tx:
            chosen, found = app.society_of(ctx.settings, society), _address(address)
            words = escaped(reason, suppression.MAX_WORDS)
            await suppression.note(tx, [Note(chosen.id, found, Cause.UNKNOWN_USER, Source.STAFF, words)], now)
            await audit.record(tx, common.actor(), "suppression-added", chosen.id, None, {}, now)

    common.run(work())
    print("It gets no mail from now on.")


def remove(
    society: Society,
    address: Which,
    restore: Annotated[
        bool,
        typer.Option(
            "--restore", help="The address also proves its members again. Only after you checked that it is theirs."
        ),
    ] = False,
) -> None:
    """Send mail to an address again."""

    async def work() -> tuple[int, int]:
        async with common.opened() as (ctx, now), ctx.store.begin() as tx:
            chosen, found = app.society_of(ctx.settings, society), _address(address)
            gone = await suppression.clear(tx, [(chosen.id, found.key)])
            proofs = await bounces.restore_proofs(tx, chosen.id, found.key) if restore else 0
            if not gone and not proofs:
                raise common.Failed(f"nothing is known of it; `mailbot suppression list {society}` shows what is")
            facts = {"restored": proofs}
            await audit.record(tx, common.actor(), "suppression-removed", chosen.id, None, facts, now)
            return gone, proofs

    _, proofs = common.run(work())
    print("It gets mail again." + (f" It proves {proofs} member(s) again." if proofs else ""))
