"""Questions to the DNS, as an administrator asks them."""

from __future__ import annotations

from typing import Any, Protocol

import spf

from mailbot.config.site import DnsSection
from mailbot.dns import LookupFailed, Resolver


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


class _Query(spf.query):  # type: ignore[misc]  # pyspf has no types
    """pyspf keeps its resolver in a global and follows aliases itself; here its questions go to ours."""

    def __init__(self, answers: Dns, **facts: Any) -> None:
        super().__init__(**facts)
        self._answers = answers

    def dns(self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False) -> list[Any]:
        try:
            found = self._answers.ask(name, qtype) if name else ()
        except LookupFailed as error:
            raise spf.TempError(str(error)) from error
        if not found and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:  # RFC 7208 section 4.6.4
                raise spf.PermError("it mentions too many names that are not there")
        return [_as_pyspf(qtype, value) for value in found]


def _as_pyspf(kind: str, value: str) -> Any:
    if kind == "MX":
        preference, _, host = value.partition(" ")
        return int(preference), host.removesuffix(".")
    if kind == "TXT":
        return (value.encode("utf-8"),)
    return value.removesuffix(".")


def spf_result(answers: Dns, address: str, sender: str, helo: str) -> tuple[str, str]:
    """(result, words) of RFC 7208 for mail from this address; `sender` '' asks about the HELO name itself."""
    try:
        result, _, words = _Query(answers, i=address, s=sender, h=helo).check()
    except Exception as error:  # odd records reach corners of pyspf that nobody has seen
        return "permerror", f"it cannot be evaluated: {error!r}"
    return str(result), str(words).removeprefix("SPF Permanent Error: ")
