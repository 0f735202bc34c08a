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


def next_minute(ms: int) -> int:
    """The first full minute that is not before `ms`, so that a time shown without seconds is never too early."""
    return -(-ms // MINUTE_MS) * MINUTE_MS
