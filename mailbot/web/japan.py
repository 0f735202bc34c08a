"""Times as members read them: in Japan, in words. All arguments are milliseconds since 1970 UTC."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

JAPAN = timezone(timedelta(hours=9), "JST")
_DAYS = "月火水木金土日"
MINUTE_MS = 60_000


def local(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, JAPAN)


def day(ms: int) -> str:
    """2026年11月20日（金）"""
    at = local(ms)
    return f"{at.year}年{at.month}月{at.day}日（{_DAYS[at.weekday()]}）"


def clock(ms: int) -> str:
    """15時42分"""
    at = local(ms)
    return f"{at.hour}時{at.minute:02}分"


def moment(ms: int) -> str:
    """2026年11月20日（金）15時42分"""
    return day(ms) + clock(ms)


def until(ms: int, now: int) -> str:
    """A time to come: only the clock where it is today, else with its day."""
    return clock(ms) if local(ms).date() == local(now).date() else moment(ms)


_ERAS = ((2019, "令和"), (1989, "平成"), (1926, "昭和"), (1912, "大正"), (1868, "明治"))
OLDEST = 120
"""Years that a list of birth years goes back."""


def birth_years(now: int) -> list[tuple[str, str]]:
    """(2019, 2019（平成31／令和元）) and so on, this year first: what a list of birth years offers."""
    this_year = local(now).year
    return [(str(year), f"{year}（{_in_eras(year)}）") for year in range(this_year, this_year - OLDEST - 1, -1)]


def _in_eras(year: int) -> str:
    """昭和64／平成元: the year an era changed in belongs to both, for that is how people remember it."""
    found: list[str] = []
    for first, name in _ERAS:
        if year >= first:
            count = year - first + 1
            found.insert(0, f"{name}{count if count > 1 else '元'}")
            if year > first:
                break
    return "／".join(found)


def numbers(last: int) -> list[tuple[str, str]]:
    """The months or days of a list."""
    return [(str(number), str(number)) for number in range(1, last + 1)]


def next_minute(ms: int) -> int:
    """The first full minute that is not before `ms`, so that a time shown without seconds is never too early."""
    return -(-ms // MINUTE_MS) * MINUTE_MS
