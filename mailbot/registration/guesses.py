"""Counts guesses at a secret and pauses who guesses too often.

A guess is counted before the secret is looked at and forgiven when it was right, so that a thousand at once are a
thousand guesses. A pair of account and network is what pauses: a stranger elsewhere cannot lock a member out.
"""

from __future__ import annotations

from sqlalchemy import and_, case, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.credentials import KeyRing
from mailbot.ratelimit import HOUR_MS, refund
from mailbot.store.engine import insert
from mailbot.store.tables import budget

SCOPE = "login"
PAUSE_MS = 30 * 60_000


async def count(tx: AsyncConnection, society: str, subject: str, limit: int, now: int) -> bool:
    """Counts a guess; True = it may be looked at. The guess after `limit` in an hour begins a pause of half an hour."""
    c = budget.c
    over = or_(now >= c.hour_at + HOUR_MS, now < c.hour_at)
    pausing = c.hour_count > limit
    fresh = {"hour_at": now, "hour_count": 1, "minute_at": now, "minute_count": 0, "day_at": now, "day_count": 0}
    row = insert(tx)(budget).values(society=society, scope=SCOPE, subject=subject, **fresh)
    statement = row.on_conflict_do_update(
        index_elements=["society", "scope", "subject"],
        set_={
            "hour_count": case((over, 1), (pausing, c.hour_count), else_=c.hour_count + 1),
            # the pause is the rest of the hour: its window is moved so that half an hour is left
            "hour_at": case(
                (over, now), (and_(~pausing, c.hour_count == limit), now - HOUR_MS + PAUSE_MS), else_=c.hour_at
            ),
            "day_at": now,
        },
    ).returning(c.hour_count)
    counted = (await tx.execute(statement)).scalar_one()
    return bool(counted <= limit)


async def pause_end(tx: AsyncConnection, society: str, subject: str, limit: int, now: int) -> int | None:
    """When the subject's pause is over; None when it does not pause."""
    statement = select(budget.c.hour_at, budget.c.hour_count).where(
        budget.c.society == society, budget.c.scope == SCOPE, budget.c.subject == subject
    )
    row = (await tx.execute(statement)).first()
    pauses = row is not None and row.hour_count > limit and row.hour_at <= now < row.hour_at + HOUR_MS
    return int(row.hour_at + HOUR_MS) if row is not None and pauses else None


async def forget(tx: AsyncConnection, society: str, subject: str) -> None:
    """The guess was right: the subject starts anew."""
    await refund(tx, society, SCOPE, subject)


def account(ring: KeyRing, society: str, login_key: str) -> str:
    """The part of a subject that names an account without telling its login ID; the network follows after a bar."""
    return ring.index("login-guess", society, login_key).hex()


async def lift(tx: AsyncConnection, society: str, account: str) -> int:
    """Forgets the guesses at an account from every network; from how many there were any."""
    c = budget.c
    mine = (c.society == society, c.scope == SCOPE, c.subject.startswith(f"{account}|", autoescape=True))
    return (await tx.execute(delete(budget).where(*mine))).rowcount


async def forgive_one(tx: AsyncConnection, society: str, subject: str) -> None:
    """The guess was right: it does not count towards a subject that many members share."""
    await tx.execute(
        update(budget)
        .where(
            budget.c.society == society,
            budget.c.scope == SCOPE,
            budget.c.subject == subject,
            budget.c.hour_count > 0,
        )
        .values(hour_count=budget.c.hour_count - 1)
    )
