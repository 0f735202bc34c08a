"""Alarms as rows: what a person should look at. One row a kind and society; a repeat counts up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.store.engine import insert
from mailbot.store.tables import alarm


async def raise_alarm(tx: AsyncConnection, society: str, kind: str, text: str, now: int) -> None:
    """Raises or repeats an alarm. `text` names no member."""
    row = insert(tx)(alarm).values(society=society, kind=kind, text=text, count=1, first_at=now, last_at=now)
    await tx.execute(
        row.on_conflict_do_update(
            index_elements=["society", "kind"], set_={"count": alarm.c.count + 1, "last_at": now, "text": text}
        )
    )


async def alarms(tx: AsyncConnection) -> Sequence[Any]:
    """All alarms (society, kind, text, count, first_at, last_at), newest first."""
    return (await tx.execute(select(alarm).order_by(alarm.c.last_at.desc()))).all()


async def clear(tx: AsyncConnection, society: str, kind: str) -> bool:
    """Forgets an alarm that was dealt with. False when there was none."""
    gone = await tx.execute(delete(alarm).where(alarm.c.society == society, alarm.c.kind == kind))
    return bool(gone.rowcount)
