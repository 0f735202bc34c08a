"""Questions to the DNS, as an administrator asks them: fresh, one after the other."""

from __future__ import annotations

from types import FunctionType
from typing import Any, Protocol

import dns.exception
import dns.nameserver
import dns.resolver
import spf

from mailbot.config import split_endpoint
from mailbot.config.site import DnsSection


class LookupFailed(Exception):
    """The DNS gave no answer, which says nothing about what is there."""


class Dns(Protocol):
    """What the checks ask."""

    def ask(self, name: str, kind: str) -> tuple[str, ...]:
        """Values of the records of this type, CNAMEs followed; () where there are none. TXT in one piece, hosts with
        their final dot, MX as `10 host.`. Raises LookupFailed."""


class FreshDns:
    """Asks anew each time: what was just mended must show."""

    def __init__(self, section: DnsSection) -> None:
        self._resolver = dns.resolver.Resolver(configure=not section.servers)
        self._resolver.lifetime = float(section.query_seconds)
        if section.servers:
            self._resolver.nameservers = [_server(text) for text in section.servers]

    def ask(self, name: str, kind: str) -> tuple[str, ...]:
        try:
            answer = self._resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return ()
        except (dns.exception.DNSException, OSError) as error:
            raise LookupFailed(f"{name} {kind}: {error}") from error
        if kind == "TXT":
            return tuple(b"".join(record.strings).decode("utf-8", "replace") for record in answer)
        return tuple(record.to_text() for record in answer)


def _server(text: str) -> dns.nameserver.Nameserver:
    host, port = split_endpoint(text) if text.count(":") == 1 or text.startswith("[") else (text, 53)
    return dns.nameserver.Do53Nameserver(host, port)


class _Query(spf.query):  # type: ignore[misc]  # pyspf has no types
    """pyspf on our DNS. It keeps its resolver in a global; its method is rebuilt over names of its own."""

    def __init__(self, answers: Dns, **facts: Any) -> None:
        super().__init__(**facts)
        names = {**vars(spf), "DNSLookup": self._lookup}
        self._dns = FunctionType(spf.query.dns.__code__, names, "dns", spf.query.dns.__defaults__)
        self._answers = answers

    def dns(self, *args: Any, **named: Any) -> Any:
        return self._dns(self, *args, **named)

    def _lookup(self, name: str, kind: str, _strict: object, _timeout: float) -> list[tuple[tuple[str, str], Any]]:
        try:
            values = self._answers.ask(name, kind)
        except LookupFailed as error:
            raise spf.TempError(str(error)) from error
        return [((name, kind), _as_pyspf(kind, value)) for value in values]


def _as_pyspf(kind: str, value: str) -> Any:
    if kind == "MX":
        preference, _, host = value.partition(" ")
        return int(preference), host.removesuffix(".")
    if kind == "TXT":
        return (value.encode("utf-8"),)
    return value.removesuffix(".")


def spf_result(answers: Dns, address: str, sender: str, helo: str) -> tuple[str, str]:
    """(result, words) of RFC 7208 for mail from this address; `sender` '' asks about the HELO name itself."""
    result, _, words = _Query(answers, i=address, s=sender, h=helo).check()
    return str(result), str(words).removeprefix("SPF Permanent Error: ")
