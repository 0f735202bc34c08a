"""Lifts what wrong tries have paused for one member, after staff have checked the person.

What networks and societies as a whole have used up stays: it protects the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit
from mailbot.config import Society
from mailbot.store.tables import member, temporary

from . import guesses, pin
from .context import Context


@dataclass(frozen=True, slots=True)
class Lifted:
    """What was lifted, and what cannot be."""

    networks: int
    """Networks from which the login ID had been tried wrongly."""
    pins: int
    """Wrong PINs since the last right one."""
    letters: int
    """Letters with wrong tries."""
    paused_letters: int
    """Those of them that paused at that moment."""
    opened: bool
    """The login waited for the completion mail, and is open now."""
    dead_letters: int
    """Letters that died of wrong tries while no other lives: a new one is needed."""

    @property
    def anything(self) -> bool:
        return bool(self.networks or self.pins or self.letters or self.opened)


async def unlock(ctx: Context, society: Society, member_id: int, *, actor: str, now: int) -> Lifted | None:
    """Forgets wrong logins, PINs and temporary logins of the member; None when there is none."""
    mine = (member.c.society == society.id, member.c.id == member_id)
    columns = (member.c.login_key, member.c.state, member.c.pin_failures, member.c.login_opens_at)
    async with ctx.store.begin() as tx:
        found = (await tx.execute(select(*columns).where(*mine))).first()
        if found is None:
            return None
        networks = await forget_logins(ctx, tx, society, member_id, found.login_key)
        row = (await tx.execute(select(*columns).where(*mine).with_for_update())).one()
        registered = row.state == "registered"
        if registered:
            await pin.unlock(ctx, tx, society, member_id, now)
        letters, paused = await _letters(tx, society, member_id, now)
        lifted = Lifted(
            networks,
            row.pin_failures,
            letters,
            paused,
            registered and (row.login_opens_at is None or row.login_opens_at > now),
            0 if registered else await _dead(tx, society, member_id),
        )
        facts = {"networks": networks, "pins": lifted.pins, "letters": letters, "opened": lifted.opened}
        await audit.record(tx, actor, "member-unlocked", society.id, member_id, facts, now)
    return lifted


async def forget_logins(
    ctx: Context, tx: AsyncConnection, society: Society, member_id: int, login_key: str | None
) -> int:
    """Forgets wrong passwords for the login ID and behind the login; from how many networks there were any."""
    await guesses.forget(tx, society.id, f"confirm|{member_id}")
    if login_key is None:
        return 0
    return await guesses.lift(tx, society.id, guesses.account(ctx.ring, society.id, login_key))


async def _letters(tx: AsyncConnection, society: Society, member_id: int, now: int) -> tuple[int, int]:
    t = temporary.c
    tried = (t.society == society.id, t.member_id == member_id, t.state == "live", t.failures > 0)
    rows = (await tx.execute(select(t.paused_until).where(*tried).with_for_update())).all()
    await tx.execute(update(temporary).where(*tried).values(failures=0, paused_until=None))
    return len(rows), len([row for row in rows if row.paused_until is not None and row.paused_until > now])


async def _dead(tx: AsyncConnection, society: Society, member_id: int) -> int:
    t = temporary.c
    rows = await tx.execute(select(t.state).where(t.society == society.id, t.member_id == member_id))
    states = [row.state for row in rows]
    return 0 if "live" in states else states.count("dead")
