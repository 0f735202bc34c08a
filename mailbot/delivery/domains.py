"""How many mails may be on their way to each mail domain at a time, and which wait for their turn.

A domain that asks for less is left alone for a while, then gets half of what it had, and step by step more again with
every round of mails it takes. Every question costs the same however many domains and mails there are.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from typing import Generic, TypeVar

from mailbot.delivery.policy import Lane

SLOW_DOMAIN_MS = 60_000
"""How long a domain that asked for less is left alone."""
PATIENCE_MS = 2000
"""A mail that waits for its domain's turn for longer makes room for mails to others, and so do those behind it until
one of those under way is done."""
TURN_MS, PIN_TURN_MS = 5000, 500
"""When it comes again, at the earliest; others than PINs each by chance, or they would all come at once, within as long
again,"""
LONGEST_SPREAD_MS = 25_000
"""and those that can wait within as long as their domain has kept mails waiting, up to this: to come again costs."""
FORGET_BEHIND_MS = 60_000
"""A domain that kept no mail waiting for so long does well again."""
FORGET_MS = 3_600_000
"""A domain that got no mail for so long after its rest starts afresh."""

Item = TypeVar("Item")


@dataclass(slots=True)
class _Slowed:
    """`most` at a time; until `until` nothing but a PIN; `taken` since `most` was last raised."""

    most: int
    until: int
    taken: int = 0


@dataclass(slots=True)
class _Behind:
    """Since when mails have had to go back, and when the last one had to."""

    since: int
    last: int


class Domains(Generic[Item]):
    """`most`: mails to one domain at a time, unless it asked for less. Times are milliseconds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._busy: dict[str, int] = {}
        self._waiting: dict[str, list[tuple[int, int, int, Item]]] = {}  # heaps of (lane, number, since, item)
        self._stuck: set[str] = set()
        self._behind: dict[str, _Behind] = {}
        self._slowed: dict[str, _Slowed] = {}

    def enter(self, domain: str, lane: int, number: int, item: Item, now: int) -> int | None:
        """0: the mail may go, and `leave` follows it; None: it waits, and comes back out of `leave` or `overdue`; else
        when to ask again. A domain at rest still gets one PIN at a time."""
        if at := self.again(domain, lane, now):
            return at
        busy = self._busy.get(domain, 0)
        if busy < self._width(domain, now):
            self._busy[domain] = busy + 1
            return 0
        heapq.heappush(self._waiting.setdefault(domain, []), (lane, number, now, item))
        return None

    def again(self, domain: str, lane: int, now: int) -> int:
        """When to ask again with a mail that need not even be made now; 0 where it may be."""
        if lane == Lane.PIN:
            return 0
        if self._slowed and (slowed := self._slowed.get(domain)) is not None and now < slowed.until:
            return slowed.until + random.randrange(SLOW_DOMAIN_MS // 4)
        if domain in self._stuck and self._busy.get(domain, 0) >= self._width(domain, now):
            return self._later(domain, lane, now)
        return 0

    def _width(self, domain: str, now: int) -> int:
        slowed = self._slowed.get(domain) if self._slowed else None
        if slowed is None:
            return self._most
        return slowed.most if now >= slowed.until else 1

    def _later(self, domain: str, lane: int, now: int) -> int:
        if lane == Lane.PIN:
            return now + PIN_TURN_MS
        behind = self._behind.setdefault(domain, _Behind(now, now))
        behind.last = now
        most = TURN_MS if lane <= Lane.REISSUE else LONGEST_SPREAD_MS
        return now + TURN_MS + random.randrange(min(max(TURN_MS, now - behind.since), most))

    def leave(self, domain: str) -> tuple[int, int, Item] | None:
        """A mail of this domain is done -> the next that waited for it (lane, number, item)."""
        busy = self._busy[domain] - 1
        if busy:
            self._busy[domain] = busy
        else:
            del self._busy[domain]
        self._stuck.discard(domain)
        if not self._waiting or (waiting := self._waiting.get(domain)) is None:
            return None
        lane, number, _, item = heapq.heappop(waiting)
        if not waiting:
            del self._waiting[domain]
        return lane, number, item

    def overdue(self, now: int) -> list[tuple[Item, int]]:
        """The mails that waited too long, with the time to ask again; they wait here no more."""
        found: list[tuple[Item, int]] = []
        if self._behind:
            self._behind = {name: one for name, one in self._behind.items() if now < one.last + FORGET_BEHIND_MS}
        for domain, waiting in list(self._waiting.items()) if self._waiting else ():
            late = [entry for entry in waiting if now - entry[2] >= PATIENCE_MS]
            if not late:
                continue
            found += [(item, self._later(domain, lane, now)) for lane, _, _, item in late]
            self._stuck.add(domain)
            kept = [entry for entry in waiting if now - entry[2] < PATIENCE_MS]
            if kept:
                heapq.heapify(kept)
                self._waiting[domain] = kept
            else:
                del self._waiting[domain]
        return found

    def give_up(self) -> list[Item]:
        """All mails that wait; they wait here no more."""
        waiting, self._waiting = self._waiting, {}
        return [entry[3] for entries in waiting.values() for entry in entries]

    def asked_for_less(self, domain: str, now: int) -> bool:
        """False where it has its rest already: those that were under way together count once."""
        known = self._slowed.get(domain)
        if known is not None and now < known.until:
            return False
        self._slowed = {name: one for name, one in self._slowed.items() if now < one.until + FORGET_MS}
        most = known.most if known is not None else self._most
        self._slowed[domain] = _Slowed(max(1, most // 2), now + SLOW_DOMAIN_MS)
        return True

    def took(self, domain: str) -> None:
        """The domain took a mail without complaint."""
        if not self._slowed or (slowed := self._slowed.get(domain)) is None:
            return
        slowed.taken += 1
        if slowed.taken >= slowed.most:
            slowed.most += 1
            slowed.taken = 0
            if slowed.most >= self._most:
                del self._slowed[domain]
