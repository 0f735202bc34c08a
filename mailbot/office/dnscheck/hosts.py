"""Names and addresses of our machines: where mail comes in, how the relay greets, and the certificates."""

from __future__ import annotations

import errno
import smtplib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address

from mailbot.office.dnscheck.finding import Finding, Mark, listed, mend, note, ok
from mailbot.office.dnscheck.questions import Dns
from mailbot.office.dnscheck.records import Record

CERTIFICATE_DAYS = 14
_SECONDS = 5.0
_DAY_MS = 86_400_000


def addresses_of(dns: Dns, host: str) -> tuple[str, ...]:
    return (*dns.ask(f"{host}.", "A"), *dns.ask(f"{host}.", "AAAA"))


def _same(one: str, other: str) -> bool:
    return one.removesuffix(".").lower() == other.removesuffix(".").lower()


def address_records(host: str, addresses: Sequence[str]) -> list[Record]:
    return [Record(f"{host}.", "AAAA" if ":" in address else "A", address) for address in addresses]


def host(dns: Dns, name: str, role: str, addresses: Sequence[str]) -> Finding:
    """Has the name an address? `addresses`: what it should be, as far as known."""
    what = f"address {name}"
    if found := addresses_of(dns, name):
        return ok(what, f"{role}: {listed(found)}")
    return mend(what, f"{role}: no A or AAAA record, nobody can reach it", *address_records(name, addresses))


def reverse(dns: Dns, address: str, helo: str) -> Finding:
    """Does the address say the name the relay greets with, and the name that address?"""
    what = f"PTR {address}"
    pointer = Record(ip_address(address).reverse_pointer + ".", "PTR", f"{helo}.")
    forward = [ip_address(text) for text in addresses_of(dns, helo)]
    names = dns.ask(pointer.name, "PTR")
    gmail = "Gmail and the carriers refuse mail of such an address"
    if not names:
        words = f"no record; {gmail}. Whoever gave you the address publishes it"
        return mend(what, words, pointer)
    if not any(_same(name, helo) for name in names):
        words = f"says {listed(names)}, but the relay greets as {helo}: make them one name"
        return mend(what, words, pointer)
    if ip_address(address) not in forward:
        words = f"says {helo}, but {helo} says {listed([str(one) for one in forward]) or 'nothing'}; {gmail}"
        return mend(what, words, *address_records(helo, [address]))
    return ok(what, f"{helo}, and {helo} says {address}")


def _exchanges(dns: Dns, domain: str) -> list[tuple[int, str]]:
    """(preference, host without its final dot), the best first; a host '' means that the domain takes no mail."""
    pairs = (value.partition(" ") for value in dns.ask(f"{domain}.", "MX"))
    return sorted((int(preference), target.removesuffix(".").lower()) for preference, _, target in pairs)


def best(dns: Dns, domain: str) -> list[str]:
    """The servers that mail for this domain is brought to first (RFC 5321 section 5.1)."""
    found = _exchanges(dns, domain)
    return [target for preference, target in found if preference == found[0][0] and target]


def mail_in(dns: Dns, domain: str, own: str, role: str, *, here: bool, behind: bool) -> Finding:
    """Does mail for this domain reach us? `here`: the robot takes it by SMTP, or a server in front (`behind`) does;
    else it lies in a mailbox elsewhere. No line leads mail past a server in front."""
    what = f"MX {domain}"
    record = [Record(f"{domain}.", "MX", f"10 {own}.")] if here and not behind else []
    found = _exchanges(dns, domain)
    if not found:
        return mend(what, f"{role}: no record, so mail to it goes astray", *record)
    if any(not target for _, target in found):  # RFC 7505
        return mend(what, f"{role}: the record says that this domain takes no mail", *record)
    wrong = {target: words for _, target in found if (words := _unfit(dns, target))}
    if wrong:
        good = [Record(f"{domain}.", "MX", f"{number} {target}.") for number, target in found if target not in wrong]
        return mend(what, f"{role}: {'; '.join(wrong.values())}", *(record or good))
    targets = [target for preference, target in found if preference == found[0][0]]
    if all(_same(target, own) for target in targets) or not here:
        return ok(what, f"{role}: {listed([target for _, target in found])}")
    words = f"{role}: {listed(targets)}, not {own}"
    if behind:
        return note(what, f"{words}: right if that server hands the mail to the robot")
    return mend(what, f"{words}: mail to it does not reach the robot", *record)


