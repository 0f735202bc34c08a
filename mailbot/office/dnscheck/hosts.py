"""Names and addresses of our machines: where mail comes in, how the relay greets, and the certificates."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address

from mailbot.office.dnscheck.finding import Finding, listed, mend, note, ok
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


def mail_in(dns: Dns, domain: str, own: str, role: str, *, here: bool, behind: bool) -> Finding:
    """Does mail for this domain reach us? `here`: the robot takes it by SMTP, or a server in front (`behind`) does;
    else it lies in a mailbox elsewhere."""
    what = f"MX {domain}"
    record = Record(f"{domain}.", "MX", f"10 {own}.")
    found = dns.ask(f"{domain}.", "MX")
    if not found:
        return mend(what, f"{role}: no record, so mail to it goes astray", *([record] if here else []))
    targets = [value.partition(" ")[2] for value in sorted(found, key=lambda value: int(value.partition(" ")[0]))]
    if "." in targets:  # RFC 7505
        return mend(what, f"{role}: the record says that this domain takes no mail", *([record] if here else []))
    for target in targets:
        if dns.ask(target, "CNAME"):
            words = f"{role}: {listed([target])} is an alias, which an MX must not name (RFC 2181 section 10.3)"
            return mend(what, words, *([record] if here else []))
        if not addresses_of(dns, target.removesuffix(".")):
            return mend(what, f"{role}: {listed([target])} has no address", *([record] if here else []))
    if any(_same(target, own) for target in targets) or not here:
        return ok(what, f"{role}: {listed(targets)}")
    words = f"{role}: {listed(targets)}, not {own}"
    if behind:
        return note(what, f"{words}: right if that server hands the mail to the robot")
    return mend(what, f"{words}: blank mails do not reach the robot", record)


def web_certificate(dns: Dns, name: str, port: int, now: int) -> Finding:
    """The certificate of the pages, as a browser sees it."""
    what = f"TLS {name}:{port}"
    found = addresses_of(dns, name)
    if not found:
        return mend(what, "no address to connect to")
    try:
        with socket.create_connection((found[0], port), _SECONDS) as plain:
            return _lasting(what, _expiry(plain, name), now)
    except ssl.SSLCertVerificationError as error:
        return mend(what, f"browsers refuse the certificate: {error.verify_message}")
    except OSError as error:
        return mend(what, f"no TLS at {found[0]}: {error}")


def smtp_certificate(endpoint: tuple[str, int], name: str, now: int) -> Finding:
    """The certificate of our own listener, as a sending server sees it."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(endpoint[0], endpoint[0])  # noqa: S104  # compared, not bound
    what = f"TLS {name}, SMTP {address}:{endpoint[1]}"
    try:
        with smtplib.SMTP(address, endpoint[1], "check.invalid", _SECONDS) as smtp:
            smtp.ehlo()
            if not smtp.has_extn("starttls") or smtp.docmd("STARTTLS")[0] != 220 or smtp.sock is None:
                return mend(what, "the listener offers no STARTTLS: senders deliver unencrypted, some not at all")
            return _lasting(what, _expiry(smtp.sock, name), now)
    except ssl.SSLCertVerificationError as error:
        return mend(what, f"careful senders refuse the certificate: {error.verify_message}")
    except (OSError, smtplib.SMTPException) as error:
        return note(what, f"not looked at, the listener does not answer ({error}): is the robot running?")


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
