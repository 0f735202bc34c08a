"""Budgets as table rows: how often something may happen for one subject in a minute, an hour and a day.

A window begins at its first hit and ends after its length. Rows are locked in key order, so that batches of several
processes cannot deadlock, and the row of an address is the lock for its link.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.store.bulk import Bulk
from mailbot.store.engine import insert
from mailbot.store.keys import among, values
from mailbot.store.tables import budget

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Most hits in each window; None = no limit."""

    minute: int | None = None
    hour: int | None = None
    day: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that wants to happen now."""

    society: str
    scope: str
    subject: str
    limits: Limits

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.society, self.scope, self.subject)


_COUNTERS = ("minute_at", "minute_count", "hour_at", "hour_count", "day_at", "day_count")
_LOCK = (
    select(budget)
    .where(among(budget.c.society, budget.c.scope, budget.c.subject))
    .order_by(budget.c.society, budget.c.scope, budget.c.subject)
    .with_for_update()
)


def _upsert(row: Any) -> Any:
    return row.on_conflict_do_update(
        index_elements=["society", "scope", "subject"], set_={name: row.excluded[name] for name in _COUNTERS}
    )


_SAVE = Bulk(sqlite=_upsert(sqlite.insert(budget)), postgresql=_upsert(postgresql.insert(budget)))


class Ledger:
    """The rows of some subjects, locked for this transaction. `allow` decides and counts in memory, `save` writes."""

    def __init__(self, rows: dict[tuple[str, str, str], list[int]], now: int) -> None:
        self._rows = rows
        self._now = now
        self._changed: set[tuple[str, str, str]] = set()

    @classmethod
    async def lock(cls, tx: AsyncConnection, keys: Sequence[tuple[str, str, str]], now: int) -> Ledger:
        """Locks (and makes where missing) the rows of these (society, scope, subject) keys, in key order."""
        keys = sorted(set(keys))
        if not keys:
            return cls({}, now)
        rows = {key: [now, 0, now, 0, now, 0] for key in keys}
        if tx.dialect.name != "sqlite":  # SQLite has one writer; elsewhere only a row that is there can be locked
            missing = insert(tx)(budget).on_conflict_do_nothing()
            await tx.execute(missing, [_values(key, row) for key, row in rows.items()])
        for found in await tx.execute(_LOCK, values(keys)):
            if (key := (found[0], found[1], found[2])) in rows:
                rows[key] = list(found[3:])
        for row in rows.values():
            for place, length in ((0, MINUTE_MS), (2, HOUR_MS), (4, DAY_MS)):
                # a window from further ahead than clocks differ was made by a wrong one
                if now >= row[place] + length or now < row[place] - MINUTE_MS:
                    row[place], row[place + 1] = now, 0
        return cls(rows, now)

    def allow(self, hits: Sequence[Hit]) -> Hit | None:
        """Counts all of these hits if every one is within its limits; else counts none and returns the one over."""
        for hit in hits:
            row = self._rows[hit.key]
            limits = hit.limits
            for count, limit in ((row[1], limits.minute), (row[3], limits.hour), (row[5], limits.day)):
                if limit is not None and count >= limit:
                    return hit
        for hit in hits:
            row = self._rows[hit.key]
            row[1] += 1
            row[3] += 1
            row[5] += 1
            self._changed.add(hit.key)
        return None

    def again_at(self, hit: Hit) -> int:
        """When the windows end that keep this hit from being allowed; now where none does."""
        row, limits = self._rows[hit.key], hit.limits
        windows = ((0, limits.minute, MINUTE_MS), (2, limits.hour, HOUR_MS), (4, limits.day, DAY_MS))
        ends = (row[at] + length for at, limit, length in windows if limit is not None and row[at + 1] >= limit)
        return max(ends, default=self._now)

    async def save(self, tx: AsyncConnection) -> None:
        """Writes the counters that changed."""
        if self._changed:
            await _SAVE.run(tx, [_values(key, self._rows[key]) for key in sorted(self._changed)])


def _values(key: tuple[str, str, str], row: Sequence[int]) -> dict[str, Any]:
    return dict(zip(("society", "scope", "subject", *_COUNTERS), (*key, *row), strict=True))


async def hit(tx: AsyncConnection, hits: Sequence[Hit], now: int) -> list[bool]:
    """Each hit alone: True = within its limits, and counted."""
    ledger = await Ledger.lock(tx, [one.key for one in hits], now)
    answers = [ledger.allow([one]) is None for one in hits]
    await ledger.save(tx)
    return answers


async def wait_until(tx: AsyncConnection, hits: Sequence[Hit], now: int) -> int | None:
    """Each hit alone, as `hit`: None when all were within their limits, else when the last of the others may be."""
    ledger = await Ledger.lock(tx, [one.key for one in hits], now)
    over = [one for one in hits if ledger.allow([one]) is not None]
    await ledger.save(tx)
    return max((ledger.again_at(one) for one in over), default=None)


async def forgive(tx: AsyncConnection, hits: Sequence[Hit]) -> None:
    """Takes back one count of each hit, which this transaction holds: what was guarded against was none."""
    counts = {name: budget.c[name] - 1 for name in ("minute_count", "hour_count", "day_count")}
    rows = among(budget.c.society, budget.c.scope, budget.c.subject)
    await tx.execute(update(budget).where(rows, budget.c.day_count > 0).values(counts), values([h.key for h in hits]))


async def refund(tx: AsyncConnection, society: str, scope: str, subject: str) -> bool:
    """Forgets what a subject has used, such as an address whose registration was finished; whether it had used any."""
    mine = (budget.c.society == society, budget.c.scope == scope, budget.c.subject == subject)
    return bool(await tx.scalar(delete(budget).where(*mine).returning(budget.c.day_count)))
