"""Questions to a real resolver: values, what is remembered, and what counts as no answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

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
