"""What somebody typed a moment ago, for the next page to show: an address or a login ID. In a cookie, in no URL."""

from __future__ import annotations

import base64
import binascii

from mailbot.web.cookies import SENT
from mailbot.web.visit import Visit

_SECONDS = 600
MOST = 320
"""Bytes; what is longer is cut."""


def remember(visit: Visit, typed: str, cookie: str = SENT) -> None:
    encoded = base64.urlsafe_b64encode(typed.strip()[:MOST].encode()[:MOST]).decode().rstrip("=")
    visit.set_cookie(cookie, encoded or "-", _SECONDS)


def remembered(visit: Visit, cookie: str = SENT) -> str:
    """What was typed, or nothing."""
    value = visit.cookie(cookie) or ""
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return ""