def _unfit(dns: Dns, target: str) -> str:
    """Why no MX may name this host; '' where one may."""
    if dns.ask(f"{target}.", "CNAME"):
        return f"{target} is an alias, which an MX must not name (RFC 2181 section 10.3)"
    return "" if addresses_of(dns, target) else f"{target} has no address"


_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""This machine has no network of that kind, as often for IPv6: it says nothing about the other end."""


def web_certificate(dns: Dns, name: str, port: int, now: int) -> Finding:
    """The certificate of the pages, as a browser sees it, at each address of the name."""
    what = f"TLS {name}:{port}"
    found = [_web_certificate(what, name, address, port, now) for address in addresses_of(dns, name)]
    if not found:
        return mend(what, "no address to connect to")
    return max(found, key=lambda one: (one.mark is Mark.MEND, one.mark is Mark.OK))


def _web_certificate(what: str, name: str, address: str, port: int, now: int) -> Finding:
    try:
        with socket.create_connection((address, port), _SECONDS) as plain:
            found = _lasting(what, _expiry(plain, name), now)
            return found if found.mark is Mark.OK else replace(found, words=f"{found.words} (at {address})")
    except ssl.SSLCertVerificationError as error:
        return mend(what, f"browsers refuse the certificate at {address}: {error.verify_message}")
    except OSError as error:
        if error.errno in _NO_WAY:
            return note(what, f"{address} not looked at, this machine cannot reach it: {error}")
        return mend(what, f"no TLS at {address}: {error}")


def front_certificate(dns: Dns, target: str, now: int, port: int = 25) -> Finding:
    """STARTTLS of the server in front that takes the mail, as a sending server sees it, at the first of its addresses
    that answers here."""
    what = f"TLS {target}, SMTP"
    found = [note(what, "not looked at, it has no address")]
    for address in addresses_of(dns, target):
        found.append(_starttls(what, (address, port), target, now, "can this machine reach port 25 elsewhere?"))
        if found[-1].mark is not Mark.NOTE:
            break
    return found[-1]


def smtp_certificate(endpoint: tuple[str, int], name: str, now: int) -> Finding:
    """The certificate of our own listener, as a sending server sees it."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(endpoint[0], endpoint[0])  # noqa: S104  # compared, not bound
    what = f"TLS {name}, SMTP {address}:{endpoint[1]}"
    return _starttls(what, (address, endpoint[1]), name, now, "is the robot running?")


def _starttls(what: str, endpoint: tuple[str, int], name: str, now: int, silent: str) -> Finding:
    """`silent`: what to ask oneself where nobody answers."""
    try:
        with smtplib.SMTP(*endpoint, "check.invalid", _SECONDS) as smtp:
            smtp.ehlo()
            if not smtp.has_extn("starttls") or smtp.docmd("STARTTLS")[0] != 220 or smtp.sock is None:
                return mend(what, "the listener offers no STARTTLS: senders deliver unencrypted, some not at all")
            return _lasting(what, _expiry(smtp.sock, name), now)
    except ssl.SSLCertVerificationError as error:
        return mend(what, f"careful senders refuse the certificate: {error.verify_message}")
    except (OSError, smtplib.SMTPException) as error:
        return note(what, f"not looked at, the listener does not answer ({error}): {silent}")


def _expiry(plain: socket.socket, name: str) -> int:
    """ms. Raises OSError, and SSLCertVerificationError for a certificate that is not good for this name."""
    with ssl.create_default_context().wrap_socket(plain, server_hostname=name) as secure:
        certificate = secure.getpeercert()
    assert certificate is not None  # the context verifies
    return int(ssl.cert_time_to_seconds(str(certificate["notAfter"]))) * 1000


def _lasting(what: str, until: int, now: int) -> Finding:
    day = datetime.fromtimestamp(until / 1000, UTC).strftime("%Y-%m-%d")
    if until < now + CERTIFICATE_DAYS * _DAY_MS:
        return mend(what, f"the certificate ends on {day}, in less than {CERTIFICATE_DAYS} days: renew it")
    return ok(what, f"a certificate for this name, good until {day}")
