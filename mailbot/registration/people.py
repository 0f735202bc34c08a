"""Sealed columns and blind indexes of members: who writes or reads a person's facts does it through here.

A sealed value is bound to its place (`society/table/column/row id`), so that swapping two rows' bytes opens nothing.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, timedelta

from mailbot.config import Society
from mailbot.credentials import KeyRing, fold, login_id_text

from .kanji import COMMON_FORM

_BLANKS_AND_DASHES = re.compile(r"[\s\-\u00ad\u2010-\u2015\u2212\u30fc\uff70\u200b-\u200f\u2060\ufeff]+")
_LEADING_ZEROS = re.compile(r"^0+(?=.)")
_TO_KATAKANA = {code: code + 0x60 for code in range(0x3041, 0x3097)}
_TO_LARGE = str.maketrans("ァィゥェォッャュョヮヵヶ", "アイウエオツヤユヨワカケ")
_KANA_MARKS = re.compile(r"[\s\-.=・･ー゠\u00ad\u2010-\u2015\u2212\u200b-\u200f\u2060\ufeff]+")
_BLANKS = re.compile(r"[\s\u200b-\u200f\u2060\ufeff\ufe00-\ufe0f\U000e0100-\U000e01ef]+")
_JAPAN = timedelta(hours=9)  # without summer time since 1951
DAY_MS = 86_400_000
_ADDRESS_LIKE = re.compile(r"[^@＠\s]+[@＠][^@＠\s]+[.．][^@＠\s]+")
MAX_TYPED = 1024
MAX_LOGIN_KEY = 320


@dataclass(frozen=True, slots=True)
class Person:
    """What the roster says about a person: the JSON in `member.sealed`. Empty text = not given; dates are ISO."""

    symbol: str = ""
    number: str = ""
    relation: str = ""
    name: str = ""
    kana: str = ""
    birth_date: str = ""
    address: str = ""
    """Mail address on file."""
    nickname: str = ""
    """Temporary nickname."""
    household: str = ""
    postal_code: str = ""
    postal_address: str = ""

    def dump(self) -> bytes:
        """Compact JSON of what is given."""
        given = {name: value for name, value in asdict(self).items() if value}
        return json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def load(cls, data: bytes) -> Person:
        """Keys of another version of this program are left aside."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in json.loads(data).items() if name in known})

    @property
    def born(self) -> date | None:
        return date.fromisoformat(self.birth_date) if self.birth_date else None


def place(society: str, table: str, column: str, row_id: int) -> str:
    """The context a sealed value is bound to."""
    return f"{society}/{table}/{column}/{row_id}"


def seal_text(ring: KeyRing, text: str, society: str, table: str, column: str, row_id: int, now: int) -> bytes:
    return ring.seal(text.encode("utf-8", "surrogatepass"), place(society, table, column, row_id), now)


def open_text(ring: KeyRing, blob: bytes | None, society: str, table: str, column: str, row_id: int) -> str:
    """The text; empty for a column that is empty. Raises SealBroken."""
    if blob is None:
        return ""
    return ring.open(bytes(blob), place(society, table, column, row_id)).decode("utf-8", "surrogatepass")


def seal_person(ring: KeyRing, person: Person, society: str, member_id: int, now: int) -> bytes:
    return ring.seal(person.dump(), place(society, "member", "sealed", member_id), now)


def open_person(ring: KeyRing, blob: bytes, society: str, member_id: int) -> Person:
    """Raises SealBroken."""
    return Person.load(ring.open(bytes(blob), place(society, "member", "sealed", member_id)))


def dump_choices(chosen: Mapping[str, Mapping[str, bool]]) -> str:
    """`member.choices`."""
    return json.dumps({name: dict(of) for name, of in chosen.items()}, sort_keys=True)


# --- blind indexes --------------------------------------------------------------------------------------------------


