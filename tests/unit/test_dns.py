"""Questions to a real resolver: values, what is remembered, and what counts as no answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import pytest

from mailbot.config.site import DnsSection
from mailbot.dns import LookupFailed, Lookups, Resolver
from tests.support.resolver import Unbound, resolver
from tests.support.signing import txt

RECORDS = {
    "a.example": [txt("x" * 300), "A 192.0.2.1", "AAAA 2001:db8::1", "MX 20 two.example.", "MX 10 one.example."],
    "long.example": txt("x" * 4097),
    "null.example": "MX 0 .",
    "1.2.0.192.in-addr.arpa": "PTR a.example.",
}


@pytest.fixture(scope="module")
def unbound() -> Iterator[Unbound]:
    with resolver(RECORDS, failing=["broken.example"]) as running:
        yield running


def lookups(made: Resolver) -> Lookups:
    return made.lookups(20, 5)


def test_values(unbound: Unbound) -> None:
    dns = lookups(Resolver(DnsSection(servers=(unbound.endpoint,))))
    assert dns.txt("A.example.") == [b"x" * 300]
    assert dns.txt("long.example") == []
    assert dns.addresses("a.example") == ["192.0.2.1", "2001:db8::1"]
    assert dns.mx("a.example") == [(10, "one.example"), (20, "two.example")]
    assert dns.mx("null.example") == [(0, "")]
    assert dns.ptr("192.0.2.1") == ["a.example"]
    for name in ("nobody.example", "a..example", "x" * 64 + ".example", "x." * 150, "\\", "\udc80.example"):
        assert dns.txt(name) == []
    assert not dns.failed


def test_a_server_that_is_silent_leaves_time_for_the_next(unbound: Unbound) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        servers = (f"127.0.0.1:{silent.getsockname()[1]}", unbound.endpoint)
        made = Resolver(DnsSection(servers=servers, query_seconds=1))
        assert lookups(made).addresses("a.example") == ["192.0.2.1", "2001:db8::1"]


@pytest.mark.parametrize(("name", "seconds"), [("a.example", 60), ("nobody.example", 300)])
def test_what_is_remembered(unbound: Unbound, name: str, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer for as long as its record says, here 60 s; that there is none as long as the configuration does."""
    made = Resolver(DnsSection(servers=(unbound.endpoint,)))
    first = lookups(made).txt(name)
    now = [0.0]
    monkeypatch.setattr("mailbot.dns.time.monotonic", lambda: now[0])
    made = Resolver(DnsSection(servers=(unbound.endpoint,)))
    asked: list[str] = []
    resolve = made._resolve

    def counted(name: str, kind: str, seconds: float) -> tuple[tuple[Any, ...], float]:
        asked.append(name)
        return resolve(name, kind, seconds)

    monkeypatch.setattr(made, "_resolve", counted)
    for at, times in ((0, 1), (seconds - 1, 1), (seconds + 1, 2)):
        now[0] = float(at)
        assert lookups(made).txt(name) == first
        assert len(asked) == times


def test_a_failure_is_not_remembered(unbound: Unbound) -> None:
    made = Resolver(DnsSection(servers=(unbound.endpoint,)))
    dns = lookups(made)
    for _ in range(2):
        with pytest.raises(LookupFailed):
            dns.txt("broken.example")
    assert dns.failed
    assert not made._kept


RECORD, ALIAS = "x.example. {} IN TXT v", "a.example. {} IN CNAME x.example."
SOA = "example. {} IN SOA a. b. 1 1 1 1 {}"

# what the name server says of a.example -> seconds it is remembered, under limits of 3600 and 300
REPLIES: dict[str, tuple[list[str], str, int]] = {
    "record": (["a.example. 60 IN TXT v"], "", 60),
    "a-long-time": (["a.example. 90000 IN TXT v"], "", 3600),
    "short-alias": ([ALIAS.format(20), RECORD.format(900)], "", 20),
    "short-record": ([ALIAS.format(900), RECORD.format(20)], "", 20),
    "none": ([], SOA.format(900, 40), 40),
    "none-for-long": ([], SOA.format(90_000, 90_000), 300),
    "alias-of-none": ([ALIAS.format(20)], SOA.format(900, 900), 20),
    "nothing": ([], SOA.format(30, 900), 30),
    "nothing-for-long": ([], SOA.format(90_000, 90_000), 300),
}


@pytest.mark.parametrize("name", REPLIES)
def test_how_long_an_answer_holds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aliases end with the shortest of their times (RFC 1034 section 3.6.2), absence with its SOA's (RFC 2308)."""
    answers, authority, seconds = REPLIES[name]
    lines = ["id 1", f"rcode {'NXDOMAIN' if 'nothing' in name else 'NOERROR'}", "flags QR RD RA", ";QUESTION"]
    lines += ["a.example. IN TXT", ";ANSWER", *answers, ";AUTHORITY", authority, ""]
    response = dns.message.from_text("\n".join(lines))
    assert isinstance(response, dns.message.QueryMessage)
    asked = dns.name.from_text("a.example")
    given: dict[str, Any] = {}

    def resolve(*_: Any, **options: Any) -> dns.resolver.Answer:
        given.update(options)
        if "nothing" in name:
            responses = {asked: response}
            raise dns.resolver.NXDOMAIN(qnames=[asked], responses=responses)  # type: ignore[no-untyped-call]  # dnspython
        return dns.resolver.Answer(asked, dns.rdatatype.TXT, dns.rdataclass.IN, response)

    made = Resolver(DnsSection(servers=("127.0.0.1:9",)))
    monkeypatch.setattr(made._resolver, "resolve", resolve)
    now = [0.0]
    monkeypatch.setattr("mailbot.dns.time.monotonic", lambda: now[0])
    found = made.ask("a.example", "TXT", 2)
    assert len(found) == any(" TXT v" in line for line in answers)
    assert made.remembered("a.example", "TXT") == found
    now[0] = seconds - 0.5
    assert made.remembered("A.example.", "TXT") == found
    now[0] = seconds + 0.5
    assert made.remembered("a.example", "TXT") is None
    assert given["lifetime"] == 2
    made.ask("a.example", "TXT", 99)
    assert given["lifetime"] == DnsSection().query_seconds
