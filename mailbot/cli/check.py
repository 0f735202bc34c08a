"""`mailbot check`: would the robot start, and would its mail arrive?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address

import typer

from mailbot import app
from mailbot.cli import common
from mailbot.cli.queue import held_words
from mailbot.config import ConfigError, Settings, split_endpoint
from mailbot.registration import stops


def register(command: typer.Typer) -> None:
    command.command()(check)


def check(json: common.Json = False) -> None:
    """Configuration, templates, database, keys and relay. Status 1 when something must be mended."""
    found = common.run(_collect())
    if json:
        common.show(found, True)
    else:
        for row in found:
            print(f"{'ok  ' if row['ok'] else 'MEND'}  {row['what']}: {row['words']}")
    if not all(row["ok"] for row in found):
        raise typer.Exit(1)


async def _collect() -> list[dict[str, object]]:
    return [{"what": what, "ok": ok, "words": words} async for what, ok, words in _checks()]


async def _checks() -> AsyncIterator[tuple[str, bool, str]]:
    try:
        settings = common.settings()
    except ConfigError as error:
        for problem in error.problems:
            yield "configuration", False, str(problem)
        return
    yield "configuration", True, f"{len(settings.societies)} societies: {', '.join(settings.societies)}"
    templates = app.problems(settings, app.build_letters(settings))
    for text in templates:
        yield "templates and journeys", False, text
    if not templates:
        yield "templates and journeys", True, "every letter of every society renders"
    try:
        async with common.opened(settings) as (ctx, now):
            yield "database", True, f"{ctx.store.dialect}, schema up to date"
            async with ctx.store.read() as tx:
                held = held_words(await stops.held(tx))
            yield "outgoing mail", not held, "; ".join(held) or "leaves as it comes"
            yield "keys", True, f"ring {ctx.ring.fingerprint()[:8]}, active key {ctx.ring.active(now).letter}"
        app.open_signer(settings)
        yield "DKIM key", True, f"selector {settings.site.dkim.selector}; `mailbot keys dkim` prints its DNS record"
    except app.StartProblem as error:
        for text in error.problems:
            yield "database and keys", False, text
    yield await _relay(settings)


async def _relay(settings: Settings) -> tuple[str, bool, str]:
    url = settings.site.relay.url
    if url == "capture:":
        return "relay", True, "capture: every mail stays in memory, nothing leaves this machine"
    host, port = split_endpoint(url.removeprefix("smtp://"))
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(host, port)
            greeting = (await reader.readline()).decode("ascii", "replace").strip()
            peer = ip_address(writer.get_extra_info("peername")[0])
            writer.write(b"QUIT\r\n")
            writer.close()
    except (OSError, TimeoutError) as error:
        words = f"{host}:{port} does not answer ({error or 'no greeting in 5 s'})"
        return "relay", False, f"{words}: is the mail server running, is relay.url right?"
    if not peer.is_private:
        words = f"{host}:{port} is on the internet, and mail would go to it unencrypted"
        return "relay", False, f"{words}: name a mail server on this machine or in your own network"
    return "relay", greeting.startswith("220"), f"{host}:{port} says {greeting}"
