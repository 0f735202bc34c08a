"""A named lease as a row: of all processes on one database, one does a thing at a time. Never commits."""

from __future__ import annotations

from sqlalchemy import or_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.store.engine import insert
from mailbot.store.tables import lease


async def take(tx: AsyncConnection, name: str, holder: str, now: int, milliseconds: int) -> bool:
    """True where `holder` has the lease until `now + milliseconds`: it was free, had run out, or was its own."""
    await tx.execute(insert(tx)(lease).values(name=name, holder=holder, until=now).on_conflict_do_nothing())
    taken = await tx.execute(
        update(lease)
        .where(lease.c.name == name, or_(lease.c.until <= now, lease.c.holder == holder))
        .values(holder=holder, until=now + milliseconds)
    )
    return bool(taken.rowcount)
