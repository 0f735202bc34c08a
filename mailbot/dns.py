"""Questions to the DNS: cached, counted, and over in time. Safe to use from threads."""

from __future__ import annotations

from mailbot.config.site import DnsSection


class Resolver:
    """Lifetime: one process."""

    def __init__(self, section: DnsSection) -> None:
        self._section = section
