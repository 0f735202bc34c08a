"""`mailbot check`: would the robot start, and would its mail arrive?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, cast

import typer

from mailbot import app, dkimkeys
from mailbot.cli import common
from mailbot.cli.queue import held_words
from mailbot.config import ConfigError, Settings
from mailbot.config.site import DnsSection, Site, SmtpSection
from mailbot.delivery.relays import RelayProblem, servers
from mailbot.delivery.server import reach
from mailbot.dns import LookupFailed, Resolver
from mailbot.intake.imap import login_problem
from mailbot.intake.smtp import tls_context
from mailbot.office.dnscheck import Answers, examine
from mailbot.private import StartProblem
from mailbot.registration import stops


def register(command: typer.Typer) -> None:
    command.command()(check)


Row = dict[str, object]
"""`what`, `ok`, `mark` (ok, NOTE, MEND), `words`, and `paste`: lines for a zone file."""


def check(
    json: common.Json = False,
    dns: Annotated[
        bool, typer.Option("--dns", help="Ask the DNS instead: does our mail look genuine, does mail reach us?")
    ] = False,
    address: Annotated[
        list[str] | None, typer.Option("--address", help="With --dns: where our mail leaves from; may be repeated.")
    ] = None,
    helo: Annotated[str, typer.Option(help="With --dns: the relay's name, where it is not site.host.")] = "",
) -> None:
    """Configuration, templates, database, keys, DNS, relay, mailboxes; with --dns what the world sees of us. Status 1
    when something must be mended."""
    found = _dns(address or [], helo) if dns else common.run(_collect())
    if json:
        common.show(found, True)
    else:
        for row in found:
            _print(row)
    if not all(row["ok"] for row in found):
        raise typer.Exit(1)


def _print(row: Row) -> None:
    style = {"MEND": "bold red", "NOTE": "red"}.get(str(row["mark"]))
    common.out.print(f"{row['mark']:<4}  {row['what']}: {row['words']}", style=style, markup=False)
    for line in cast(tuple[str, ...], row["paste"]):
        common.out.print(f"      {line}", markup=False)


async def _collect() -> list[Row]:
    checked = [_row(what, "ok" if ok else "MEND", words) async for what, ok, words in _checks()]
    with suppress(ConfigError):  # it stands among the checks
        settings = common.settings()
        checked += [_row("sender authentication", "NOTE", words) for words in _unvouched(settings.site)]
        checked += [_row("mail in", "NOTE", words) for words in _without_a_way_in(settings)]
    return checked


def _row(what: str, mark: str, words: str, paste: tuple[str, ...] = ()) -> Row:
    return {"what": what, "ok": mark != "MEND", "mark": mark, "words": words, "paste": paste}


def _dns(addresses: list[str], helo: str) -> list[Row]:
    try:
        settings = common.settings()
        keys = dkimkeys.dkim_keys(settings)
        known = [str(ip_address(address)) for address in addresses]
    except (ConfigError, StartProblem) as error:
        raise common.fail(error) from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--address") from None
    found = examine(
        settings,
        keys,
        Answers(settings.site.dns),
        helo=(helo or settings.site.site.host).lower().removesuffix("."),
        addresses=known,
        now=time.time_ns() // 1_000_000,
    )
    missing = [_row("DKIM key", "MEND", words) for words in dkimkeys.missing_keys(settings)]
    return [*missing, *(_row(one.what, one.mark, one.words, one.paste) for one in found)]


def _unvouched(site: Site) -> list[str]:
    """Ways in whose mail nobody vouches for: its senders count as real, or share the small budgets of the unproved."""
    forged = "so a forged sender counts as the member, and anybody has letters sent to anybody"
    few = "so every member counts as unproved, and few of them are answered in an hour (budgets.unproved_percent)"
    said = []
    known = site.authentication
    if known.mode == "observe":
        return [f"what SPF, DKIM and DMARC say decides nothing (mode observe), {forged}: meant for the first days only"]
    if known.mode == "off" and known.peers and site.relay.url != "capture:":
        said.append(f"mail from {', '.join(known.peers)} is not checked (mode off), {forged}: meant for tests only")
    through = [*known.upstream_peers, *(f"LMTP {endpoint}" for endpoint in site.smtp.lmtp_listen)]
    if through and not known.authserv_id:
        said.append(f"authentication.authserv_id is empty: mail through {', '.join(through)} cannot be "
                    f"checked for SPF, {few}; have that server write Authentication-Results and name it")  # fmt: skip
    said += [
        f"imap.{name}.authserv_id is empty: nobody says who wrote the mail in that mailbox, {few}; name the provider's"
        for name, mailbox in site.imap.items()
        if not mailbox.authserv_id
    ]
    return said


def _without_a_way_in(settings: Settings) -> Iterator[str]:
    """Addresses of societies whose mail reaches no robot: there is no door, or the domain's mail lies in a mailbox that
    lists none of that society's; with any of them, reports and questions come along."""
    smtp = settings.site.smtp
    listed = {address.lower() for mailbox in settings.site.imap.values() for address in mailbox.addresses}
    elsewhere = {address.rpartition("@")[2] for address in listed}
    for society in settings.societies.values():
        known = society.addresses
        if not listed.isdisjoint(str(address).lower() for address in known.model_dump().values()):
            continue
        for address, lost in ((known.bounce, "every delivery report"), (known.help, "every mail to the help desk")):
            shut = not (smtp.listen or smtp.lmtp_listen)
            if address and (shut or address.rpartition("@")[2].lower() in elsewhere):
                yield (f"{society.id}: no [imap.*].addresses lists an address of this society, so {lost} to {address} "
                       "is lost, unless a server hands it to us by SMTP or LMTP")  # fmt: skip


