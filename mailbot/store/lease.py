"""Work that one process does at a time, as a row: who holds it, and until when. The dead lose it by themselves."""

from __future__ import annotations

from sqlalchemy import delete, or_
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.store.engine import insert
from mailbot.store.tables import lease


async def take(tx: AsyncConnection, name: str, holder: str, now: int, ms: int) -> bool:
    """Takes the lease, or makes it last `ms` from `now` where `holder` has it already. False: somebody else has it."""
    row = insert(tx)(lease).values(name=name, holder=holder, until=now + ms)
    mine = or_(lease.c.holder == holder, lease.c.until <= now)
    row = row.on_conflict_do_update(index_elements=["name"], set_={"holder": holder, "until": now + ms}, where=mine)
    return (await tx.execute(row.returning(lease.c.name))).first() is not None


async def give_back(tx: AsyncConnection, name: str, holder: str) -> None:
    await tx.execute(delete(lease).where(lease.c.name == name, lease.c.holder == holder))
