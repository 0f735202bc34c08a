"""`mailbot keys`: the ring behind links, letters and sealed columns, and the DKIM key."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mailbot import app, audit, credentials
from mailbot.cli import common
from mailbot.mail.dkim import dns_record, load_key
from mailbot.office import keywork

ACTIVATION_MINUTES = 10


def register(command: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="The key ring and the DKIM key.")
    group.command("list")(list_)
    group.command("rotate")(rotate)
    group.command("retire")(retire)
    group.command("dkim")(dkim)
    command.add_typer(group, name="keys")


def list_(json: common.Json = False) -> None:
    """Keys of the ring, and how many live rows still need each."""

    async def work() -> list[dict[str, Any]]:
        async with common.opened() as (ctx, now), ctx.store.read() as tx:
            live = await keywork.live_kids(tx)
            active = ctx.ring.active(now).kid
            return [
                {
                    "key": key.letter,
                    "created_at": key.created_at,
                    "active_at": key.active_from,
                    "state": "compromised"
                    if key.compromised
                    else "retired"
                    if key.retired_at
                    else "active"
                    if key.kid == active
                    else "usable",
                    "live rows": live.get(key.kid, 0),
                }
                for key in ctx.ring.keys
            ]

    common.show(common.run(work()), json)


def rotate(
    compromised: Annotated[
        bool,
        typer.Option("--compromised", help="The old keys are known to others: nothing made with them holds any more."),
    ] = False,
    after_minutes: Annotated[
        int, typer.Option(min=0, help="The new key is used from then on; until then hand the file to every machine.")
    ] = ACTIVATION_MINUTES,
) -> None:
    """Add a new key. Links already mailed stay valid, unless --compromised."""

    async def work() -> str:
        async with common.opened() as (ctx, now):
            path = ctx.settings.site.site.keys
            if compromised:
                ring = ctx.ring.rotate_compromised(now)
            else:
                ring = ctx.ring.rotate(now, now + after_minutes * 60_000)
            credentials.save(path, ring)
            key = ring.keys[-1]
            if compromised:
                counts = await keywork.after_compromise(ctx, ring, common.actor(), now)
                return (
                    f"Key {key.letter} is active now; {counts}. Send SIGHUP to every role, then print new letters for "
                    "those whose letter died."
                )
            async with ctx.store.begin() as tx:
                await audit.record(tx, common.actor(), "keys.rotated", "", None, {"key": key.letter}, now)
            return (
                f"Key {key.letter} becomes active at {common.moment(key.active_from)}. "
                f"Hand {path} to every machine and send SIGHUP before then."
            )

    print(common.run(work()))


def retire(key: Annotated[str, typer.Argument(help="The key's letter, from `keys list`.")]) -> None:
    """Take a key out of use; refused while a live row needs it."""

    async def work() -> str:
        async with common.opened() as (ctx, now):
            kid = next((one.kid for one in ctx.ring.keys if one.letter == key), None)
            if kid is None:
                raise common.Failed(f"no key {key}; `mailbot keys list` shows them")
            async with ctx.store.read() as tx:
                live = await keywork.live_kids(tx)
            try:
                ring = ctx.ring.retire(kid, set(live), now)
            except credentials.RingError as error:
                raise common.Failed(str(error)) from error
            credentials.save(ctx.settings.site.site.keys, ring)
            async with ctx.store.begin() as tx:
                await audit.record(tx, common.actor(), "keys.retired", "", None, {"key": key}, now)
            return f"Key {key} is retired. Send SIGHUP to every role."

    print(common.run(work()))


def dkim(json: common.Json = False) -> None:
    """The DNS record that makes our signatures verifiable, for each sender domain."""

    async def work() -> list[dict[str, Any]]:
        loaded = common.settings()
        app.open_signers(loaded)
        record = dns_record(load_key(app.read_private(loaded.site.dkim.key)))
        domains = sorted({s.addresses.domain for s in loaded.societies.values()})
        return [
            {"name": f"{loaded.site.dkim.selector}._domainkey.{domain}.", "type": "TXT", "value": record}
            for domain in domains
        ]

    rows = common.run(work())
    if json:
        common.show(rows, True)
        return
    for row in rows:
        print(f'{row["name"]} IN TXT ( "{row["value"][:200]}" "{row["value"][200:]}" )')