async def _resolver(section: DnsSection) -> tuple[str, bool, str]:
    """Whether the DNS answers at all; asked for the root, which every resolver knows."""
    who = ", ".join(section.servers) or "this machine's resolver"
    try:
        await asyncio.to_thread(Resolver(section).ask, "", "NS", float(section.query_seconds))
    except LookupFailed as error:
        mend = "no sender can be checked, so blank mails get 451: see dns.servers"
        return "DNS", False, f"{who} does not answer ({error}): {mend}"
    return "DNS", True, f"{who} answers"


def _starttls(smtp: SmtpSection) -> tuple[str, bool, str]:
    try:
        tls_context(smtp)
    except OSError as error:
        return "STARTTLS", False, f"not offered: {smtp.tls_certificate} cannot be used with its key: {error}"
    return "STARTTLS", True, f"{smtp.tls_certificate} and its key can be used"


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
        if dkimkeys.lying_keys(settings):
            dkimkeys.open_signer(settings)
            selectors = [selector for selector, _ in dkimkeys.signing(settings)]
            yield "DKIM", True, f"signs with {' and '.join(selectors)}; `mailbot check --dns` compares with the DNS"
        else:
            yield "DKIM", True, "no key yet: the first start makes it, or before it `mailbot keys dkim --make`"
    except StartProblem as error:
        for text in error.problems:
            yield "database and keys", False, text
    if settings.site.smtp.tls_certificate != Path():
        yield _starttls(settings.site.smtp)
    if settings.site.authentication.mode != "off" or settings.site.relay.url != "capture:":
        yield await _resolver(settings.site.dns)
    async for found in _relays(settings):
        yield found
    for name, mailbox in settings.site.imap.items():
        trouble = await login_problem(mailbox)
        yield f"mailbox {name}", not trouble, trouble or f"{mailbox.user} can read {mailbox.folder} at {mailbox.host}"


async def _relays(settings: Settings) -> AsyncIterator[tuple[str, bool, str]]:
    section = settings.site.relay
    if section.url == "capture:":
        yield "relay", True, "capture: every mail stays in memory, nothing leaves this machine"
    try:
        found = servers(section, settings.site.site.host)
    except RelayProblem as error:
        yield "relay", False, str(error)
        return
    for number, server in enumerate(found):
        senders = sorted({society.addresses.bounce for society in settings.societies.values()})
        ok, words = await reach(server, senders, min(10, section.timeout_seconds))
        yield f"fallback relay {number}" if number else "relay", ok, words
