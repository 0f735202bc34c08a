"""Records as they are published, and the line of a zone file for each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from mailbot.config import Society
from mailbot.mail.dkim import Key, dns_record


@dataclass(frozen=True, slots=True)
class Record:
    """One record: absolute name with its final dot, type, and value (TXT in one piece)."""

    name: str
    type: str
    value: str

    def row(self) -> dict[str, str]:
        return asdict(self)

    def line(self) -> str:
        return zone_line(self.name, self.type, self.value)


def dkim_records(societies: Iterable[Society], selector: str, key: Key) -> list[Record]:
    """The public key, under each domain that these societies send from."""
    domains = sorted({domain for society in societies for domain in society.addresses.sender_domains})
    return [Record(f"{selector}._domainkey.{domain}.", "TXT", dns_record(key)) for domain in domains]


def zone_line(name: str, type_: str, value: str) -> str:
    """A line for a zone file (RFC 1035 section 5.1). Text longer than 255 octets becomes several strings, which
    receivers join without a space (RFC 7208 section 3.3, RFC 6376 section 3.6.2.2)."""
    if type_ != "TXT":
        return f"{name} IN {type_} {value}"
    pieces = [value[at : at + 255] for at in range(0, len(value), 255)] or [""]
    quoted = ['"' + re.sub(r'(["\\])', r"\\\1", piece) + '"' for piece in pieces]
    return f"{name} IN TXT {' '.join(quoted)}"
