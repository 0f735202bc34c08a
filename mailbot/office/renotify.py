"""Sends a member again what the member waits for; never to an address that was not proved, invited or on file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit, ratelimit
from mailbot.config import Society, Start
from mailbot.credentials import LinkPurpose
from mailbot.delivery import outbox
from mailbot.delivery.outbox import Lane, MailState, NewMail
from mailbot.ratelimit import Hit, Limits
from mailbot.registration import credentials_mail, notices, people
from mailbot.registration.context import Context
from mailbot.registration.invite import mail_deadline
from mailbot.store.tables import link, member, temporary
from mailbot.store.tables import outbox as outbox_table

LIMITS = Limits(minute=1, hour=3, day=6)
"""For one member, whatever is sent."""
WAITS = (MailState.QUEUED.value, MailState.HELD.value)


@dataclass(frozen=True, slots=True)
class Sent:
    """A mail that was queued."""

    letter: str
    address: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Why nothing was, and what to do instead."""

    words: str


async def renotify(ctx: Context, society: Society, member_id: int, *, actor: str, now: int) -> Sent | NotSent:
    """Queues the one mail the member waits for, at most once a minute and six times a day."""
    mine = (member.c.society == society.id, member.c.id == member_id)
    async with ctx.store.begin() as tx:
        hit = Hit(society.id, "renotify", str(member_id), LIMITS)
        if not all(await ratelimit.hit(tx, [hit], now)):
            return NotSent("a mail was sent again a moment ago, or several today: look at the timeline first")
        row = (await tx.execute(select(member.c.state, member.c.left_on).where(*mine).with_for_update())).first()
        if row is None:
            return NotSent("no such member")
        if people.has_left(society, row.left_on, now):
            return NotSent("the roster says that the member left: there is nothing to wait for")
        if row.state == "registered":
            done = await _to_registered(ctx, tx, society, member_id, now)
        else:
            done = await _to_invited(ctx, tx, society, member_id, now)
        if isinstance(done, Sent):
            await audit.record(tx, actor, "member-renotified", society.id, member_id, {"letter": done.letter}, now)
        else:  # what sent nothing uses up nothing
            await ratelimit.forgive(tx, [hit])
    if isinstance(done, Sent):
        ctx.store.wake("outbox")
    return done


async def _to_registered(
    ctx: Context, tx: AsyncConnection, society: Society, member_id: int, now: int
) -> Sent | NotSent:
    """The link that proves a new address, or the completion mail that did not arrive."""
    waiting = await _live_link(tx, society, member_id, LinkPurpose.ADDRESS_PROOF, now)
    if waiting is not None:
        return await _again(ctx, tx, society, member_id, waiting, "address-proof", now)
    newest = await _newest_mail(tx, society, member_id, "completion")
    if newest is not None and newest.state in WAITS:
        return NotSent("the completion mail still waits in the queue; `mailbot queue show` says why")
    if newest is not None and newest.state == MailState.DELIVERED:
        return NotSent(
            "the completion mail was handed over: the member can log in; who forgot ID or password asks for a reissue "
            "on the login page, and who lost the address gets a new one by `mailbot member address`"
        )
    addresses = await notices.proved_addresses(tx, society.id, member_id)
    if not addresses:
        return NotSent("the member has no proved address; `mailbot member address` mails a link to a new one")
    to = addresses[0][1]
    mail = NewMail(society.id, "completion", Lane.COMPLETION, to, member_id=member_id)
    await outbox.put(tx, [mail], now, ctx.host)
    return Sent("completion", to)


async def _to_invited(ctx: Context, tx: AsyncConnection, society: Society, member_id: int, now: int) -> Sent | NotSent:
    """The second link of a journey, or the credentials where they come by mail."""
    waiting = await _live_link(tx, society, member_id, LinkPurpose.MAILED_LINK, now)
    if waiting is not None:
        first = await tx.scalar(
            select(outbox_table.c.letter)
            .where(outbox_table.c.society == society.id, outbox_table.c.link_id == waiting.id)
            .order_by(outbox_table.c.created_at)
            .limit(1)
        )
        if first is not None:
            return await _again(ctx, tx, society, member_id, waiting, first, now)
    if society.credentials_mail is not None:
        refused = await credentials_mail.mail_credentials(ctx, tx, society, member_id, now)
        if refused is not None:
            return NotSent(refused.explanation)
        newest = await _newest_mail(tx, society, member_id, credentials_mail.LETTER)
        return Sent(credentials_mail.LETTER, newest.recipient if newest is not None else "")
    instead = await _instead(tx, society, member_id)
    return NotSent(f"no mail waits for this member, who is not registered yet: {instead}")


async def _instead(tx: AsyncConnection, society: Society, member_id: int) -> str:
    """What an invited member does next."""
    ways = []
    if society.journeys_for(Start.BLANK_MAIL):
        ways.append(f"a blank mail to {society.addresses.registration} brings a new link")
    if society.journeys_for(Start.WEB_FORM):
        ways.append("the form on the login page brings a new link")
    if society.formula is not None:
        ways.append("the first login is by formula and birth date")
    t = temporary.c
    had = (t.society == society.id, t.member_id == member_id)
    if await tx.scalar(select(t.id).where(*had).limit(1)) is not None:
        ways.append("who lost the letter gets a new one by `mailbot notice reprint --member`")
    return "; ".join(ways) or "the registration begins on the login page"


async def _again(
    ctx: Context, tx: AsyncConnection, society: Society, member_id: int, row: Any, letter: str, now: int
) -> Sent | NotSent:
    """The same link once more, to the same address, until the same moment."""
    o = outbox_table.c
    same = (o.society == society.id, o.link_id == row.id, o.state.in_(WAITS))
    if await tx.scalar(select(o.id).where(*same).limit(1)) is not None:
        return NotSent(f"the mail {letter} still waits in the queue; `mailbot queue show` says why")
    mail = NewMail(
        society.id,
        letter,
        Lane.LINK,
        row.address,
        member_id=member_id,
        link_id=row.id,
        deadline_at=mail_deadline(now, row.expires_at),
    )
    await outbox.put(tx, [mail], now, ctx.host)
    return Sent(letter, row.address)


async def _live_link(tx: AsyncConnection, society: Society, member_id: int, purpose: LinkPurpose, now: int) -> Any:
    c = link.c
    statement = select(c.id, c.address, c.expires_at).where(
        c.society == society.id,
        c.member_id == member_id,
        c.purpose == purpose.value,
        c.spent_at.is_(None),
        c.revoked_at.is_(None),
        c.expires_at > now,
    )
    return (await tx.execute(statement.order_by(c.created_at.desc()).limit(1))).first()


async def _newest_mail(tx: AsyncConnection, society: Society, member_id: int, letter: str) -> Any:
    c = outbox_table.c
    mine = (c.society == society.id, c.member_id == member_id, c.letter == letter)
    columns = (c.state, c.recipient)
    return (await tx.execute(select(*columns).where(*mine).order_by(c.created_at.desc(), c.id).limit(1))).first()
