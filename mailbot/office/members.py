"""Members as staff look them up, and mend an address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit, credentials
from mailbot.config import Society
from mailbot.mail.address import Address
from mailbot.registration import choices, notices, words
from mailbot.registration.context import Context
from mailbot.registration.members import MemberRecord, find, view
from mailbot.registration.outcomes import Complaint
from mailbot.store.tables import address, link, member, outbox

__all__ = ["Card", "LinkLine", "card", "correct_address", "find", "masked", "view"]

SHOWN = 20


@dataclass(frozen=True, slots=True)
class LinkLine:
    """A link that was mailed to or for the member."""

    purpose: str
    address: str
    state: str
    created_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Card:
    """A member with what was mailed to them, newest first."""

    member: MemberRecord
    links: tuple[LinkLine, ...]
    mails: tuple[Any, ...]
    """Outbox rows."""


async def card(
    ctx: Context, society: Society, member_id: int, *, actor: str, now: int, reveal: bool = False
) -> Card | None:
    """The member; None when there is none. `reveal` leaves a trace: who looked at whose facts, and when."""
    async with ctx.store.read() as tx:
        found = await view(ctx, tx, society, member_id)
        if found is None:
            return None
        links = await _links(tx, found, now)
        mails = await _mails(tx, found)
    if reveal:
        async with ctx.store.begin() as tx:
            await audit.record(tx, actor, "member-revealed", society.id, member_id, {}, now)
    return Card(found, links, mails)


async def _links(tx: AsyncConnection, found: MemberRecord, now: int) -> tuple[LinkLine, ...]:
    """Links for the member, and registration links to an address the member has (they name nobody)."""
    c = link.c
    mine = select(address.c.address_key).where(
        address.c.society == found.society, address.c.member_id == found.id
    )
    rows = await tx.execute(
        select(c.purpose, c.address, c.spent_at, c.revoked_at, c.created_at, c.expires_at)
        .where(c.society == found.society, or_(c.member_id == found.id, c.address_key.in_(mine)))
        .where(or_(c.member_id.is_(None), c.member_id == found.id))
        .order_by(c.created_at.desc())
        .limit(SHOWN)
    )
    return tuple(
        LinkLine(
            row.purpose,
            row.address,
            str(credentials.state(row.expires_at, row.spent_at, row.revoked_at, now)),
            row.created_at,
            row.expires_at,
        )
        for row in rows
    )


async def _mails(tx: AsyncConnection, found: MemberRecord) -> tuple[Any, ...]:
    c = outbox.c
    addresses = [text for _, text in found.addresses]
    to_member = or_(c.member_id == found.id, (c.member_id.is_(None)) & c.recipient.in_(addresses))
    rows = await tx.execute(
        select(c.id, c.letter, c.recipient, c.state, c.reason, c.created_at)
        .where(c.society == found.society, to_member)
        .order_by(c.created_at.desc(), c.id)
        .limit(SHOWN)
    )
    return tuple(rows.all())


async def correct_address(
    ctx: Context, society: Society, member_id: int, typed: str, *, slot: int = 1, actor: str, now: int
) -> Address | str:
    """For who lost the registered address; staff have checked the person. The new one is mailed a link and counts once
    that was followed; the others are told then. A sentence says what is wrong, with the address or the member.
    """
    address = choices.address(ctx, typed, "address", society.label(f"profile.address-{slot}"))
    if isinstance(address, Complaint):
        return address.text
    mine = (member.c.society == society.id, member.c.id == member_id, member.c.state == "registered")
    async with ctx.store.begin() as tx:
        kind = await tx.scalar(select(member.c.login_kind).where(*mine).with_for_update())
        if kind is None:
            return "まだ利用登録をしていない方です。"
        if kind == "address" and slot == 1 and await choices.is_taken(ctx, tx, society, address.text, member_id):
            return words.address_taken(society.label("profile.address-1"))
        await notices.ask_proof(ctx, tx, society, member_id, slot, address, now)
        await audit.record(tx, actor, "address-corrected", society.id, member_id, {"slot": slot}, now)
    ctx.store.wake("outbox")
    return address


def masked(text: str, keep: int = 0) -> str:
    """Only the first characters of a fact; how long it is does not show either."""
    return f"{text[:keep]}＊＊＊" if text else ""
