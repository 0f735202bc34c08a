"""When a mail is tried, tried again, and given up: every number of the way out, as data. Times are milliseconds."""

from __future__ import annotations

from enum import IntEnum, StrEnum

SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS


class Lane(IntEnum):
    """Who goes first. Smaller is more urgent."""

    PIN = 0
    LINK = 1
    REISSUE = 2
    COMPLETION = 3
    BULK = 4


class MailState(StrEnum):
    """State of an outbox row. QUEUED and HELD may still go out; the others are ends."""

    QUEUED = "queued"
    HELD = "held"
    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


PIN_ATTEMPT_MS = 30 * SECOND_MS
ATTEMPT_MS = 120 * SECOND_MS
"""Longest time of one attempt, from MAIL to the relay's last word."""

LEASE_SLACK_MS = 10 * SECOND_MS
"""What a claim leaves beyond the attempt: for rendering, waiting for a connection and settling."""

_PIN_WAITS_MS = tuple(s * SECOND_MS for s in (15, 45, 120, 240))
_WAITS_MS = tuple(m * MINUTE_MS for m in (1, 3, 7, 15, 30, 60, 90))
SPREAD = 0.2
"""Waits are stretched or shortened by up to this share, so that mails put off together do not come back together."""

MAX_AGE_MS = 48 * 60 * MINUTE_MS
"""A mail without a deadline is given up this long after it was queued."""


def attempt_ms(lane: int) -> int:
    """Longest time of one attempt in this lane."""
    return PIN_ATTEMPT_MS if lane == Lane.PIN else ATTEMPT_MS


def wait_ms(lane: int, tries: int) -> int:
    """Wait after the try of this number (from 1), before the spread. RFC 5321 section 4.5.4.1 asks for 30 minutes
    unless there is a reason; ours is a member who waits for a link that dies."""
    waits = _PIN_WAITS_MS if lane == Lane.PIN else _WAITS_MS
    return waits[min(tries, len(waits)) - 1]


def last_moment(created_at: int, deadline_at: int | None) -> int:
    """From when on a mail is not sent any more."""
    return created_at + MAX_AGE_MS if deadline_at is None else deadline_at


def next_attempt_at(
    lane: int, tries: int, created_at: int, deadline_at: int | None, now: int, factor: float
) -> int | None:
    """When a mail that was put off is tried again, or None when that would be too late.

    `factor` is the spread, 1 ± SPREAD. A long wait that would miss the end is cut to one last try before it.
    """
    end = last_moment(created_at, deadline_at)
    at = now + round(wait_ms(lane, tries) * factor)
    last_try = end - attempt_ms(lane)
    if at > last_try >= now + round(wait_ms(lane, 1) * factor):
        at = last_try
    return at if at < end else None
