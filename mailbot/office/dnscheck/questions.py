"""Questions to the DNS, as an administrator asks them."""

from __future__ import annotations

from typing import Any, Protocol

from mailbot.config.site import DnsSection
from mailbot.dns import Resolver
from mailbot.intake.authentication.spf import Query


class Dns(Protocol):
    """What the checks ask."""

    def ask(self, name: str, kind: str) -> tuple[str, ...]:
        """Values of the records of this type, CNAMEs followed; () where there are none. TXT in one piece, hosts with
        their final dot, MX as `10 host.`. Raises LookupFailed."""


class Answers:
    """The DNS through a resolver that has kept nothing yet: what was just mended must show."""

    def __init__(self, section: DnsSection) -> None:
        self._resolver = Resolver(section)
        self._seconds = float(section.query_seconds)

    def ask(self, name: str, kind: str) -> tuple[str, ...]:
        found = self._resolver.ask(name, kind, self._seconds)
        if kind == "TXT":
            return tuple(_printable(b"".join(record.strings)) for record in found)
        return tuple(record.to_text() for record in found)


def _printable(text: bytes) -> str:
    """What others publish is shown on a terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text.decode("utf-8", "replace"))


def _as_pyspf(kind: str, value: str) -> Any:
    if kind == "MX":
        preference, _, host = value.partition(" ")
        return int(preference), host.removesuffix(".")
    if kind == "TXT":
        return (value.encode("utf-8"),)
    return value.removesuffix(".")


def spf_result(answers: Dns, address: str, sender: str, helo: str) -> tuple[str, str]:
    """(result, words) of RFC 7208 for mail from this address; `sender` '' asks about the HELO name itself."""
    def ask(name: str, kind: str) -> list[Any]:
        return [_as_pyspf(kind, value) for value in answers.ask(name, kind)]

    try:
        result, _, words = Query(ask, i=address, s=sender, h=helo).check()
    except Exception as error:  # odd records reach corners of pyspf that nobody has seen
        return "permerror", f"it cannot be evaluated: {error!r}"
    return str(result), str(words).removeprefix("SPF Permanent Error: ")
