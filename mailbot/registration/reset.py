"""A registration taken back by staff: the member starts afresh, as on the day of the first letter.

For who has forgotten login ID and password alike and can read none of the registered addresses. Login ID, password,
addresses, nickname, choices, sessions and links end. What the roster says stays, and so do the consents: they are the
history of what was agreed to and when.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit
from mailbot.config import Society
from mailbot.store.tables import address as address_table
from mailbot.store.tables import journey, link, member, temporary

from . import letters_on_paper, login, notices, people, pin
from .context import Context
from .unlock import forget_logins

LETTER = "registration-reset"
"""To every address there was: who did not ask for this must hear of it."""


@dataclass(frozen=True, slots=True)
class Reset:
    """How the member goes on."""

    told: tuple[str, ...]
    """Addresses that are told."""
    new_letter: int | None
    """The letter on paper that has to be printed, where the first one was on paper."""
    formula: bool
    """The society has first credentials by formula."""
    left: bool
    """The roster says that the member left: no new registration before that is mended."""


async def reset(ctx: Context, society: Society, member_id: int, *, actor: str, now: int) -> Reset | None:
    """Takes the registration back; None when there is none."""
    mine = (member.c.society == society.id, member.c.id == member_id)
    columns = (member.c.state, member.c.sealed, member.c.login_key, member.c.left_on)
    async with ctx.store.begin() as tx:
        found = (await tx.execute(select(*columns).where(*mine))).first()
        if found is None or found.state != "registered":
            return None
        person = people.open_person(ctx.ring, found.sealed, society.id, member_id)
        await forget_logins(ctx, tx, society, member_id, person, found.login_key, now)
        row = (await tx.execute(select(*columns).where(*mine).with_for_update())).first()
        if row is None or row.state != "registered":
            return None
        await pin.unlock(ctx, tx, society, member_id, now)
        addresses = await notices.proved_addresses(tx, society.id, member_id)
        await tx.execute(update(member).where(*mine).values(_afresh(ctx, society, member_id, person.nickname, now)))
        await _end(tx, society, member_id, now)
        await notices.tell(ctx, tx, society, member_id, LETTER, addresses, {"changed_at": now}, now)
        left = people.has_left(society, row.left_on, now)
        letter = None if left else await _new_letter(ctx, tx, society, member_id, now)
        facts = {"addresses": len(addresses), "letter": letter}
        await audit.record(tx, actor, "registration-reset", society.id, member_id, facts, now)
    ctx.store.wake("outbox")
    told = {key: text for _, text, key in addresses}
    return Reset(tuple(told.values()), letter, society.formula is not None, left)


def _afresh(ctx: Context, society: Society, member_id: int, nickname: str, now: int) -> dict[str, Any]:
    """The columns of a member who has not registered yet; `nickname`: the roster's temporary one."""
    place = (society.id, "member", "sealed_nickname", member_id)
    nothing = dict.fromkeys(
        ("login_id", "login_key", "password_hash", "password_set_at", "registered_at", "login_opens_at",
         "last_login_at", "previous_login_at", "credentials_mailed_at")
    )  # fmt: skip
    return {
        **nothing,
        "state": "invited",
        "login_kind": "chosen",
        "choices": "{}",
        "sealed_nickname": people.seal_text(ctx.ring, nickname, *place, now) if nickname else None,
    }


async def _end(tx: AsyncConnection, society: Society, member_id: int, now: int) -> None:
    """Everything that could still act for the old registration."""
    a, j, k = address_table.c, journey.c, link.c
    await tx.execute(
        update(journey)
        .where(j.society == society.id, j.member_id == member_id, j.expires_at > now)
        .values(expires_at=now)
    )
    await tx.execute(
        update(link)
        .where(k.society == society.id, k.member_id == member_id, k.spent_at.is_(None), k.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    await login.end_sessions(tx, society, member_id)
    await pin.end_waiting(tx, society, member_id)
    await tx.execute(delete(address_table).where(a.society == society.id, a.member_id == member_id))


async def _new_letter(ctx: Context, tx: AsyncConnection, society: Society, member_id: int, now: int) -> int | None:
    """A letter for who had one before; its row is new, so nothing begun with the old one goes on."""
    if not any("temporary-login" in one.steps for one in society.journeys.values()):
        return None
    t = temporary.c
    had = select(t.id).where(t.society == society.id, t.member_id == member_id).limit(1)
    if (await tx.execute(had)).first() is None:
        return None
    return await letters_on_paper.new_letter(ctx, tx, society, member_id, now)
