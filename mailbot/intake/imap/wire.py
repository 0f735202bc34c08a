"""What IMAP looks like on the wire, without I/O: folder names, sets of UIDs, and what stands in answers.

Standards: RFC 3501 sections 5.1.3 (names), 7.2.5 (SEARCH), 7.4.2 (FETCH).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

Line = bytes | bytearray
"""A line of an answer, or a literal: the library gives literals as bytearray."""

_UID = re.compile(rb"\bUID (\d+)")
_SIZE = re.compile(rb"RFC822\.SIZE (\d+)")
_DATE = re.compile(rb'INTERNALDATE "([^"]+)"')
_ITEM = re.compile(rb"\d+ FETCH \(")
_CODE = r"\[{} (\d+)\]"
_PRINTABLE = re.compile(r"([ -~]+)")


@dataclass(frozen=True, slots=True)
class Facts:
    """One mail before it is read. `arrived_at`: INTERNALDATE, ms since the epoch. `size`: octets."""

    arrived_at: int
    size: int


@dataclass(frozen=True, slots=True)
class Selected:
    """A folder that was opened. `uid_next` is None where the server does not say; `keywords`: any may be set."""

    uidvalidity: int
    uid_next: int | None
    keywords: bool


def quoted(text: str) -> str:
    """A quoted string (RFC 3501 section 4.3)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def folder_name(name: str) -> str:
    """A folder as an argument: modified UTF-7 (RFC 3501 section 5.1.3), quoted."""
    parts = enumerate(_PRINTABLE.split(name))
    return quoted("".join(part.replace("&", "&-") if place % 2 else _shifted(part) for place, part in parts))


def _shifted(text: str) -> str:
    if not text:
        return ""
    return "&" + base64.b64encode(text.encode("utf-16-be"), b"+,").rstrip(b"=").decode("ascii") + "-"


def uid_set(uids: Iterable[int]) -> str:
    return ",".join(map(str, uids))


def selected(lines: Sequence[Line]) -> Selected:
    """The answer to SELECT. Raises ValueError where it has no UIDVALIDITY."""
    text = b"\n".join(bytes(line) for line in lines).decode("latin-1")
    validity = re.search(_CODE.format("UIDVALIDITY"), text, re.IGNORECASE)
    if validity is None:
        raise ValueError("no UIDVALIDITY")
    following = re.search(_CODE.format("UIDNEXT"), text, re.IGNORECASE)
    permanent = re.search(r"\[PERMANENTFLAGS \(([^)]*)\)", text, re.IGNORECASE)
    return Selected(
        int(validity[1]), int(following[1]) if following else None, permanent is not None and r"\*" in permanent[1]
    )


def found(lines: Sequence[Line]) -> list[int]:
    """The UIDs of a SEARCH, in order; its last line is the server's own word."""
    return sorted({int(word) for line in lines[:-1] for word in bytes(line).split() if word.isdigit()})


def _items(lines: Sequence[Line]) -> Iterator[tuple[bytes, bytes]]:
    """(what is said, the literal) of every mail in the answer to a FETCH."""
    said, literal, inside = b"", b"", False
    for line in lines[:-1]:
        if isinstance(line, bytearray):
            literal = bytes(line)
        elif _ITEM.match(line):
            if inside:
                yield said, literal
            said, literal, inside = bytes(line), b"", True
        else:
            said += b" " + bytes(line)
    if inside:
        yield said, literal


def facts(lines: Sequence[Line]) -> dict[int, Facts]:
    """UID -> facts; what a server says without being asked has no size, or no UID."""
    known = {}
    for said, _ in _items(lines):
        uid, size, date = _UID.search(said), _SIZE.search(said), _DATE.search(said)
        if uid and size and date:
            known[int(uid[1])] = Facts(_moment(date[1].decode("latin-1")), int(size[1]))
    return known


def contents(lines: Sequence[Line]) -> dict[int, bytes]:
    """UID -> the octets of the one BODY[…] that was asked for."""
    known = {}
    for said, literal in _items(lines):
        uid = _UID.search(said)
        if uid and b"BODY[" in said.upper():
            known[int(uid[1])] = literal
    return known


def _moment(text: str) -> int:
    """` 1-Nov-2026 12:00:00 +0900` -> ms; 0 where it cannot be read: such a mail is old."""
    try:
        return int(datetime.strptime(text.strip(), "%d-%b-%Y %H:%M:%S %z").timestamp() * 1000)
    except (ValueError, OverflowError):
        return 0
