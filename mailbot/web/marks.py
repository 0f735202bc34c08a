"""Short proofs that a value in a cookie or a form is our own, made with the key ring.

A mark names its key, so that marks live through a rotation and die with a compromised key. Nothing is stored.
"""

from __future__ import annotations

import base64
import hmac

from mailbot.credentials import KeyRefused, KeyRing

KID_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_CHARS = 32


class Marks:
    """Makes and checks marks over a purpose, a society, a row id and a text."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def make(self, now: int, purpose: str, society: str, row: int, text: str) -> str:
        """33 characters: the key's letter and 160 bits."""
        kid = self._ring.active(now).kid
        return KID_LETTERS[kid] + self._digest(kid, purpose, society, row, text)

    def fits(self, mark: str, purpose: str, society: str, row: int, text: str) -> bool:
        if len(mark) != _CHARS + 1 or not mark.isascii() or mark[0] not in KID_LETTERS:
            return False
        try:
            wanted = self._digest(KID_LETTERS.index(mark[0]), purpose, society, row, text)
        except KeyRefused:
            return False
        return hmac.compare_digest(mark[1:], wanted)

    def _digest(self, kid: int, purpose: str, society: str, row: int, text: str) -> str:
        raw = self._ring.derive(kid, f"web/{purpose}", society, row, 0, text)
        return base64.b32encode(raw)[:_CHARS].decode().lower()
