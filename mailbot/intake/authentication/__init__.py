"""Who wrote a message: asks SPF, DKIM and DMARC about its sender, or reads what a server of ours wrote about it."""

from __future__ import annotations

from mailbot.config.site import Site
from mailbot.dns import Resolver
from mailbot.mail.authentication import Authentication
from mailbot.mail.envelope import Envelope
from mailbot.mail.inbound import Inbound
from mailbot.mail.network import Everybody, Peers


def unchecked(site: Site) -> Peers:
    """Peers whose senders nobody checks."""
    section = site.authentication
    if section.mode != "off":
        return Peers(())
    return Peers(section.peers) if section.peers else Everybody()


class Authenticator:
    """Lifetime: one intake role."""

    def __init__(self, site: Site, resolver: Resolver) -> None:
        self._site = site
        self._resolver = resolver
        self._unchecked = unchecked(site)
        self._upstream = Peers(site.authentication.upstream_peers)

    @property
    def binding(self) -> bool:
        """Whether results decide who is answered; else they are only noted."""
        return self._site.authentication.mode != "observe"

    async def check(self, envelope: Envelope, inbound: Inbound) -> Authentication | None:
        """What is known about the author; None where nobody is to be checked. Never raises."""
        if envelope.origin != "imap" and envelope.peer in self._unchecked:
            return None
        return Authentication()

    async def close(self) -> None:
        """Ends its threads."""
