"""A birth date as people type it in three fields: any width, western years or Japanese ones (昭和20, S20, 平成元)."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from .outcomes import Complaint

YEAR, MONTH, DAY = FIELDS = ("birth_year", "birth_month", "birth_day")
"""Names of the form fields, in order."""
HINT = "例：1945年8月3日。年は「昭和20」「S20」のようにも入力できます。"
"""Stands above the fields."""
FIRST_YEAR = 1880
MAX_TYPED = 20
# first and last western year; the year an era changed in belongs to both, for that is how people remember it
_ERAS = {
    "M": (1868, 1912),
    "T": (1912, 1926),
    "S": (1926, 1989),
    "H": (1989, 2019),
    "R": (2019, 9999),
}
_LETTER = {
    "明治": "M",
    "大正": "T",
    "昭和": "S",
    "平成": "H",
    "令和": "R",
    "明": "M",
    "大": "T",
    "昭": "S",
    "平": "H",
    "令": "R",
}
_JUNK = re.compile(r"[\s.,・、。'\u200b-\u200f\u2060\ufeff-]+")
_YEAR = re.compile(r"(明治?|大正?|昭和?|平成?|令和?|[MTSHR])?([0-9]{1,4}|元)年?", re.ASCII | re.IGNORECASE)
_PART = {MONTH: re.compile(r"([0-9]{1,2})月?", re.ASCII), DAY: re.compile(r"([0-9]{1,2})日?", re.ASCII)}
_NAMES = {YEAR: "年", MONTH: "月", DAY: "日"}


class Mistake(StrEnum):
    """Why three texts are no birth date."""

    EMPTY = "empty"
    NO_YEAR = "no-year"
    NO_NUMBER = "no-number"
    NO_SUCH_DAY = "no-such-day"
    FUTURE = "future"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong: `fields` names the fields it is about, in order."""

    mistake: Mistake
    fields: tuple[str, ...]

    def complaints(self, label: str) -> tuple[Complaint, ...]:
        """A sentence beside each of the fields; `label` is what the page calls the birth date."""
        return tuple(Complaint(field, self._sentence(label, _NAMES[field])) for field in self.fields)

    def _sentence(self, label: str, part: str) -> str:
        return {
            Mistake.EMPTY: f"{label}の「{part}」を入力してください。",
            Mistake.NO_YEAR: f"{label}の「年」は、西暦の4けたか、「昭和20」のように元号を付けて入力してください。",
            Mistake.NO_NUMBER: f"{label}の「{part}」は、数字で入力してください。",
            Mistake.NO_SUCH_DAY: f"{label}は、実際にある日付を入力してください。",
            Mistake.FUTURE: f"{label}は、今日までの日付を入力してください。",
        }[self.mistake]


def read_birth_date(year: str, month: str, day: str, today: date) -> date | Problem:
    """The date three fields hold; `today` in Japan."""
    typed = {
        name: _JUNK.sub("", unicodedata.normalize("NFKC", text[: 2 * MAX_TYPED]))
        for name, text in zip(FIELDS, (year, month, day), strict=True)
    }
    if empty := tuple(name for name, text in typed.items() if not text):
        return Problem(Mistake.EMPTY, empty)
    western = _western_year(typed[YEAR])
    if isinstance(western, Problem):
        return western
    numbers = {name: pattern.fullmatch(typed[name]) for name, pattern in _PART.items()}
    if wrong := tuple(name for name, found in numbers.items() if found is None):
        return Problem(Mistake.NO_NUMBER, wrong)
    month_number, day_number = (int(found[1]) for found in numbers.values() if found is not None)
    try:
        born = date(western, month_number, day_number)
    except ValueError:
        return Problem(Mistake.NO_SUCH_DAY, (DAY if 1 <= month_number <= 12 else MONTH,))
    return Problem(Mistake.FUTURE, (YEAR,)) if born > today else born


def _western_year(text: str) -> int | Problem:
    found = _YEAR.fullmatch(text)
    if found is None:
        return Problem(Mistake.NO_YEAR, (YEAR,))
    era, digits = found[1], found[2]
    if era is None:
        known = digits != "元" and len(digits) == 4 and int(digits) >= FIRST_YEAR
        return int(digits) if known else Problem(Mistake.NO_YEAR, (YEAR,))
    first, last = _ERAS[_LETTER.get(era, era.upper())]
    count = 1 if digits == "元" else int(digits)
    if count < 1 or not FIRST_YEAR <= first + count - 1 <= last:
        return Problem(Mistake.NO_SUCH_DAY, (YEAR,))
    return first + count - 1
