"""The one clock: milliseconds since 1970 UTC. On PostgreSQL it is corrected by the measured offset to the database."""

from __future__ import annotations

import time

from sqlalchemy import text

from mailbot.store.engine import Store

MAX_SKEW_MS = 2000


class ClockSkew(Exception):
    """This host's clock and the database's differ too much for leases and deadlines to hold."""


class Clock:
    """`now()` for every role of one process."""

    def __init__(self) -> None:
        self._offset_ms = 0

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self._offset_ms

    async def synchronise(self, store: Store) -> None:
        """Measures the offset to the database (PostgreSQL only). Raises ClockSkew over two seconds."""
        if store.dialect == "sqlite":
            return
        async with store.read() as tx:
            before = time.time_ns() // 1_000_000
            there = int(
                (await tx.execute(text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"))).scalar_one()
            )
            after = time.time_ns() // 1_000_000
        offset = there - (before + after) // 2
        if abs(offset) > MAX_SKEW_MS:
            raise ClockSkew(f"this host's clock differs from the database's by {offset} ms; synchronise it (NTP)")
        self._offset_ms = offset
