"""DKIM signatures of a received message (RFC 6376), by dkimpy, without what it believes too easily."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import dkim
from dkim.util import InvalidTagValueList, parse_tag_value

from mailbot.dns import LookupFailed, Lookups
from mailbot.mail.authentication import Result

MOST = 5
"""Signatures looked at: the rest of a hostile pile is passed over."""
MAX_RECORD = 4096  # octets of a key record; RSA-4096 needs 750
MAX_DOMAIN = 253
_ALGORITHMS = frozenset({b"rsa-sha256", b"ed25519-sha256"})  # RFC 8301 section 3.1: not rsa-sha1


@dataclass(frozen=True, slots=True)
class Signature:
    """`domain`: its d= tag, lower case."""

    domain: str
    result: Result


def check(lookups: Lookups, message: bytes) -> Iterator[Signature]:
    """The signatures worth a look, one by one, so that the caller may stop at the first that fits. Never raises."""
    try:
        parsed = dkim.DKIM(message, minkey=1024, timeout=1)
    except Exception:
        return
    fields = [value for name, value in parsed.headers if name.lower() == b"dkim-signature"]
    for index, value in enumerate(fields[:MOST]):
        domain = _worthwhile(value)
        if domain:
            yield Signature(domain, _verify(lookups, parsed, index))


def _worthwhile(value: bytes) -> str:
    """The d= of a signature that may count."""
    try:
        tags = parse_tag_value(value)
    except (InvalidTagValueList, ValueError):
        return ""
    domain: bytes = tags.get(b"d", b"")
    # Behind l= anybody may add text (RFC 6376 section 8.2), so such a signature says nothing about what was read.
    if b"l" in tags or tags.get(b"a", b"").lower() not in _ALGORITHMS or not 0 < len(domain) <= MAX_DOMAIN:
        return ""
    try:
        return domain.decode("ascii").lower().rstrip(".")
    except UnicodeDecodeError:
        return ""


def _verify(lookups: Lookups, parsed: dkim.DKIM, index: int) -> Result:
    failed = False

    def txt(name: bytes | str, timeout: int = 0) -> bytes | None:
        nonlocal failed
        try:
            found = lookups.txt(name.decode("ascii") if isinstance(name, bytes) else name)
        except LookupFailed:
            failed = True
            return None
        return found[0] if len(found) == 1 and len(found[0]) <= MAX_RECORD else None  # RFC 6376 section 3.6.2.2

    try:
        fits = bool(parsed.verify(index, dnsfunc=txt))
    except Exception:  # whatever a forger writes into a signature
        fits = False
    if fits:
        return Result.PASS
    return Result.TEMPERROR if failed else Result.FAIL
