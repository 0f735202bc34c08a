"""Emergency stops: a society pauses, links, sessions and letters are revoked. Each is one line of the audit record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit
from mailbot.store.engine import insert
from mailbot.store.tables import journey, link, pin_login, session, society_state, temporary

from .context import Context

CHUNK = 2000
"""Rows changed in one transaction, so that no stop holds SQLite's write lock for long."""


async def paused(tx: AsyncConnection) -> frozenset[str]:
    """Societies that answer no mail and open no form."""
    rows = await tx.scalars(select(society_state.c.society).where(society_state.c.paused_at.is_not(None)))
    return frozenset(rows)


async def is_paused(ctx: Context, society: str) -> bool:
    """Whether this society pauses."""
    async with ctx.store.read() as tx:
        return society in await paused(tx)


async def pause(ctx: Context, society: str, reason: str, actor: str, now: int) -> bool:
    """Stops answering; queued mails wait. False when it paused already."""
    async with ctx.store.begin() as tx:
        if society in await paused(tx):
            return False
        values = {"paused_at": now, "paused_reason": reason}
        row = insert(tx)(society_state).values(society=society, **values)
        await tx.execute(row.on_conflict_do_update(index_elements=["society"], set_=values))
        await audit.record(tx, actor, "society-paused", society, None, {"reason": reason}, now)
    return True


async def resume(ctx: Context, society: str, actor: str, now: int) -> bool:
    """Answers again. False when it did not pause."""
    async with ctx.store.begin() as tx:
        if society not in await paused(tx):
            return False
        await tx.execute(
            update(society_state).where(society_state.c.society == society).values(paused_at=None, paused_reason=None)
        )
        await audit.record(tx, actor, "society-resumed", society, None, {}, now)
    ctx.store.wake("outbox")
    return True


async def held(tx: AsyncConnection) -> dict[str, tuple[int, str]]:
    """Societies whose outgoing mails wait -> (since when, why); the key `outbox.ALL` is every society."""
    c = society_state.c
    rows = await tx.execute(select(c.society, c.mails_held_at, c.mails_held_reason).where(c.mails_held_at.is_not(None)))
    return {society: (at, reason or "") for society, at, reason in rows}


async def hold_mails(ctx: Context, society: str, reason: str, actor: str, now: int) -> bool:
    """No mail leaves until `release_mails`; answers are written and forms stay open, and a mail whose time runs out
    meanwhile is not sent any more. `society`: one, or `outbox.ALL`. False when they were held already."""
    async with ctx.store.begin() as tx:
        if society in await held(tx):
            return False
        values = {"mails_held_at": now, "mails_held_reason": reason}
        row = insert(tx)(society_state).values(society=society, **values)
        await tx.execute(row.on_conflict_do_update(index_elements=["society"], set_=values))
        await audit.record(tx, actor, "mails-held", society, None, {"reason": reason}, now)
    return True


async def release_mails(ctx: Context, society: str, actor: str, now: int) -> bool:
    """Mails leave again. False when they were not held."""
    async with ctx.store.begin() as tx:
        if society not in await held(tx):
            return False
        freed = {"mails_held_at": None, "mails_held_reason": None}
        await tx.execute(update(society_state).where(society_state.c.society == society).values(freed))
        await audit.record(tx, actor, "mails-released", society, None, {}, now)
    ctx.store.wake("outbox")
    return True


async def revoke_links(ctx: Context, society: str | None, since: int | None, actor: str, now: int) -> int:
    """Kills live links made at or after `since` (None: all) and ends the journeys begun; how many links."""
    alive = (link.c.spent_at.is_(None), link.c.revoked_at.is_(None), link.c.expires_at > now)
    rows = _where(link, society, link.c.created_at, since, *alive)
    count = await _chunked(ctx, link, link.c.id, rows, lambda keys: update(link).where(keys).values(revoked_at=now))
    open_journeys = (journey.c.done_at.is_(None), journey.c.expires_at > now)
    rows = _where(journey, society, journey.c.started_at, since, *open_journeys)
    await _chunked(ctx, journey, journey.c.id, rows, lambda keys: update(journey).where(keys).values(expires_at=now))
    await _record(ctx, "links-revoked", society, since, count, actor, now)
    return count


async def revoke_sessions(ctx: Context, society: str | None, since: int | None, actor: str, now: int) -> int:
    """Logs out everybody whose session, or login still without its PIN, began at or after `since` (None: all); how many
    sessions."""
    waiting = _where(pin_login, society, pin_login.c.created_at, since)
    await _chunked(ctx, pin_login, pin_login.c.id, waiting, lambda keys: delete(pin_login).where(keys))
    rows = _where(session, society, session.c.created_at, since)
    count = await _chunked(ctx, session, session.c.token_hash, rows, lambda keys: delete(session).where(keys))
    await _record(ctx, "sessions-revoked", society, since, count, actor, now)
    return count


async def revoke_letters(ctx: Context, society: str | None, since: int | None, actor: str, now: int) -> int:
    """Kills unused credentials on paper made at or after `since` (None: all); how many letters."""
    rows = _where(temporary, society, temporary.c.created_at, since, temporary.c.state == "live")
    count = await _chunked(
        ctx,
        temporary,
        temporary.c.id,
        rows,
        lambda keys: update(temporary).where(keys).values(state="revoked", ended_at=now),
    )
    await _record(ctx, "letters-revoked", society, since, count, actor, now)
    return count


def _where(
    table: Table, society: str | None, at: ColumnElement[int], since: int | None, *more: ColumnElement[bool]
) -> list[ColumnElement[bool]]:
    found = list(more)
    if society is not None:
        found.append(table.c.society == society)
    if since is not None:
        found.append(at >= since)
    return found


async def _chunked(
    ctx: Context,
    table: Table,
    key: ColumnElement[Any],
    where: list[ColumnElement[bool]],
    change: Callable[[ColumnElement[bool]], Any],
) -> int:
    total = 0
    while True:
        async with ctx.store.begin() as tx:
            some = select(table.c.society, key).where(*where).limit(CHUNK)
            changed = (await tx.execute(change(tuple_(table.c.society, key).in_(some)))).rowcount
        total += int(changed)
        if changed < CHUNK:
            return total


async def _record(
    ctx: Context, event: str, society: str | None, since: int | None, count: int, actor: str, now: int
) -> None:
    async with ctx.store.begin() as tx:
        await audit.record(tx, actor, event, society or "", None, {"count": count, "since": since}, now)
