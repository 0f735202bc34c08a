"""One cell -> its value. Every function raises `BadCell` with a sentence that tells the rule and never the content."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Set
from datetime import date

import jaconv

from mailbot.credentials import Format
from mailbot.mail.address import AddressError, parse_typed

MAX_TEXT = 200
_SPACES = re.compile(r"[\s\u3000]+")
_KANA = re.compile(r"[ァ-ヺー・ヽヾA-Za-z' .,-]+")
_LONG_VOWEL = re.compile(r"(?<=[ァ-ヺー])[-‐‑–—−](?=[ァ-ヺー]|\s|$)")
_SPOILT = re.compile(
    r"[0-9]+(?:\.[0-9]+)?E[+-]?[0-9]+|[0-9]{1,4}[/年.][0-9]{1,2}[/月.][0-9]{1,2}日?|#[A-Z/0!?]+", re.IGNORECASE
)
_DATE = re.compile(r"([0-9]{4})(?:([-/.年])([0-9]{1,2})([-/.月])([0-9]{1,2})日?|([0-9]{2})([0-9]{2}))")
_ERA_DATE = re.compile(
    r"(明治|大正|昭和|平成|令和|[MTSHR])([0-9]{1,2}|元)[-/.年]([0-9]{1,2})[-/.月]([0-9]{1,2})日?", re.IGNORECASE
)
# first and last day of each era
_ERAS = {
    "M": ("明治", date(1868, 1, 25), date(1912, 7, 30)),
    "T": ("大正", date(1912, 7, 30), date(1926, 12, 25)),
    "S": ("昭和", date(1926, 12, 25), date(1989, 1, 7)),
    "H": ("平成", date(1989, 1, 8), date(2019, 4, 30)),
    "R": ("令和", date(2019, 5, 1), date.max),
}
_ERA_LETTERS = {name: letter for letter, (name, _, _) in _ERAS.items()}
_YES = frozenset(("はい", "有", "あり", "○", "◯", "〇", "1", "yes", "y", "true", "対象", "保護"))
_NO = frozenset(("", "いいえ", "無", "なし", "×", "✕", "0", "no", "n", "false", "非対象"))


class BadCell(ValueError):
    """What is wrong with a cell; holds none of its content."""


def plain(text: str) -> str:
    """NFKC without outer blanks: for everything that is compared."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip()


def as_written(text: str) -> str:
    """Outer blanks gone, inner ones one each; letters as they are, for 神 and 﨑 are not 神 and 崎."""
    value = _SPACES.sub("\u3000" if "\u3000" in text.strip() else " ", text.strip())
    if len(value) > MAX_TEXT:
        raise BadCell(f"{MAX_TEXT}文字までにしてください。")
    return value


def identifier(text: str) -> str:
    """Symbol or number: text, never a number that a spreadsheet rewrote."""
    value = plain(plain(text).replace(" ", ""))  # an accent may now stand beside its letter
    if not value:
        raise BadCell("空欄です。")
    if _SPOILT.fullmatch(value):
        raise BadCell("表計算ソフトが日付や指数に書き換えています。列を「文字列」にして、書き直してください。")
    if len(value) > 20:
        raise BadCell("20文字までにしてください。")
    return value


def kana(text: str) -> str:
    """Full-width katakana, whatever was written."""
    value: str = jaconv.hira2kata(plain(text))
    value = _LONG_VOWEL.sub("ー", value)
    if not value:
        raise BadCell("空欄です。")
    if not _KANA.fullmatch(value):
        raise BadCell("カナ（または英字）でない文字があります。")
    if len(value) > MAX_TEXT:
        raise BadCell(f"{MAX_TEXT}文字までにしてください。")
    return value


def day(text: str) -> date:
    """A date in one of the forms of docs/roster.md."""
    value = plain(text).replace(" ", "")
    if not value:
        raise BadCell("空欄です。")
    try:
        if found := _DATE.fullmatch(value):
            year, _, month, _, dom, packed_month, packed_dom = found.groups()
            return date(int(year), int(month or packed_month), int(dom or packed_dom))
        if found := _ERA_DATE.fullmatch(value):
            return _era_day(*found.groups())
    except ValueError as error:
        if isinstance(error, BadCell):
            raise
        raise BadCell("ない日付です。") from None
    raise BadCell("日付として読めません（例: 1960-01-02、1960/1/2、19600102、昭和35年1月2日、S35.1.2）。")


def _era_day(era: str, year: str, month: str, dom: str) -> date:
    name, first, last = _ERAS[_ERA_LETTERS.get(era, era.upper())]
    count = 1 if year == "元" else int(year)
    value = date(first.year + count - 1, int(month), int(dom))
    if count < 1 or not first <= value <= last:
        raise BadCell(f"{name}にない日付です。")
    return value


def birth_date(text: str, today: str) -> str:
    """ISO date between 1880 and today."""
    value = day(text).isoformat()
    if value < "1880" or value > today:
        raise BadCell("生年月日としてありえない日付です。")
    return value


def leaving_date(text: str) -> str | None:
    """ISO date, None when empty."""
    return day(text).isoformat() if text.strip() else None


def mail_address(text: str, legacy_domains: Set[str], own: Set[str]) -> str:
    """The address in canonical form; empty when none is given."""
    if not text.strip():
        return ""
    try:
        address = parse_typed(text, legacy_domains)
    except AddressError:
        raise BadCell("メールアドレスとして使えません。") from None
    if address.text.lower() in own:
        raise BadCell("このシステム自身のメールアドレスです。")
    return address.text


def mark(text: str) -> bool:
    """はい or いいえ in one of their spellings."""
    value = plain(text).casefold()
    if value in _YES:
        return True
    if value in _NO:
        return False
    raise BadCell("「はい」か空欄にしてください（○、1、yesも使えます）。")


def postal_code(text: str) -> str:
    """123-4567; empty when none is given."""
    value = plain(text).replace("〒", "").replace(" ", "")
    found = re.fullmatch(r"([0-9]{3})[-‐−ー]?([0-9]{4})", value)
    if value and not found:
        raise BadCell("郵便番号は数字7桁です。表計算ソフトが先頭の0を消していないか、お確かめください。")
    return f"{found[1]}-{found[2]}" if found else ""


def printed_id(text: str, fmt: Format) -> str:
    """A temporary ID of the society's own making, in the society's format (`00123` that became `123` shows)."""
    return _printed(text, fmt, 4, exact=fmt.alphabet == "digits")


def printed_password(text: str, fmt: Format) -> str:
    """A temporary password of the society's own making."""
    return _printed(text, fmt, min(8, fmt.length), exact=fmt.alphabet == "digits")


def _printed(text: str, fmt: Format, shortest: int, exact: bool) -> str:
    value = plain(text)
    if not value:
        return ""
    if exact and not fmt.fits(value):
        raise BadCell(
            f"数字{fmt.length}桁ではありません。表計算ソフトが先頭の0を消したり、指数や日付に書き換えたりしていないか、"
            "お確かめください。"
        )
    if _SPOILT.fullmatch(value):
        raise BadCell("表計算ソフトが日付や指数に書き換えています。列を「文字列」にして、書き直してください。")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise BadCell("半角の英数字と記号で書いてください。")
    if value[0] in "=+-@":
        raise BadCell("「= + - @」では始められません。")
    if not shortest <= len(value) <= 40:
        raise BadCell(f"{shortest}文字から40文字までにしてください。")
    return value
