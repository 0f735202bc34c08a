"""Signed one-time links.

A token is 34 characters of lower base32 (a-z2-7): 13 for the link's 63-bit id, 1 for the key, 20 for 100 bits of
HMAC-SHA256 over purpose, society and id. It proves itself without a database, so forged ones never reach it.
"""

from __future__ import annotations

import base64
import hmac
import re
import unicodedata
from enum import StrEnum

from .ring import KID_LETTERS, KeyRing, kid_of

ID_CHARS = 13
MAC_CHARS = 20
TOKEN_CHARS = ID_CHARS + 1 + MAC_CHARS

_TO_DIGITS = str.maketrans(KID_LETTERS, "0123456789abcdefghijklmnopqrstuv")
_MAX_TYPED = 256
_TOKEN = re.compile(rf"[^a-z2-7]*([a-z2-7]{{{TOKEN_CHARS}}})")
_ID = re.compile(rf"[a-z2-7]{{{ID_CHARS}}}")
# what wrapping and double encoding leave inside a token: blanks and line ends, soft hyphens, zero-width characters
_LEFTOVERS = re.compile(r"%(?:25)*(?:20|09|0a|0d|e3%(?:25)*80%(?:25)*80)|[\u00ad\u200b-\u200f\u2060\ufeff]|\s")


class LinkPurpose(StrEnum):
    """What a link opens; a token made for one purpose is nothing for another."""

    REGISTRATION = "registration"
    REISSUE = "reissue"
    ADDRESS_PROOF = "address-proof"
    MAILED_LINK = "mailed-link"


class LinkState(StrEnum):
    """UNKNOWN is the caller's word for a token without a row."""

    LIVE = "live"
    USED = "used"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


def encode_id(value: int) -> str:
    """13 characters for a positive 63-bit id."""
    if not 0 < value < 1 << 63:
        raise ValueError("an id is a positive 63-bit number")
    return "".join(KID_LETTERS[value >> shift & 31] for shift in range(5 * (ID_CHARS - 1), -1, -5))


def decode_id(text: str) -> int | None:
    """The id behind exactly 13 characters; None for anything else. Never raises."""
    if not _ID.fullmatch(text):
        return None
    value = int(text.translate(_TO_DIGITS), 32)
    # 13 characters hold 65 bits: the two spare ones must be zero, so that one id has one spelling
    return value if 0 < value < 1 << 63 else None


def mint(ring: KeyRing, purpose: LinkPurpose, society: str, link_id: int, kid: int) -> str:
    """The token of a link row. Raises KeyRefused when the row's key is compromised or retired."""
    return encode_id(link_id) + KID_LETTERS[kid] + _mac(ring, purpose, society, link_id, kid)


def read(ring: KeyRing, purpose: LinkPurpose, society: str, text: str) -> int | None:
    """The link id when the MAC fits, after mending what mail programs and people do to a URL. Never raises."""
    token = _mend(text)
    if token is None:
        return None
    link_id, kid = decode_id(token[:ID_CHARS]), kid_of(token[ID_CHARS])
    if link_id is None or kid is None or ring.key(kid) is None:
        return None
    fits = hmac.compare_digest(token[ID_CHARS + 1 :], _mac(ring, purpose, society, link_id, kid))
    return link_id if fits else None


def state(expires_at: int, spent_at: int | None, revoked_at: int | None, now: int) -> LinkState:
    """A link's state at `now` (ms). At the very moment of expiry it is expired."""
    if spent_at is not None:
        return LinkState.USED
    if revoked_at is not None:
        return LinkState.REVOKED
    return LinkState.EXPIRED if now >= expires_at else LinkState.LIVE


def _mac(ring: KeyRing, purpose: LinkPurpose, society: str, link_id: int, kid: int) -> str:
    digest = ring.derive(kid, f"link/{purpose}", society, link_id, 0, "token")
    return base64.b32encode(digest)[:MAC_CHARS].decode().lower()


def _mend(text: str) -> str | None:
    plain = unicodedata.normalize("NFKC", text[:_MAX_TYPED]).lower()
    found = _TOKEN.match(_LEFTOVERS.sub("", plain))
    return found[1] if found else None
