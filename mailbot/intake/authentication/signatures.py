"""DKIM (RFC 6376): which domains signed a message, and whether that holds. dkimpy verifies, within limits."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import dkim
from dkim.util import InvalidTagValueList, parse_tag_value

from mailbot.dns import LookupFailed, Lookups
from mailbot.mail.authentication import Result
from mailbot.mail.dkim import MIN_KEY_BITS
from mailbot.mail.fields import header_block

MOST_SIGNATURES, MOST_SIGNATURES_READ = 5, 20
MAX_KEY_BITS, MAX_EXPONENT = 4096, 1 << 32  # RFC 8301 section 3.2; larger ones only cost time
ALGORITHMS = frozenset({b"rsa-sha256", b"ed25519-sha256"})  # RFC 8301 section 3.1: no SHA-1
_DOMAIN = re.compile(rb"[A-Za-z0-9._-]{1,253}").fullmatch
_WIDE = re.compile(rb"\s{100}").search  # dkimpy's patterns need cubic time for white space
_BLANK = re.compile(rb"\n\r?\n|\r?\n").match
_SPACES = re.compile(rb"[\t ]+")

_quiet = logging.getLogger("mailbot.dkim")  # dkimpy writes what strangers say at level error
_quiet.disabled = True


def check(
    message: bytes, lookups: Lookups, counts: Callable[[str], bool] = lambda domain: True
) -> Iterator[tuple[str, Result]]:
    """(signing domain, PASS, FAIL or TEMPERROR) of the first signatures that count at all: those of a domain that
    `counts`, on a message with one From. Nothing is asked about others. Never raises."""
    try:
        head, body = _parts(message)
        verifier = dkim.DKIM(head, logger=_quiet, minkey=MIN_KEY_BITS)
        signatures = [value for name, value in verifier.headers if name.lower() == b"dkim-signature"]
    except Exception:  # no header block that dkimpy can read
        return
    if sum(name.lower() == b"from" for name, _ in verifier.headers) != 1:
        return  # what was signed is not what others read
    relaxed, checked = b"", 0
    for place, value in enumerate(signatures[:MOST_SIGNATURES_READ]):
        tags = _tags(value)
        if not tags or checked == MOST_SIGNATURES or not counts(str(tags[b"d"], "ascii").lower()):
            continue
        checked += 1
        verifier.body = body
        if tags.get(b"c", b"").endswith(b"/relaxed"):
            # Made once and in linear time; dkimpy, which takes quadratic time for it, then finds nothing to change.
            verifier.body = relaxed = relaxed or _trimmed(_SPACES.sub(b" ", body).replace(b" \r\n", b"\r\n"))
        yield str(tags[b"d"], "ascii").lower(), _verify(verifier, place, lookups)


def _parts(message: bytes) -> tuple[bytes, bytes]:
    """(header block with its blank line, body). dkimpy would cut a body into lines and join them again, which changes
    nothing between CRLFs and takes long."""
    end = len(header_block(message))
    blank = _BLANK(message, end)
    start = blank.end() if blank else end
    return message[:start], _trimmed(message[start:])


def _trimmed(body: bytes) -> bytes:
    """With one of the empty lines at its end: RFC 6376 section 3.4.3 counts none, dkimpy takes them off one by one."""
    end = len(body.rstrip(b"\r\n"))
    pairs = (len(body) - end) // 2
    return body[:end] + b"\r\n" if pairs and body[end:] == b"\r\n" * pairs else body


def _tags(value: bytes) -> dict[bytes, bytes]:
    """The tags; none for a signature that is passed over: one that leaves part of the body (l=, RFC 6376 section 8.2)
    or From (section 5.4) to anybody, that is made with SHA-1, or whose names cannot be."""
    if _WIDE(value):
        return {}
    try:
        tags: dict[bytes, bytes] = parse_tag_value(value)
    except (InvalidTagValueList, IndexError):
        return {}
    names = {name.strip().lower() for name in tags.get(b"h", b"").split(b":")}
    if b"l" in tags or tags.get(b"a") not in ALGORITHMS or b"from" not in names:
        return {}
    return tags if _DOMAIN(tags.get(b"d", b"")) and _DOMAIN(tags.get(b"s", b"")) else {}


def _verify(verifier: Any, place: int, lookups: Lookups) -> Result:
    failed = False

    def key(name: bytes, timeout: float = 0) -> bytes | None:
        nonlocal failed
        try:
            records = lookups.txt(name.decode("ascii"))
        except LookupFailed:
            failed = True
            return None
        if len(records) != 1:  # RFC 6376 section 3.6.2.2: several are undefined
            return None
        parsed, bits, kind, _ = dkim.evaluate_pk(name, records[0])
        large = kind == b"rsa" and (bits > MAX_KEY_BITS or parsed["publicExponent"] >= MAX_EXPONENT)
        return None if large else records[0]

    try:
        valid = verifier.verify(place, dnsfunc=key)
    except Exception:  # garbage ends in about every exception there is
        valid = False
    if failed:
        return Result.TEMPERROR
    return Result.PASS if valid is True else Result.FAIL
