"""When failed look-ups are worth an alarm. One domain alone has a fault of its own; several are our resolver's, and so
are all of them where few mails come."""

from __future__ import annotations

from mailbot.mail.organization import organization_of
from mailbot.ratelimit import MINUTE_MS

DOMAINS = 3
"""Organizations whose look-ups fail within a minute."""
MAILS = 3
"""Mails whose look-ups failed since a name server last answered ..."""
UNANSWERED_MS = 300_000
"""... where that is so long ago."""
UNANSWERED = "look-ups fail mail after mail, so mails get 451: does the resolver of this machine answer?"


class LookupTrouble:
    """What failed lately, and when a name server last answered. Times are milliseconds since the epoch."""

    def __init__(self) -> None:
        self._failed: dict[str, int] = {}
        self._mails: set[bytes] = set()
        self._answered_at: int | None = None

    def answered(self, now: int) -> None:
        """Notes that a name server did."""
        self._answered_at = now
        self._mails.clear()

    def worth_telling(self, domain: str, mail: bytes, now: int) -> bool:
        """Notes the failure of a mail; True where staff should hear of it."""
        if self._answered_at is None:
            self._answered_at = now  # a robot that has just started
        self._failed[organization_of(domain)] = now
        self._failed = {name: at for name, at in self._failed.items() if at > now - MINUTE_MS}
        if len(self._mails) < MAILS:
            self._mails.add(mail)
        silent = len(self._mails) == MAILS and now >= self._answered_at + UNANSWERED_MS
        return silent or len(self._failed) >= DOMAINS
