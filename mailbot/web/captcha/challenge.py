"""A challenge and its ticket. The answers are derived from the key ring and the ticket's id: nothing is stored.

A ticket is `kind.id.expires_at.mark`; the mark binds it to society and browser.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass

from mailbot.credentials import KeyRing, decode_id, encode_id, kid_of
from mailbot.store import new_id
from mailbot.web.marks import Marks

LIFE_MS = 20 * 60_000
MOST = 50_000
"""Candidates a browser tries at most, half of them on average; the figures are in docs/captcha.md."""
PICTURE_DIGITS = 5
QUESTION_DIGITS = 3
PASSES = 3
"""How often a form that was refused for another field may come again without a new challenge."""

_KINDS = {"proof", "picture"} | {f"passed{left}" for left in range(1, PASSES + 1)}
_TICKET = re.compile(r"([a-z]{5,7}[0-9]?)\.([a-z2-7]{13})\.([0-9]{13})\.([a-z2-7]{33})", re.ASCII)
READINGS = ("ゼロ", "いち", "に", "さん", "よん", "ご", "ろく", "なな", "はち", "きゅう")
_KANJI = str.maketrans("〇零一二三四五六七八九", "00123456789")
_BETWEEN = re.compile(r"[\s\-‐‑‒–—―−ー・、,，.。_/]+")


@dataclass(frozen=True)
class Challenge:
    """`kind` is `proof`, `picture`, or `passedN`: passed before, and good for N forms more."""

    kind: str
    society: str
    id: int
    expires_at: int
    mark: str

    @classmethod
    def new(cls, marks: Marks, kind: str, society: str, browser: str, now: int) -> Challenge:
        row, expires_at = new_id(), now + LIFE_MS
        return cls(
            kind, society, row, expires_at, marks.make(now, "captcha", society, row, _bound(kind, expires_at, browser))
        )

    @classmethod
    def read(cls, marks: Marks, society: str, browser: str, ticket: str, now: int) -> Challenge | None:
        """The challenge of a ticket that we gave this browser for this society and whose time is not over."""
        found = _TICKET.fullmatch(ticket)
        row = decode_id(found[2]) if found else None
        if found is None or row is None or not browser or found[1] not in _KINDS or now >= int(found[3]):
            return None
        bound = _bound(found[1], int(found[3]), browser)
        if not marks.fits(found[4], "captcha", society, row, bound):
            return None
        return cls(found[1], society, row, int(found[3]), found[4])

    @property
    def ticket(self) -> str:
        return f"{self.kind}.{encode_id(self.id)}.{self.expires_at}.{self.mark}"

    @property
    def left(self) -> int:
        """Forms after this one that need no new challenge, once this one is passed."""
        return int(self.kind[6:]) - 1 if self.kind.startswith("passed") else PASSES

    # --- proof: the scheme of ALTCHA, version 1 ---------------------------------------------------------------------

    @property
    def salt(self) -> str:
        return encode_id(self.id)

    def number(self, ring: KeyRing) -> int:
        """What the browser looks for: 0 … MOST - 1."""
        return int.from_bytes(self._derive(ring, "number")) % MOST

    def target(self, ring: KeyRing) -> str:
        """Hex SHA-256 of the salt followed by the number in decimal digits."""
        return hashlib.sha256(f"{self.salt}{self.number(ring)}".encode()).hexdigest()

    # --- digits -----------------------------------------------------------------------------------------------------

    def question(self, ring: KeyRing) -> str:
        """Three digits, for people whose browser computes nothing."""
        return self._digits(ring, "question", QUESTION_DIGITS)

    def digits(self, ring: KeyRing) -> str:
        """Those in the picture and in the recording."""
        return self._digits(ring, "picture", PICTURE_DIGITS)

    def noise(self, ring: KeyRing) -> bytes:
        """Seed of what disturbs picture and recording: the same at each look, so that nobody can average it away."""
        return self._derive(ring, "noise")

    def _digits(self, ring: KeyRing, purpose: str, count: int) -> str:
        return f"{int.from_bytes(self._derive(ring, purpose)) % 10**count:0{count}}"

    def _derive(self, ring: KeyRing, purpose: str) -> bytes:
        kid = kid_of(self.mark[0])
        assert kid is not None  # the mark was made by us, or fitted
        return ring.derive(kid, f"web/captcha-{purpose}", self.society, self.id, 0, self.kind)


def _bound(kind: str, expires_at: int, browser: str) -> str:
    return f"{kind}.{expires_at}.{browser}"


def reading(digits: str) -> str:
    """さん・なな・ご"""
    return "・".join(READINGS[int(digit)] for digit in digits)


def typed_digits(text: str) -> str:
    """Digits as people type them: full width, in kanji, with spaces, hyphens or points between them."""
    return _BETWEEN.sub("", unicodedata.normalize("NFKC", text)).translate(_KANJI)


def same(typed: str, wanted: str) -> bool:
    return hmac.compare_digest(typed.encode(), wanted.encode())
