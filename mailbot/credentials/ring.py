"""The key ring: every secret the robot can make or open comes from here.

A ring is an immutable value; rotation returns a new one. Each key has a `kid` (0..31, one base32 character in a token)
and 32 random bytes, from which separate sub-keys for deriving and for sealing are drawn (one label each). The index key
never rotates, because a blind index must match rows of any age; its fingerprint is what the database remembers of its
ring.

Times are milliseconds since the epoch, UTC. `derive` needs a usable key (neither compromised nor retired); `open` works
with any key still on the ring, so that data sealed under a stolen key can be sealed anew and an old backup be read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

KIDS = 32
KID_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
SECRET_BYTES = 32
INDEX_BYTES = 16

_SEAL_VERSION = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16
_SEAL_HEAD = 2 + _NONCE_BYTES


class RingError(Exception):
    """The ring cannot do what was asked: unreadable file, no free kid, a key that may not be used or retired."""


class KeyRefused(RingError):
    """The named key is unknown, compromised or retired: nothing may be made or verified with it."""


class SealBroken(Exception):
    """A sealed value does not open: other context, other ring, altered or cut bytes."""


def encode(*fields: str | int) -> bytes:
    """Count, then each field behind its byte length: two different lists never give the same bytes."""
    out = [len(fields).to_bytes(4)]
    for value in fields:
        # surrogatepass keeps the mapping injective and total: odd form input must not raise here
        raw = str(value).encode("utf-8", "surrogatepass")
        out += (len(raw).to_bytes(4), raw)
    return b"".join(out)


def _subkey(secret: bytes, label: str) -> bytes:
    return hmac.digest(secret, f"mailbot {label} v1".encode(), hashlib.sha256)


@dataclass(frozen=True)
class Key:
    """One key of the ring. `active_from` may lie ahead: keys are handed to every machine first and used later."""

    kid: int
    secret: bytes = field(repr=False)
    created_at: int
    active_from: int
    retired_at: int | None = None
    compromised: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.kid < KIDS:
            raise RingError(f"kid {self.kid} is outside 0..{KIDS - 1}")
        if len(self.secret) != SECRET_BYTES:
            raise RingError(f"key {self.letter}: {len(self.secret)} bytes instead of {SECRET_BYTES}")

    @property
    def letter(self) -> str:
        return KID_LETTERS[self.kid]

    @property
    def usable(self) -> bool:
        return not self.compromised and self.retired_at is None

    @cached_property
    def deriving(self) -> bytes:
        return _subkey(self.secret, "derive")

    @cached_property
    def sealing(self) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(_subkey(self.secret, "seal"))


def _new_key(kid: int, now: int, active_from: int) -> Key:
    return Key(kid, secrets.token_bytes(SECRET_BYTES), now, active_from)


@dataclass(frozen=True)
class KeyRing:
    """Keys in the order they were made, and the index key. At least one key is usable."""

    keys: tuple[Key, ...]
    index_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.index_key) != SECRET_BYTES:
            raise RingError(f"index key: {len(self.index_key)} bytes instead of {SECRET_BYTES}")
        if len({key.kid for key in self.keys}) != len(self.keys):
            raise RingError("two keys have the same kid")
        if not any(key.usable for key in self.keys):
            raise RingError("no usable key is left on the ring")

    @classmethod
    def create(cls, now: int) -> KeyRing:
        return cls((_new_key(0, now, now),), secrets.token_bytes(SECRET_BYTES))

    def fingerprint(self) -> str:
        """32 hex digits over the index key; the same before and after every rotation."""
        return _subkey(self.index_key, "fingerprint").hex()[:32]

    # --- keys -------------------------------------------------------------------------------------------------------

    @cached_property
    def _by_kid(self) -> dict[int, Key]:
        return {key.kid: key for key in self.keys}

    def active(self, now: int) -> Key:
        """The key new secrets are made with: the usable one that became active last.

        Where none is active yet (this clock is a moment behind the machine that made the ring) it is the first to come.
        """
        usable = [key for key in self.keys if key.usable]
        begun = [key for key in usable if key.active_from <= now]
        if not begun:
            return min(usable, key=lambda key: key.active_from)
        return max(enumerate(begun), key=lambda pair: (pair[1].active_from, pair[0]))[1]

    def key(self, kid: int) -> Key | None:
        """The key, or None when it is unknown, compromised or retired."""
        key = self._by_kid.get(kid)
        return key if key is not None and key.usable else None

    def rotate(self, now: int, active_from: int) -> KeyRing:
        """A ring with one more key, used from `active_from`. Secrets of the earlier keys stay valid."""
        if active_from < now:
            raise RingError("a new key cannot become active in the past")
        kid, kept = self._free_kid()
        return replace(self, keys=(*kept, _new_key(kid, now, active_from)))

    def rotate_compromised(self, now: int) -> KeyRing:
        """A ring whose new key is active at once; every earlier key is compromised and verifies nothing any more."""
        kid, kept = self._free_kid()
        return replace(self, keys=(*(replace(key, compromised=True) for key in kept), _new_key(kid, now, now)))

    def retire(self, kid: int, live_kids: Set[int], now: int) -> KeyRing:
        """A ring without the use of `kid`. `live_kids`: the kids that live rows and sealed columns still name."""
        old = self._by_kid.get(kid)
        if old is None:
            raise RingError(f"no key {_name(kid)} on the ring")
        if kid in live_kids:
            raise RingError(f"key {old.letter} cannot retire: live rows still name it")
        if self.active(now).kid == kid:
            raise RingError(f"key {old.letter} cannot retire: it is the active one; rotate first")
        if old.retired_at is not None:
            return self
        return replace(self, keys=tuple(replace(k, retired_at=now) if k.kid == kid else k for k in self.keys))

    def _free_kid(self) -> tuple[int, tuple[Key, ...]]:
        """A kid for the next key and the keys that stay. Retired kids come again only when all 32 were used."""
        for kid in range(KIDS):
            if kid not in self._by_kid:
                return kid, self.keys
        retired = [key for key in self.keys if key.retired_at is not None]
        if not retired:
            raise RingError(f"all {KIDS} keys are in use: retire one that no live row names")
        oldest = min(retired, key=lambda key: key.retired_at or 0)
        return oldest.kid, tuple(key for key in self.keys if key is not oldest)

    # --- secrets ----------------------------------------------------------------------------------------------------

    def derive(self, kid: int, purpose: str, society: str, row_id: int, generation: int, fmt: str) -> bytes:
        """32 bytes that this row's facts and the key `kid` give, always the same. Raises KeyRefused."""
        key = self.key(kid)
        if key is None:
            raise KeyRefused(f"key {_name(kid)} is unknown, compromised or retired")
        return hmac.digest(key.deriving, encode(purpose, society, row_id, generation, fmt), hashlib.sha256)

    def seal(self, plain: bytes, context: str, now: int) -> bytes:
        """Version, kid, 12-byte nonce, ciphertext with tag. `context` names the one place the value belongs to."""
        key = self.active(now)
        head = bytes((_SEAL_VERSION, key.kid))
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return head + nonce + key.sealing.encrypt(nonce, plain, _associated(head, context))

    def open(self, blob: bytes, context: str) -> bytes:
        """The sealed bytes. Compromised and retired keys still open. Raises SealBroken."""
        key = self._by_kid.get(sealed_kid(blob))
        if key is None:
            raise SealBroken(f"sealed under key {_name(blob[1])}, which is not on this ring")
        try:
            return key.sealing.decrypt(blob[2:_SEAL_HEAD], blob[_SEAL_HEAD:], _associated(blob[:2], context))
        except InvalidTag:
            raise SealBroken("sealed value does not fit its place or was altered") from None

    @cached_property
    def _indexing(self) -> bytes:
        return _subkey(self.index_key, "index")

    def index(self, purpose: str, society: str, *parts: str) -> bytes:
        """16 bytes to find a row by a sealed tuple: equal parts, equal bytes, for as long as the ring lives."""
        return hmac.digest(self._indexing, encode(purpose, society, *parts), hashlib.sha256)[:INDEX_BYTES]


def sealed_kid(blob: bytes) -> int:
    """The kid a sealed value was made with. Raises SealBroken when the bytes are no sealed value."""
    if len(blob) < _SEAL_HEAD + _TAG_BYTES or blob[0] != _SEAL_VERSION or blob[1] >= KIDS:
        raise SealBroken("not a sealed value")
    return blob[1]


def kid_of(letter: str) -> int | None:
    """The kid that one base32 character names."""
    return KID_LETTERS.index(letter) if len(letter) == 1 and letter in KID_LETTERS else None


def kids_of(blobs: Iterable[bytes]) -> set[int]:
    """The kids of many sealed values: what `retire` and re-sealing ask for."""
    return {sealed_kid(blob) for blob in blobs}


def _associated(head: bytes, context: str) -> bytes:
    return encode("mailbot seal", base64.b16encode(head).decode(), context)


def _name(kid: int) -> str:
    return KID_LETTERS[kid] if 0 <= kid < KIDS else str(kid)
