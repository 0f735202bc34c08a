"""What every use case needs, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass

from mailbot.config import Settings
from mailbot.credentials import KeyRing, Passwords
from mailbot.store import Store


@dataclass(frozen=True)
class Context:
    """Lifetime: one process."""

    settings: Settings
    ring: KeyRing
    passwords: Passwords
    store: Store

    @property
    def host(self) -> str:
        """The name in Message-IDs."""
        return self.settings.site.site.host
