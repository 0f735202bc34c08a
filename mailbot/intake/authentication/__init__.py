"""Who wrote a message: asks SPF, DKIM and DMARC about its sender, or reads what a server of ours wrote about it."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from weakref import WeakValueDictionary

from mailbot.config.site import Site
from mailbot.dns import Lookups, Resolver
from mailbot.intake.authentication import evidence
from mailbot.intake.authentication.evidence import Belief
from mailbot.mail.authentication import Authentication, Result, Source
from mailbot.mail.envelope import Envelope
from mailbot.mail.inbound import Inbound
from mailbot.mail.network import Everybody, Peers, network_of
from mailbot.telemetry import emit

NETWORKS = 4
"""How many networks it takes to keep all threads busy."""
LAST_SECOND = 1.0
"""What may pass after the last look-up: reading the answer, and the signatures' arithmetic."""
UNKNOWN = Authentication(spf=Result.TEMPERROR, dmarc=Result.TEMPERROR)


def unchecked(site: Site) -> Peers:
    """Peers whose senders nobody checks."""
    section = site.authentication
    if section.mode != "off":
        return Peers(())
    return Peers(section.peers) if section.peers else Everybody()


class Authenticator:
    """Lifetime: one intake role."""

    def __init__(self, site: Site, resolver: Resolver) -> None:
        section = self._section = site.authentication
        self._resolver = resolver
        self._unchecked = unchecked(site)
        self._upstream = Peers(section.upstream_peers)
        self._beliefs = {
            name: Belief(one.authserv_id, one.profile) for name, one in site.imap.items() if one.authserv_id
        }
        self._upstream_belief = Belief(section.authserv_id, section.profile) if section.authserv_id else None
        self._share = max(1, section.threads // NETWORKS)
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._pool = ThreadPoolExecutor(section.threads, thread_name_prefix="authentication")

    @property
    def binding(self) -> bool:
        """Whether results decide who is answered; else they are only noted."""
        return self._section.mode != "observe"

    async def check(self, envelope: Envelope, inbound: Inbound) -> Authentication | None:
        """What is known about the author; None where nobody is to be checked. Never raises, and is over in time."""
        if envelope.origin != "imap" and envelope.peer in self._unchecked:
            return None
        seconds = float(self._section.message_seconds)
        lookups = self._resolver.lookups(self._section.message_lookups, seconds)  # its time runs while it queues
        try:
            async with asyncio.timeout(seconds + LAST_SECOND), self._turn(envelope):
                loop = asyncio.get_running_loop()
                known = await loop.run_in_executor(self._pool, self._examine, envelope, inbound, lookups)
        except TimeoutError:
            known = replace(UNKNOWN, words="no result in time")
        except Exception as error:  # a fault of ours proves nothing about the sender, nor that nothing is to be known
            emit("mail.unauthenticated", error=error, peer=envelope.peer)
            known = replace(UNKNOWN, words="no result", source=Source.FAULT)
        known = replace(known, answered=lookups.answered)
        emit("mail.authenticated", reason=known.dmarc, words=known.words, source=known.source, peer=envelope.peer)
        return known

    def _turn(self, envelope: Envelope) -> AbstractAsyncContextManager[object]:
        """A sender whose name servers keep silent holds a thread for seconds; one network never holds them all. What
        comes through a server of ours is the mail of everybody."""
        if not envelope.direct or envelope.origin == "imap" or envelope.peer in self._upstream:
            return contextlib.nullcontext()
        return self._turns.setdefault(network_of(envelope.peer), asyncio.Semaphore(self._share))

    def _examine(self, envelope: Envelope, inbound: Inbound, lookups: Lookups) -> Authentication:
        """In a thread."""
        author = inbound.from_address
        if author is None:
            return Authentication()
        if envelope.origin == "imap":
            return evidence.reported(envelope, author, self._beliefs.get(envelope.peer), lookups)
        if not envelope.direct or envelope.peer in self._upstream:
            return evidence.reported(envelope, author, self._upstream_belief, lookups)
        return evidence.checked(envelope, author, lookups)

    async def close(self) -> None:
        """Ends its threads; those that wait for the DNS are over within `message_seconds`."""
        self._pool.shutdown(wait=False, cancel_futures=True)