def folded_name(text: str) -> str:
    """Names are found whatever their width, blanks and forms of kanji: ﾔﾏﾀﾞ ﾊﾅｺ and ヤマダハナコ are one, and so are
    髙橋 and 高橋. The key of a person holds only kana folded so: the table of kanji may grow."""
    return _BLANKS.sub("", unicodedata.normalize("NFKC", text)).translate(COMMON_FORM).casefold()


def folded_kana(text: str) -> str:
    """A name in kana however it was written: hiragana, half width, with large letters for small ones (ﾁﾖ for チョ)."""
    folded = unicodedata.normalize("NFKC", text[:MAX_TYPED]).translate(_TO_KATAKANA)
    return _KANA_MARKS.sub("", folded).translate(_TO_LARGE).casefold()


def folded_number(text: str) -> str:
    """A symbol or number as printed on any card or typed by anybody: width, blanks, hyphens and leading zeros do not
    count. 0012-3 and １２３ are one."""
    return _LEADING_ZEROS.sub("", folded_printed_id(text))


def folded_printed_id(text: str) -> str:
    """A printed login ID as typed by anybody: full-width digits, blanks, hyphens and case do not count."""
    return _BLANKS_AND_DASHES.sub("", unicodedata.normalize("NFKC", text[:MAX_TYPED])).casefold()


def temporary_key(ring: KeyRing, society: str, login_id: str) -> bytes:
    """`temporary.login_key`."""
    return ring.index("temporary-login", society, folded_printed_id(login_id))


def looks_like_address(typed: str) -> bool:
    """Whether a login ID could be a mail address."""
    return _ADDRESS_LIKE.fullmatch(typed[:MAX_TYPED].strip()) is not None


def login_key(typed: str) -> str:
    """`member.login_key` of a login ID; empty, which nobody has, for what no ID may hold. PostgreSQL refuses some of
    that (NUL, lone surrogates) with an error. Of an address only the case is folded: ken1@ and keni@ are two people."""
    key = login_id_text(typed).casefold() if looks_like_address(typed) else fold(typed)
    return key if key.isascii() and key.isprintable() and len(key) <= MAX_LOGIN_KEY else ""


def person_key(ring: KeyRing, society: str, person: Person) -> bytes:
    """`member.person_key`: symbol, number, birth date and kana make the person."""
    parts = (person.symbol, person.number, person.birth_date, folded_name(person.kana))
    return ring.index("person", society, *parts)


def household_key(ring: KeyRing, society: str, household: str) -> bytes:
    """`member.household`."""
    return ring.index("household", society, household)


def name_index(ring: KeyRing, society: str, name: str) -> bytes:
    """`member.name_index`."""
    return ring.index("name", society, folded_name(name))


def kana_index(ring: KeyRing, society: str, kana: str) -> bytes:
    """`member.kana_index`."""
    return ring.index("kana", society, folded_kana(kana))


def number_index(ring: KeyRing, society: str, symbol: str, number: str) -> bytes:
    """`member.number_index`."""
    return ring.index("number", society, folded_number(symbol), folded_number(number))


def file_address_index(ring: KeyRing, society: str, address_key: str) -> bytes:
    """`member.file_address_index`, from `Address.key`."""
    return ring.index("file-address", society, address_key)


# --- leaving --------------------------------------------------------------------------------------------------------


def today(now: int) -> str:
    """ISO date in Japan."""
    return (datetime.fromtimestamp(now / 1000, UTC) + _JAPAN).date().isoformat()


def has_left(society: Society, left_on: str | None, now: int) -> bool:
    """Whether login and letters are closed because the roster says the person left."""
    return society.left_closes_login and left_on is not None and left_on <= today(now)


def password_end(society: Society, password_set_at: int | None) -> int | None:
    """When the password runs out (ms), where the society sets an end."""
    if society.password.expires_days is None or password_set_at is None:
        return None
    return password_set_at + society.password.expires_days * DAY_MS
