"""Names and attributes of our cookies. Over https all carry the `__Host-` prefix, which binds them to this host."""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.responses import Response

_VALUE = re.compile(r"[A-Za-z0-9._~-]{1,600}")

FORM = "mb-form"
TEXT = "mb-text"
SENT = "mb-sent"
LOGIN_ID = "mb-login"


def session_name(society: str) -> str:
    return f"mb-session-{society}"


def pin_name(society: str) -> str:
    return f"mb-pin-{society}"


def link_name(link: str) -> str:
    return f"mb-link-{link}"


def journey_name(journey: str) -> str:
    return f"mb-journey-{journey}"


def reissue_name(link: str) -> str:
    return f"mb-reissue-{link}"


class Cookies:
    """Reads and writes cookies by their plain names."""

    def __init__(self, secure: bool) -> None:
        self.secure = secure
        self._prefix = "__Host-" if secure else ""

    def get(self, sent: Mapping[str, str], name: str) -> str | None:
        """The value, or None when it is missing or cannot be ours."""
        value = sent.get(self._prefix + name)
        return value if value is not None and _VALUE.fullmatch(value) else None

    def set(self, response: Response, name: str, value: str, max_age: int | None = None) -> None:
        """`max_age` in seconds; None = until the browser closes. Lax, so that a link from a mail program finds it."""
        response.set_cookie(
            self._prefix + name, value, max_age=max_age, path="/", secure=self.secure, httponly=True, samesite="lax"
        )

    def drop(self, response: Response, name: str) -> None:
        self.set(response, name, "", 0)
