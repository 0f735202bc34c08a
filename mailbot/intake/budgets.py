"""Which budgets an incoming mail uses: so many answers an hour for one address, its domain, its network, its society.

A mail of a proved sender that is over one of them is put off and comes again (451): on a posting day nobody is dropped.
Who may be anybody has small budgets of his own, and uses up nothing that proved senders need (RFC 3834 section 2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Settings
from mailbot.mail.address import CASE_FOLDING_DOMAINS, Address
from mailbot.mail.network import network_of
from mailbot.mail.organization import organization_of
from mailbot.ratelimit import Hit, Limits
from mailbot.registration import helpdesk
from mailbot.registration.limits import EVERYWHERE
from mailbot.store.alarms import Alarm
from mailbot.store.tables import member

REFRESH_MS = 60_000
STRANGERS = "unproved-all"
CROWDS = frozenset({STRANGERS, "unproved-domain", "unproved-network"})
"""Budgets that one whom nobody vouches for shares with others."""
SILENT = frozenset({"address", EVERYWHERE, "unproved", *CROWDS, helpdesk.SCOPE})
"""Budgets whose excess is taken over and dropped: one address asks too often, or nobody knows who asks."""
ALARMS = {
    "domain": Alarm.BUDGET_DOMAIN,
    "network": Alarm.BUDGET_NETWORK,
    "society": Alarm.BUDGET_SOCIETY,
    "help-society": Alarm.BUDGET_HELP_SOCIETY,
    "help-unproved": Alarm.BUDGET_HELP_UNPROVED,
}
"""What the excess of all others raises."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Whom a mail's budgets belong to. `peer`: whose network counts, None where the peer is a server of ours."""

    society: str
    address: Address
    proved: bool
    peer: str | None


class Budgets:
    """The installation's numbers, and each society's cap an hour, which follows its roster."""

    def __init__(self, settings: Settings) -> None:
        self._site = settings.site
        self._societies = settings.societies
        numbers = self._numbers = settings.site.budgets
        self._large = CASE_FOLDING_DOMAINS | frozenset(settings.site.smtp.legacy_domains)
        minute, hour, day = numbers.address_per_minute, numbers.address_per_hour, numbers.address_per_day
        self._address, self._everywhere = Limits(minute, hour, day), Limits(2 * minute, 2 * hour, 2 * day)
        self._stranger = Limits(hour=numbers.unproved_per_hour, day=numbers.unproved_per_day)
        self._caps: dict[str, tuple[int, int]] = {}

    async def refresh(self, tx: AsyncConnection, societies: Iterable[str], now: int) -> None:
        """To be called before the hits of these societies are asked for. Counts the members not yet registered, once a
        minute at the most."""
        for society in societies:
            if society in self._caps and now - self._caps[society][0] < REFRESH_MS:
                continue
            waiting = await tx.scalar(
                select(func.count()).select_from(member).where(member.c.society == society, member.c.state == "invited")
            )
            share = (waiting or 0) * self._numbers.society_per_hour_percent // 100
            self._caps[society] = (now, max(self._numbers.society_per_hour_min, share))

    def answer(self, who: Asker) -> list[Hit]:
        """What an answer to a blank mail uses."""
        mine = Hit(who.society, "address", who.address.key, self._address)
        if not who.proved:
            return [mine, *self._strangers(who)]
        cap, (domain, large) = self._cap(who.society), self._owner(who)
        most = self._numbers.domain_per_hour
        several = len(self._societies) > 1  # they must not add up in one mailbox
        return [
            mine,
            *([Hit("", EVERYWHERE, who.address.key, self._everywhere)] if several else []),
            Hit(who.society, "society", "", Limits(hour=cap)),
            Hit(who.society, "domain", domain, Limits(hour=most if large else min(most, self._part(cap)))),
            *self._network(who),
        ]

    def request(self, who: Asker) -> list[Hit]:
        """What a mail to a help desk uses. Those that anybody may have written wait in a smaller queue of their own."""
        cap = self._cap(who.society)
        if not who.proved:
            return helpdesk.hits(who.society, who.address, "help-unproved", Limits(hour=self._share(cap)))
        return [*helpdesk.hits(who.society, who.address, "help-society", Limits(hour=cap)), *self._network(who)]

    def word(self, who: Asker) -> list[Hit]:
        """What the word to its sender uses, that the mail has arrived."""
        told = helpdesk.told(self._site, who.society, who.address)
        return told if who.proved else [*told, *self._strangers(who)]

    def warning(self, society: str) -> Hit:
        """One alarm an hour about strangers: their storm must not cost a statement a mail."""
        return Hit(society, "unproved-alarm", "", Limits(hour=1))

    def _strangers(self, who: Asker) -> list[Hit]:
        """An address has its share of the whole installation; one domain and one network have a quarter of what all
        strangers have, so that they are not the only ones."""
        share = self._share(self._cap(who.society))
        quarter, (domain, large) = Limits(hour=max(1, share // 4)), self._owner(who)
        return [
            Hit("", "unproved", who.address.key, self._stranger),
            *([] if large else [Hit(who.society, "unproved-domain", domain, quarter)]),
            *([Hit(who.society, "unproved-network", network_of(who.peer), quarter)] if who.peer else []),
            Hit(who.society, STRANGERS, "", Limits(hour=share)),
        ]

    def _network(self, who: Asker) -> list[Hit]:
        """What a network sends for others than the large providers is counted apart: it may be a stranger's."""
        if not who.peer:
            return []
        network, most = network_of(who.peer), self._numbers.network_per_hour
        if self._owner(who)[1]:
            return [Hit(who.society, "network", network, Limits(hour=most))]
        part = Limits(hour=min(most, self._part(self._cap(who.society))))
        return [Hit(who.society, "network", f"{network} (small domains)", part)]

    def _owner(self, who: Asker) -> tuple[str, bool]:
        """Whose an address's domain is, and whether members share it. Where anybody can have a domain and prove it, the
        owner of one, with all names below it, must not use up what all members have."""
        domain = who.address.domain
        society = self._societies.get(who.society)
        for own in society.entry.domains if society else ():
            if domain == own or domain.endswith(f".{own}"):
                return own, True
        if domain in self._large:
            return domain, True
        owner = organization_of(domain)
        return owner, owner in self._large

    def _part(self, cap: int) -> int:
        return max(1, cap * self._numbers.other_domain_percent // 100)

    def _share(self, cap: int) -> int:
        return max(1, cap * self._numbers.unproved_percent // 100)

    def _cap(self, society: str) -> int:
        return self._caps[society][1]
