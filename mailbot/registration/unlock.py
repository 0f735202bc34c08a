"""Lifts what wrong tries have paused for one member, after staff have checked the person.

What networks and societies as a whole have used up stays: it protects the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit, ratelimit
from mailbot.config import Society
from mailbot.store.tables import member, temporary

from . import formula, guesses, limits, people, pin
from .context import Context
from .people import Person


@dataclass(frozen=True, slots=True)
class Lifted:
    """What was lifted, and what cannot be."""

    networks: int
    """Networks from which the login ID had been tried wrongly."""
    formula: bool
    """There were wrong tries at the first login by formula today."""
    details: bool
    """There were wrong tries at the birth date or name behind the member's symbol and number."""
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
        return bool(self.networks or self.formula or self.details or self.pins or self.letters or self.opened)


async def unlock(ctx: Context, society: Society, member_id: int, *, actor: str, now: int) -> Lifted | None:
    """Forgets wrong logins, PINs and temporary logins of the member; None when there is none."""
    mine = (member.c.society == society.id, member.c.id == member_id)
    columns = (member.c.login_key, member.c.sealed, member.c.state, member.c.pin_failures, member.c.login_opens_at)
    async with ctx.store.begin() as tx:
        found = (await tx.execute(select(*columns).where(*mine))).first()
        if found is None:
            return None
        person = people.open_person(ctx.ring, found.sealed, society.id, member_id)
        networks, tries, details = await forget_logins(ctx, tx, society, member_id, person, found.login_key, now)
        row = (await tx.execute(select(*columns).where(*mine).with_for_update())).one()
        registered = row.state == "registered"
        if registered:
            await pin.unlock(ctx, tx, society, member_id, now)
        letters, paused = await _letters(tx, society, member_id, now)
        lifted = Lifted(
            networks,
            tries,
            details,
            row.pin_failures,
            letters,
            paused,
            registered and (row.login_opens_at is None or row.login_opens_at > now),
            0 if registered else await _dead(tx, society, member_id),
        )
        facts = {"networks": networks, "formula": tries, "pins": lifted.pins, "letters": letters}
        facts |= {"details": details, "opened": lifted.opened}
        await audit.record(tx, actor, "member-unlocked", society.id, member_id, facts, now)
    return lifted


async def forget_logins(
    ctx: Context,
    tx: AsyncConnection,
    society: Society,
    member_id: int,
    person: Person,
    login_key: str | None,
    now: int,
) -> tuple[int, bool, bool]:
    """Forgets wrong passwords for the member's login IDs and behind the login, and wrong insurance details -> (from how
    many networks there were any at the login, whether there were any at the first login by formula, and of details)."""
    await guesses.forget(tx, society.id, f"confirm|{member_id}")
    keys = {login_key, None}
    if society.formula is not None:
        first = formula.login_id(society.formula, person.symbol, person.number) or ""
        keys.add(formula.login_key(ctx.ring, society, first))
    networks = 0
    for key in sorted(filter(None, keys)):
        networks += await guesses.lift(tx, society.id, guesses.account(ctx.ring, society.id, key))
    tries = await formula.forget_tries(ctx, tx, society, person, now)
    index = people.number_index(ctx.ring, society.id, person.symbol, person.number)
    return networks, tries, await ratelimit.refund(tx, *limits.details_target(society, index.hex()).key)


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
