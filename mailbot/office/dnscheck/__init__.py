"""Does the world's DNS say what our mail needs? What each name should have, what is there instead, and the line of a
zone file that mends it. Looks from outside only: no database, no secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from mailbot.config import Settings, split_endpoint
from mailbot.dns import LookupFailed
from mailbot.mail.dkim import Key
from mailbot.office.dnscheck import hosts, senders
from mailbot.office.dnscheck.finding import Finding, Mark, mend, note
from mailbot.office.dnscheck.questions import Answers, Dns

__all__ = ["Answers", "Dns", "Finding", "Mark", "examine"]


FAILED_IN_A_ROW = 2
"""Looks without an answer after which the DNS as a whole is taken to be away."""


def examine(
    settings: Settings, keys: Mapping[str, Key], dns: Dns, *, helo: str, addresses: Sequence[str], now: int
) -> Iterator[Finding]:
    """Everything about this installation. `keys`: selector -> key, those that sign and others. `helo`: the name the
    outgoing mail server greets with; `addresses`: where its mail comes from, those of `helo` when empty. `now` in ms.
    """
    failed = 0
    for what, look in _looks(settings, keys, dns, helo, addresses, now):
        try:
            found = unaliased(dns, look())
            failed = 0
        except LookupFailed as error:
            found = mend(what, f"the DNS does not answer ({error}): ask again, or see dns.servers")
            failed += 1
        yield found
        if failed == FAILED_IN_A_ROW:
            yield mend("DNS", "nothing more was asked, since it does not answer: see dns.servers")
            return


def unaliased(dns: Dns, found: Finding) -> Finding:
    """Nothing can stand beside a CNAME (RFC 1034 section 3.6.2): the words say so where a line to paste would. Of a
    reverse name it is how a part of a network is handed on (RFC 2317), and stays."""
    names = dict.fromkeys(line.partition(" ")[0] for line in found.paste if " IN PTR " not in line)
    aliases = [name.removesuffix(".") for name in names if dns.ask(name, "CNAME")]
    if not aliases:
        return found
    first = f"First remove the CNAME at {', '.join(aliases)}: nothing can stand beside it"
    return replace(found, words=f"{found.words}. {first}")


Look = tuple[str, Callable[[], Finding]]


def _looks(
    settings: Settings, keys: Mapping[str, Key], dns: Dns, helo: str, addresses: Sequence[str], now: int
) -> Iterator[Look]:
    """What there is to look at, and how; a look that fails harms no other."""
    site = settings.site
    signing = (site.dkim.selector, site.dkim.ed25519_selector)
    yield f"address {helo}", partial(hosts.host, dns, helo, "outgoing mail", addresses)
    if not addresses:
        with suppress(LookupFailed):  # the look before this has said so
            addresses = hosts.addresses_of(dns, helo)
        taken = ", ".join(addresses) or "an address nobody knows"
        words = f"taken to come from {taken}, as the DNS says of {helo}; give --address where that is wrong"
        yield "outgoing mail", partial(note, "outgoing mail", words)
    for address in addresses:
        yield f"PTR {address}", partial(hosts.reverse, dns, address, helo)
    yield f"SPF {helo}", partial(senders.spf, dns, helo, "greeting", addresses, helo, greeting=True)
    yield from _certificates(settings, dns, now)
    behind = bool(site.smtp.lmtp_listen or site.smtp.trusted_peers or site.authentication.upstream_peers)
    here = {domain_of(address) for address in _addresses(settings) if address not in _elsewhere(settings)}
    if behind:
        targets: list[str] = []
        with suppress(LookupFailed):  # the look at the MX says so
            targets += dict.fromkeys(target for domain in sorted(here) for target in hosts.best(dns, domain))
        for target in targets:
            yield f"TLS {target}, SMTP", partial(hosts.front_certificate, dns, target, now)
    for domain, roles in _roles(settings).items():
        role = ", ".join(roles)
        if not {"sender", "bounces"}.isdisjoint(roles):
            yield f"SPF {domain}", partial(senders.spf, dns, domain, role, addresses, helo)
        if "sender" in roles:
            for selector, key in keys.items():
                what = f"DKIM {selector}._domainkey.{domain}"
                yield what, partial(senders.dkim, dns, domain, selector, key, signs=selector in signing)
            yield f"DMARC {domain}", partial(senders.dmarc, dns, domain)
        look = partial(hosts.mail_in, dns, domain, site.site.host, role, here=domain in here, behind=behind)
        yield f"MX {domain}", look


def _certificates(settings: Settings, dns: Dns, now: int) -> Iterator[Look]:
    url = urlsplit(settings.site.site.web_url)
    name = url.hostname or ""
    if url.scheme == "https":
        yield f"address {name}", partial(hosts.host, dns, name, "pages", ())
        yield f"TLS {name}", partial(hosts.web_certificate, dns, name, url.port or 443, now)
    else:
        words = f"{settings.site.site.web_url} is for this machine only: members need https"
        yield "pages", partial(note, "pages", words)
    smtp, own = settings.site.smtp, settings.site.site.host
    if smtp.tls_certificate == Path():
        words = "the robot offers none (smtp.tls_certificate): right only behind a mail server that does"
        yield "STARTTLS", partial(note, "STARTTLS", words)
        return
    for endpoint in smtp.listen:
        yield f"TLS {own}, SMTP {endpoint}", partial(hosts.smtp_certificate, split_endpoint(endpoint), own, now)


def _addresses(settings: Settings) -> dict[str, str]:
    """Address -> what it is for, of all societies."""
    return {
        address: role
        for society in settings.societies.values()
        for address, role in (
            (society.addresses.robot, "sender"),
            (society.addresses.help, "help desk"),
            (society.addresses.registration, "blank mails"),
            (society.addresses.bounce, "bounces"),
        )
        if address
    }


def _elsewhere(settings: Settings) -> set[str]:
    """Addresses whose mail lies in a mailbox elsewhere."""
    return {address for mailbox in settings.site.imap.values() for address in mailbox.addresses}


def domain_of(address: str) -> str:
    return address.rpartition("@")[2]


def _roles(settings: Settings) -> dict[str, list[str]]:
    """Domain -> what its addresses are for; a help desk's address is a sender too."""
    found: dict[str, list[str]] = {}
    for address, role in _addresses(settings).items():
        roles = found.setdefault(domain_of(address), [])
        roles += [one for one in (("sender", role) if role == "help desk" else (role,)) if one not in roles]
    return found
