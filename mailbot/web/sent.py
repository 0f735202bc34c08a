"""The address somebody typed a moment ago: the next page shows it for checking. It travels in a cookie, in no URL."""

from __future__ import annotations

import base64
import binascii

from mailbot.web.cookies import SENT
from mailbot.web.visit import Visit

_SECONDS = 600
_MOST = 320


def remember(visit: Visit, typed: str) -> None:
    encoded = base64.urlsafe_b64encode(typed.strip()[:_MOST].encode()[:_MOST]).decode().rstrip("=")
    visit.set_cookie(SENT, encoded or "-", _SECONDS)


def remembered(visit: Visit) -> str:
    """The address, or nothing."""
    value = visit.cookie(SENT) or ""
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return ""
