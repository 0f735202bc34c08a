"""DKIM (RFC 6376): which domains signed a message, and whether that holds. dkimpy verifies, within limits."""

from __future__ import annotations

import logging
import re
from binascii import a2b_base64
from collections.abc import Callable, Iterator
from hashlib import sha256
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

_quiet = logging.getLogger("mailbot.dkim")  # dkimpy writes what strangers say at level error
_quiet.disabled = True


def check(
    message: bytes, lookups: Lookups, counts: Callable[[str], bool] = lambda domain: True
) -> Iterator[tuple[str, Result]]:
    """(signing domain, PASS, FAIL or TEMPERROR) of the first signatures that count at all: those of a domain that
    `counts`, on a message with one From. Nothing is asked about others. Never raises."""
    try:
        head, body = _parts(message)
        verifier = _Verifier(head, logger=_quiet, minkey=MIN_KEY_BITS)
        signatures = [value for name, value in verifier.headers if name.lower() == b"dkim-signature"]
    except Exception:  # no header block that dkimpy can read
        return
    if sum(name.lower() == b"from" for name, _ in verifier.headers) != 1:
        return  # what was signed is not what others read
    hashes: dict[bytes, bytes] = {}  # of the body, by its canonical form
    checked = 0
    for place, value in enumerate(signatures[:MOST_SIGNATURES_READ]):
        tags = _tags(value)
        if not tags or checked == MOST_SIGNATURES or not counts(str(tags[b"d"], "ascii").lower()):
            continue
        checked += 1
        form = tags.get(b"c", b"").partition(b"/")[2] or b"simple"
        if form not in hashes:
            hashes[form] = sha256(canonical_body(body, relaxed=form == b"relaxed")).digest()
        whole = _decoded(tags.get(b"bh", b"")) == hashes[form]
        result = _verify(verifier, place, tags, lookups) if whole else Result.FAIL
        if result is not Result.NONE:
            yield str(tags[b"d"], "ascii").lower(), result


class _Verifier(dkim.DKIM):  # type: ignore[misc]  # dkimpy has no types
    """Verifies the header block. dkimpy makes the body canonical anew for each signature, by patterns that keep all
    other threads waiting: what a signature says of the body is compared before, and taken out here."""

    def verify_headerprep(self, idx: int = 0) -> Any:
        prepared = super().verify_headerprep(idx)
        if prepared:
            prepared[0].pop(b"bh", None)
        return prepared


def _parts(message: bytes) -> tuple[bytes, bytes]:
    """(header block with its blank line, body). dkimpy would cut a body into lines and join them again, which changes
    nothing between CRLFs and takes long."""
    end = len(header_block(message))
    blank = _BLANK(message, end)
    start = blank.end() if blank else end
    return message[:start], message[start:]


def canonical_body(body: bytes, *, relaxed: bool) -> bytes:
    """As dkimpy has it (RFC 6376 sections 3.4.3 and 3.4.4), in linear time whatever is in it."""
    if relaxed:
        body = body.replace(b"\t", b" ")
        while b"  " in body:
            body = body.replace(b"  ", b" ")
        body = body.replace(b" \r\n", b"\r\n")
    end = len(body.rstrip(b"\r\n"))
    tail = body[end:]
    pairs = tail[max(tail.rfind(b"\r\r"), tail.rfind(b"\n\n")) + 1 :]  # from here on CR and LF take turns
    if pairs.endswith(b"\n"):
        body = body[: len(body) - len(pairs) // 2 * 2]
    return body + b"\r\n" if body or not relaxed else b""


def _decoded(text: bytes) -> bytes:
    """A hash as octets; none for what is no Base64."""
    try:
        return a2b_base64(text)
    except ValueError:
        return b""


def _tags(value: bytes) -> dict[bytes, bytes]:
    """The tags; none for a signature that is passed over: one that leaves part of the body (l=, RFC 6376 section 8.2)
    or From (section 5.4) to anybody, that is made with SHA-1, or whose names cannot be."""
    if _WIDE(value):
        return {}
    try:
        tags: dict[bytes, bytes] = parse_tag_value(value)
    except (InvalidTagValueList, IndexError):
        return {}
    if b"l" in tags or tags.get(b"a") not in ALGORITHMS or b"from" not in _listed(tags.get(b"h", b"")):
        return {}
    return tags if _DOMAIN(tags.get(b"d", b"")) and _DOMAIN(tags.get(b"s", b"")) else {}


def _verify(verifier: _Verifier, place: int, tags: dict[bytes, bytes], lookups: Lookups) -> Result:
    """Of the header block. NONE where the domain only tries out DKIM: that is as if it had not signed."""
    failed = testing = False

    def key(name: bytes, timeout: float = 0) -> bytes | None:
        nonlocal failed, testing
        try:
            records = lookups.txt(name.decode("ascii"))
        except LookupFailed:
            failed = True
            return None
        if len(records) != 1:  # RFC 6376 section 3.6.2.2: several are undefined
            return None
        parsed, bits, kind, _ = dkim.evaluate_pk(name, records[0])
        large = kind == b"rsa" and (bits > MAX_KEY_BITS or parsed["publicExponent"] >= MAX_EXPONENT)
        said = parse_tag_value(records[0])
        flags = _listed(said.get(b"t", b""))
        testing = b"y" in flags
        return None if large or not _meant_for(said, flags, tags) else records[0]

    try:
        valid = verifier.verify(place, dnsfunc=key)
    except Exception:  # garbage ends in about every exception there is
        valid = False
    if failed:
        return Result.TEMPERROR
    if testing:
        return Result.NONE
    return Result.PASS if valid is True else Result.FAIL


def _meant_for(key: dict[bytes, bytes], flags: frozenset[bytes], tags: dict[bytes, bytes]) -> bool:
    """Whether a key may be used for such a signature (RFC 6376 section 3.6.1: h=, and t=s)."""
    if b"h" in key and b"sha256" not in _listed(key[b"h"]):
        return False
    signer = tags.get(b"i", tags[b"d"]).rpartition(b"@")[2]
    return b"s" not in flags or signer.lower() == tags[b"d"].lower()


def _listed(value: bytes) -> frozenset[bytes]:
    return frozenset(one.strip().lower() for one in value.split(b":"))
