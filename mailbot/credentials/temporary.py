"""Temporary passwords, temporary login IDs, PINs and on-screen keys: derived from the ring, never stored.

A row keeps kid, generation and format; the same three always give the same text. Generated login IDs may meet by chance
(8 digits: one pair in 10^8); the caller raises the generation until its unique index is content.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

from .ring import KeyRing

ALPHABETS = {
    "digits": "0123456789",
    "easy": "23456789abcdefghjkmnpqrstuvwxyz",  # nothing that is read as something else: no 0 1 i l o
    "letters": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
}
MAX_LENGTH = 64

_MAX_TYPED = 1024
_BLANKS_AND_DASHES = re.compile(r"[\s\-\u00ad\u2010-\u2015\u2212\u30fc\u200b-\u200f\u2060\ufeff]+")


@dataclass(frozen=True)
class Format:
    """Alphabet name and length, written `digits:8`."""

    alphabet: str
    length: int

    def __post_init__(self) -> None:
        if self.alphabet not in ALPHABETS:
            raise ValueError(f"alphabet {self.alphabet!r} is none of {', '.join(ALPHABETS)}")
        if not 1 <= self.length <= MAX_LENGTH:
            raise ValueError(f"length {self.length} is outside 1..{MAX_LENGTH}")

    @classmethod
    def parse(cls, text: str) -> Format:
        """Raises ValueError with a sentence that can stand in a configuration problem."""
        found = re.fullmatch(r"([a-z]+):([0-9]{1,3})", text)
        if not found:
            raise ValueError(f"format {text!r} is not written like digits:8")
        return cls(found[1], int(found[2]))

    def __str__(self) -> str:
        return f"{self.alphabet}:{self.length}"

    @property
    def letters(self) -> str:
        return ALPHABETS[self.alphabet]

    @property
    def cased(self) -> bool:
        """Whether upper and lower case differ in this alphabet; where not, typing in either case is right."""
        return any(letter.swapcase() != letter and letter.swapcase() in self.letters for letter in self.letters)

    def fits(self, text: str) -> bool:
        """Whether the text could have come from this format."""
        return len(text) == self.length and all(letter in self.letters for letter in text)


def password(
    ring: KeyRing,
    kid: int,
    society: str,
    row_id: int,
    generation: int,
    fmt: Format,
    purpose: str = "temporary-password",
) -> str:
    """The temporary password of a row. Raises KeyRefused."""
    seed = ring.derive(kid, purpose, society, row_id, generation, str(fmt))
    return "".join(islice(_letters(seed, fmt.letters), fmt.length))


def login_id(ring: KeyRing, kid: int, society: str, row_id: int, generation: int, fmt: Format) -> str:
    """The generated temporary login ID of a row. Raises KeyRefused."""
    return password(ring, kid, society, row_id, generation, fmt, "temporary-login-id")


def pin(ring: KeyRing, kid: int, society: str, row_id: int, generation: int, digits: int, purpose: str = "pin") -> str:
    """A PIN for a mail, or with another purpose the key shown on a screen. Raises KeyRefused."""
    return password(ring, kid, society, row_id, generation, Format("digits", digits), purpose)


def screen_key(ring: KeyRing, kid: int, society: str, row_id: int, generation: int, digits: int) -> str:
    """The key a page shows to be typed behind a later mailed link. Raises KeyRefused."""
    return pin(ring, kid, society, row_id, generation, digits, "screen-key")


def same(given: str, expected: str, *, any_case: bool = False) -> bool:
    """Whether what was typed is the expected secret, compared in constant time.

    Full-width forms, blanks and hyphens are forgiven on both sides; superscript and circled digits are not digits here.
    """
    if not expected or len(given) > _MAX_TYPED:
        return False
    left, right = _typed(given, any_case), _typed(expected, any_case)
    return hmac.compare_digest(left, right) and bool(right)


def digits(given: str) -> str:
    """The digits that were typed, full-width ones, blanks and hyphens forgiven; empty where anything else was."""
    typed = _typed(given, False) if len(given) <= _MAX_TYPED else b""
    return typed.decode("ascii") if typed.isdigit() else ""


def typed(given: str) -> str:
    """What was typed, in lower case, with the same forgiveness; empty where it is much too long."""
    return _typed(given, True).decode("utf-8", "replace") if len(given) <= _MAX_TYPED else ""


def _letters(seed: bytes, alphabet: str) -> Iterator[str]:
    """Letters of an endless HMAC stream, each equally likely: bytes past the last whole multiple are thrown away."""
    limit = 256 - 256 % len(alphabet)
    for block in count():
        for byte in hmac.digest(seed, block.to_bytes(4), hashlib.sha256):
            if byte < limit:
                yield alphabet[byte % len(alphabet)]


def _typed(text: str, any_case: bool) -> bytes:
    if any(letter.isdigit() and not letter.isdecimal() for letter in text):
        return b""
    plain = _BLANKS_AND_DASHES.sub("", unicodedata.normalize("NFKC", text))
    return (plain.casefold() if any_case else plain).encode("utf-8", "surrogatepass")


_NAMES = {
    "0": "ゼロ", "1": "イチ", "2": "ニ", "3": "サン", "4": "シ", "5": "ゴ", "6": "ロク", "7": "ナナ", "8": "ハチ",
    "9": "キュウ",
    "a": "エー", "b": "ビー", "c": "シー", "d": "ディー", "e": "イー", "f": "エフ", "g": "ジー", "h": "エイチ",
    "i": "アイ", "j": "ジェー", "k": "ケー", "l": "エル", "m": "エム", "n": "エヌ", "o": "オー", "p": "ピー",
    "q": "キュー", "r": "アール", "s": "エス", "t": "ティー", "u": "ユー", "v": "ブイ", "w": "ダブリュー",
    "x": "エックス", "y": "ワイ", "z": "ゼット",
    "-": "ハイフン", "_": "アンダーバー", ".": "ドット", ",": "コンマ", "@": "アットマーク", "#": "シャープ",
    "+": "プラス", "/": "スラッシュ", "=": "イコール", "?": "クエスチョン", "!": "ビックリマーク", "*": "アスタリスク",
    "%": "パーセント", "&": "アンド", "^": "ハット", "`": "バッククォート", "$": "ドル", ":": "コロン",
    ";": "セミコロン", "~": "チルダ",
}  # fmt: skip


def reading(text: str, cased: bool | None = None) -> str:
    """The text in kana, character by character: `12a` is イチ、ニ、エー.

    `cased`: say 大文字 or 小文字 before each letter; by default only where the text has both. Other signs stay.
    """
    if cased is None:
        cased = any(letter.isupper() for letter in text) and any(letter.islower() for letter in text)
    return "、".join(_spoken(letter, cased) for letter in text)


def _spoken(letter: str, cased: bool) -> str:
    case = "大文字" if letter.isupper() else "小文字" if letter.islower() else ""
    return (case if cased else "") + _NAMES.get(letter.lower(), letter)
