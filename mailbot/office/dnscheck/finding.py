"""What a check found, in words for the person who can mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mailbot.office.dnscheck.records import Record


class Mark(StrEnum):
    OK = "ok"
    NOTE = "NOTE"  # works, and could be better
    MEND = "MEND"  # mail is lost over this


@dataclass(frozen=True, slots=True)
class Finding:
    """`paste`: lines of a zone file that mend it. Each takes the place of the old record of its kind only: of the TXT
    that begins as it does (`v=spf1`, `v=DMARC1`), of any TXT under `_domainkey`, of MX or PTR; A and AAAA are added."""

    what: str
    mark: Mark
    words: str
    paste: tuple[str, ...] = ()


def ok(what: str, words: str) -> Finding:
    return Finding(what, Mark.OK, words)


def note(what: str, words: str, *paste: Record) -> Finding:
    return Finding(what, Mark.NOTE, words, _lines(paste))


def mend(what: str, words: str, *paste: Record) -> Finding:
    return Finding(what, Mark.MEND, words, _lines(paste))


def _lines(records: Sequence[Record]) -> tuple[str, ...]:
    return tuple(record.line() for record in records)


def listed(values: Sequence[str]) -> str:
    return ", ".join(value.removesuffix(".") for value in values)
