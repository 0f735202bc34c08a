"""When failed look-ups are worth an alarm. One domain alone has a fault of its own; several are our resolver's."""

from __future__ import annotations

from mailbot.ratelimit import MINUTE_MS

DOMAINS = 3
"""So many whose look-ups fail within a minute."""
UNANSWERED = "look-ups fail for domain after domain, so mails get 451: does the resolver of this machine answer?"
QUIET_MS = 600_000
"""Staff are told again after this at the earliest."""


class LookupTrouble:
    """Domains whose look-ups failed lately, and when staff were told."""

    def __init__(self) -> None:
        self._failed: dict[str, int] = {}
        self._told_at = 0

    def worth_telling(self, domain: str, now: int) -> bool:
        """Notes a failure; True where it is time for an alarm."""
        self._failed[domain] = now
        self._failed = {name: at for name, at in self._failed.items() if at > now - MINUTE_MS}
        if len(self._failed) < DOMAINS or now < self._told_at + QUIET_MS:
            return False
        self._told_at = now
        return True
