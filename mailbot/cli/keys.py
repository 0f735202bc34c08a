"""`mailbot keys`: the ring behind links, letters and sealed columns, and the DKIM keys."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mailbot import audit, credentials, dkimkeys
from mailbot.cli import common
from mailbot.config import Settings
from mailbot.mail.dkim import Key, generate_key, next_selector
from mailbot.office import keywork
from mailbot.office.dnscheck.records import dkim_records, zone_line
from mailbot.private import StartProblem, write_private

ACTIVATION_MINUTES = 10


def register(command: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="The key ring and the DKIM keys.")
    group.command("list")(list_)
    group.command("rotate")(rotate)
    group.command("retire")(retire)
    group.command("dkim")(dkim)
    group.command("dkim-rotate")(dkim_rotate)
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


def dkim(
    json: common.Json = False,
    make: Annotated[
        bool,
        typer.Option("--make", help="Make signing keys that are missing. Not on a second machine: copy them there."),
    ] = False,
) -> None:
    """The DNS records that make our signatures verifiable: every key for every sender domain."""
    loaded = common.settings()
    if make:
        dkimkeys.make_keys(loaded)
    elif missing := dkimkeys.missing_keys(loaded):
        raise common.fail(StartProblem(missing))
    _show_keys(loaded, json)


def dkim_rotate(json: common.Json = False) -> None:
    """Make the next DKIM keys beside those that sign, and print what to publish before they do."""
    loaded = common.settings()
    lines = []
    for (old, kind), option in zip(dkimkeys.signing(loaded), ("selector", "ed25519_selector"), strict=False):
        new = next_selector(old)
        while _taken(loaded, new, kind):
            new = next_selector(new)
        path = loaded.site.dkim.file(new)
        if not path.exists():
            write_private(path, generate_key(ed25519=option != "selector"))
        lines.append(f'{option} = "{new}"')
    _show_keys(loaded, json)
    if not json:
        print(
            "\n; Publish the records above, wait until `mailbot check --dns` calls them ok, then write under [dkim]:",
            *(f";   {line}" for line in lines),
            "; and reload the robot. Former records stay for 7 days: mails signed with them are still on their way.",
            sep="\n",
        )
    for words in dkimkeys.missing_keys(loaded):
        common.err.print(f"until then the robot does not start: {words}", markup=False)


def _taken(loaded: Settings, selector: str, kind: type[Key]) -> bool:
    """Whether this name signs already, or belongs to a key of the other kind."""
    path = loaded.site.dkim.file(selector)
    signs = selector in (old for old, _ in dkimkeys.signing(loaded))
    return signs or (path.exists() and not isinstance(dkimkeys.read_key(path), kind))


def _show_keys(loaded: Settings, json: bool) -> None:
    async def work() -> list[dict[str, Any]]:
        section = loaded.site.dkim
        return [
            {
                **record.row(),
                "signs": selector in (section.selector, section.ed25519_selector),
            }
            for selector, key in dkimkeys.dkim_keys(loaded).items()
            for record in dkim_records(loaded.societies.values(), selector, key)
        ]

    rows = common.run(work())
    if json:
        common.show(rows, True)
        return
    for signs in (True, False):
        chosen = [row for row in rows if row["signs"] is signs]
        if chosen and not signs:
            print("; these do not sign (yet, or any more):")
        for row in chosen:
            print(zone_line(row["name"], row["type"], row["value"]))
