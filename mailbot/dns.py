"""Questions to the DNS: cached, counted, and over in time. Everything here blocks, and is safe to use from threads.

What is not there is an empty answer; only a question that nobody answered is an exception.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from threading import Lock
from typing import Any

import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.reversename

from mailbot.config.site import DnsSection
from mailbot.telemetry import LOOKUPS

CACHED = 20_000
"""Answers kept at a time."""
PORT = 53
PAYLOAD = 1232  # octets in one UDP packet that no path cuts into pieces; more comes over TCP
MOST_TEXT = 4096  # octets of a TXT record that anybody could mean: readers further on take their time for longer ones

Answer = tuple[Any, ...]
"""Records (rdata) of one name and type."""


class LookupFailed(Exception):
    """No answer: a name server with a fault, silence, or too many questions. Later there may be one."""


def server(text: str) -> dns.nameserver.Nameserver:
    """`address`, `address:port` or `[v6]:port`. Raises ValueError."""
    address, port = text, PORT
    if text.startswith("[") or text.count(":") == 1:
        host, _, number = text.rpartition(":")
        address, port = host.strip("[]"), int(number)
    return dns.nameserver.Do53Nameserver(address, port)


def _configure(made: dns.resolver.Resolver) -> None:
    try:
        made.read_resolv_conf("/etc/resolv.conf")
    except (dns.resolver.NoResolverConfiguration, OSError):
        made.nameservers = ["127.0.0.1"]  # resolv.conf(5): the machine itself, where no file names another


class Resolver:
    """Lifetime: one process. Keeps answers as long as their records allow, within the configuration's limits."""

    def __init__(self, section: DnsSection) -> None:
        self._section = section
        self._resolver = dns.resolver.Resolver(configure=False)
        if section.servers:
            self._resolver.nameservers = [server(text) for text in section.servers]
        else:
            _configure(self._resolver)
        self._resolver.use_edns(0, 0, PAYLOAD)
        # Each server has its share, so that one that is down leaves time for the next; one more is for a lost packet.
        self._resolver.timeout = section.query_seconds / (len(self._resolver.nameservers) + 1)
        self._kept: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()
        self._lock = Lock()

    def lookups(self, limit: int, seconds: float) -> Lookups:
        """At most `limit` questions (those answered from memory count, too), all answered within `seconds`."""
        return Lookups(self, limit, seconds)

    def remembered(self, name: str, kind: str) -> Answer | None:
        """What was answered lately."""
        key = (name.lower().rstrip("."), kind)
        with self._lock:
            until, answer = self._kept.get(key, (0.0, ()))
            if until <= time.monotonic():
                return None
            self._kept.move_to_end(key)
        LOOKUPS.labels("remembered").inc()
        return answer

    def ask(self, name: str, kind: str, seconds: float) -> Answer:
        """The records, aliases followed. Raises LookupFailed."""
        key = (name.lower().rstrip("."), kind)
        known, now = self.remembered(*key), time.monotonic()
        if known is not None:
            return known
        answer, keep = self._resolve(key[0], kind, seconds)
        with self._lock:
            self._kept[key] = (now + keep, answer)
            self._kept.move_to_end(key)
            if len(self._kept) > CACHED:
                self._kept.popitem(last=False)
        return answer

    def _resolve(self, name: str, kind: str, seconds: float) -> tuple[Answer, float]:
        """(records, seconds to keep them)."""
        negative = float(self._section.negative_cache_seconds)
        try:
            absolute = dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError):  # hostile names
            return (), negative
        try:
            found = self._resolver.resolve(
                absolute,
                kind,
                lifetime=min(seconds, self._section.query_seconds),
                raise_on_no_answer=False,
                search=False,
            )
        except dns.resolver.NXDOMAIN as none:
            LOOKUPS.labels("nothing").inc()
            return (), _negative(none, negative)
        except dns.resolver.YXDOMAIN:
            LOOKUPS.labels("nothing").inc()
            return (), negative
        except (dns.exception.DNSException, OSError) as error:
            LOOKUPS.labels("timeout" if isinstance(error, dns.exception.Timeout) else "failed").inc()
            raise LookupFailed(f"{kind} {name}: {type(error).__name__}") from error
        LOOKUPS.labels("nothing" if found.rrset is None else "answer").inc()
        # the shortest of all aliases and records, or of the SOA where there is none
        lasting = float(found.chaining_result.minimum_ttl)
        if found.rrset is None:
            return (), min(negative, lasting)
        return tuple(found.rrset), min(lasting, float(self._section.cache_seconds))


def _negative(none: dns.resolver.NXDOMAIN, most: float) -> float:
    """Seconds for which a name is not there: as long as its SOA says (RFC 2308 section 5)."""
    with contextlib.suppress(dns.exception.DNSException):
        for response in none.kwargs["responses"].values():
            most = min(most, float(response.resolve_chaining().minimum_ttl))
    return most


class Lookups:
    """The questions of one task. Raises LookupFailed from each method when there is no answer, or no time or number
    left; `failed` remembers that it did, `answered` that a name server gave an answer now."""

    def __init__(self, resolver: Resolver, limit: int, seconds: float) -> None:
        self._resolver = resolver
        self._left = limit
        self._end = time.monotonic() + seconds
        self.failed = self.answered = False
        self._known: dict[tuple[str, str], Answer | LookupFailed] = {}

    def records(self, name: str, kind: str) -> Answer:
        """Records of any type, as dnspython has them. The same question is asked once, and fails once."""
        key = name.lower().rstrip("."), kind
        known = self._known.get(key)
        if known is None:
            try:
                known = self._ask(*key)
            except LookupFailed as failed:
                self.failed, known = True, failed
            self._known[key] = known
        if isinstance(known, LookupFailed):
            raise LookupFailed(*known.args)
        return known

    def _ask(self, name: str, kind: str) -> Answer:
        self._left -= 1
        seconds = self._end - time.monotonic()
        if self._left < 0 or seconds <= 0:
            LOOKUPS.labels("over-limit").inc()
            raise LookupFailed("too many look-ups" if self._left < 0 else "no time left")
        remembered = self._resolver.remembered(name, kind)
        if remembered is not None:
            return remembered
        found = self._resolver.ask(name, kind, seconds)
        self.answered = True
        return found

    def txt(self, name: str) -> list[bytes]:
        """TXT records, the strings of each joined (RFC 7208 section 3.3); none of more than 4 KiB."""
        texts = (b"".join(record.strings) for record in self.records(name, "TXT"))
        return [text for text in texts if len(text) <= MOST_TEXT]

    def addresses(self, name: str) -> list[str]:
        """A and AAAA."""
        return [record.address for kind in ("A", "AAAA") for record in self.records(name, kind)]

    def mx(self, name: str) -> list[tuple[int, str]]:
        """(preference, host) in order of preference; a host of "" is the null MX (RFC 7505)."""
        return sorted((r.preference, r.exchange.to_text().removesuffix(".")) for r in self.records(name, "MX"))

    def ptr(self, address: str) -> list[str]:
        """Names of an IP address. Raises ValueError for what is none."""
        try:
            name = dns.reversename.from_address(address).to_text()
        except dns.exception.SyntaxError as error:
            raise ValueError(f"{address!r} is no IP address") from error
        return [record.target.to_text(omit_final_dot=True) for record in self.records(name, "PTR")]
