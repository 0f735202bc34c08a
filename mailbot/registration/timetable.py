"""What happens by itself: wishes for a reissue, reminders, and the end of what need not be kept.

`due` is cheap enough to be asked every second; what belongs to a minute runs once a minute, whoever asks first.
Everything is set-based and bounded, so that no transaction holds the write lock for long; the next turn goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from sqlalchemy import ColumnElement, String, Table, and_, cast, delete, exists, func, literal, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit
from mailbot.config import Society
from mailbot.delivery import outbox
from mailbot.delivery.outbox import Lane, NewMail
from mailbot.store.engine import insert
from mailbot.store.tables import address as address_table
from mailbot.store.tables import audit as audit_table
from mailbot.store.tables import (
    budget,
    captcha_used,
    help_request,
    imap_message,
    inbox,
    journey,
    lease,
    link,
    member,
    pin_login,
    session,
    suppression,
)
from mailbot.store.tables import outbox as outbox_table

from . import credentials_mail, people, wishes
from .context import Context
from .people import DAY_MS

MINUTE_MS = 60_000
CHUNK = 500
"""Rows of one table removed in one turn."""
REMINDERS = 200
"""Reminders of one society queued in one turn."""
_TURN = "timetable.minute"


async def due(ctx: Context, tx: AsyncConnection, now: int) -> int:
    """Does what is due at `now`; how many mails it queued (wake the outbox after the commit when there are any)."""
    expanded = await wishes.expand(ctx, tx, now)
    queued = expanded.mails
    if await _my_minute(tx, now):
        for society in ctx.settings.societies.values():
            queued += await _remind(ctx, tx, society, now)
            queued += await credentials_mail.mail_due(ctx, tx, society, now)
        await purge(ctx, tx, now)
    for society_id, member_id in expanded.staff:
        await audit.record(tx, "system", "reissue-needs-staff", society_id, member_id, {}, now)
    return queued


async def purge(ctx: Context, tx: AsyncConnection, now: int, gone: Counter[str] | None = None) -> int:
    """Removes up to 500 rows of each table whose time of keeping is over; how many. `gone` counts by table."""
    removed: Counter[str] = Counter()
    for table, over in _over(ctx, now):
        key = tuple_(*table.primary_key.columns)
        some = select(*table.primary_key.columns).where(over).limit(CHUNK)
        removed[table.name] += (await tx.execute(delete(table).where(key.in_(some)))).rowcount
    removed["audit"] += await audit.purge(tx, _audit_end(ctx, now), CHUNK)
    for society in ctx.settings.societies.values():
        removed["member"] += await _purge_left(tx, society, now)
    if gone is not None:
        gone.update(removed)
    return removed.total()


async def overdue(ctx: Context, tx: AsyncConnection, now: int) -> dict[str, int]:
    """Table -> rows that `purge` would remove until its end; reads only."""
    counts = {table.name: 0 for table, _ in _over(ctx, now)} | {"audit": 0, "member": 0}
    over = [*_over(ctx, now), (audit_table, audit_table.c.at < _audit_end(ctx, now))]
    over += [(member, left) for one in ctx.settings.societies.values() if (left := _left(one, now)) is not None]
    for table, condition in over:
        counts[table.name] += await tx.scalar(select(func.count()).select_from(table).where(condition)) or 0
    return counts


def _audit_end(ctx: Context, now: int) -> int:
    return now - ctx.settings.site.retention.audit_days * DAY_MS


def _over(ctx: Context, now: int) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    keep = ctx.settings.site.retention
    yield inbox, inbox.c.received_at < now - keep.inbox_days * DAY_MS
    # of mailboxes that are still watched the intake forgets what is in the folder no more
    unwatched = imap_message.c.mailbox.not_in(list(ctx.settings.site.imap))
    yield imap_message, and_(unwatched, imap_message.c.at < now - keep.inbox_days * DAY_MS)
    yield outbox_table, outbox_table.c.settled_at < now - keep.outbox_days * DAY_MS
    yield session, session.c.expires_at < now - keep.sessions_days * DAY_MS
    yield pin_login, pin_login.c.expires_at < now - keep.sessions_days * DAY_MS
    yield journey, journey.c.expires_at < now - keep.sessions_days * DAY_MS
    yield link, link.c.expires_at < now - keep.links_days * DAY_MS
    yield help_request, help_request.c.done_at < now - keep.help_days * DAY_MS
    yield suppression, suppression.c.last_at < now - keep.suppression_days * DAY_MS
    yield budget, budget.c.day_at < now - 2 * DAY_MS
    yield captcha_used, captcha_used.c.expires_at < now


def _left(society: Society, now: int) -> ColumnElement[bool] | None:
    """Members who left so long ago that they go; None where the society keeps them."""
    if society.purge_left_days is None:
        return None
    last_day = people.today(now - society.purge_left_days * DAY_MS)
    return and_(member.c.society == society.id, member.c.left_on < last_day)


async def _purge_left(tx: AsyncConnection, society: Society, now: int) -> int:
    left = _left(society, now)
    if left is None:
        return 0
    some = select(member.c.id).where(left).limit(CHUNK)
    gone = await tx.execute(delete(member).where(member.c.society == society.id, member.c.id.in_(some)))
    if gone.rowcount:
        await audit.record(tx, "system", "left-purged", society.id, None, {"count": gone.rowcount}, now)
    return gone.rowcount


async def _my_minute(tx: AsyncConnection, now: int) -> bool:
    """Whether nobody did the work of this minute yet."""
    taken = await tx.execute(
        update(lease).where(lease.c.name == _TURN, lease.c.until <= now).values(until=now + MINUTE_MS)
    )
    if taken.rowcount:
        return True
    if (await tx.execute(select(lease.c.name).where(lease.c.name == _TURN))).first() is not None:
        return False
    row = insert(tx)(lease).values(name=_TURN, holder=_TURN, until=now + MINUTE_MS).on_conflict_do_nothing()
    return (await tx.execute(row.returning(lease.c.name))).first() is not None


async def _remind(ctx: Context, tx: AsyncConnection, society: Society, now: int) -> int:
    """Password reminders: one mail for each of the society's days before the end, only the nearest after a stop."""
    rule = society.password
    if rule.expires_days is None:
        return 0
    queued = 0
    for days, nearer in pairwise([*sorted(rule.remind_days, reverse=True), 0]):
        # due from `days` before the end until the next reminder takes over
        c = member.c
        first, last = now - (rule.expires_days - nearer) * DAY_MS, now - (rule.expires_days - days) * DAY_MS
        dedupe = literal("password-expiry/") + cast(c.id, String) + "/" + cast(c.password_set_at, String) + f"/{days}"
        statement = (
            select(c.id, c.password_set_at, c.left_on, address_table.c.address, dedupe.label("dedupe"))
            .join(
                address_table,
                (address_table.c.society == c.society)
                & (address_table.c.member_id == c.id)
                & (address_table.c.slot == 1)
                & address_table.c.unreachable_at.is_(None),
            )
            .where(
                c.society == society.id,
                c.state == "registered",
                c.password_set_at > first,
                c.password_set_at <= last,
                ~exists().where(outbox_table.c.society == c.society, outbox_table.c.dedupe_key == dedupe),
            )
            .limit(REMINDERS)
        )
        mails = [
            NewMail(
                society.id,
                "password-expiry",
                Lane.BULK,
                row.address,
                member_id=row.id,
                facts={"expires_on": row.password_set_at + rule.expires_days * DAY_MS},
                dedupe_key=row.dedupe,
            )
            for row in await tx.execute(statement)
            if not people.has_left(society, row.left_on, now)
        ]
        queued += len([one for one in await outbox.put(tx, mails, now, ctx.host) if one is not None])
    return queued
