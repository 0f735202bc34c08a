"""Mails a use case leaves behind: word to a member's addresses, and the proof of a new one."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Society
from mailbot.credentials import LinkPurpose
from mailbot.delivery import outbox, suppression
from mailbot.delivery.outbox import Lane, NewMail
from mailbot.mail.address import Address
from mailbot.store import new_id
from mailbot.store.tables import address as address_table
from mailbot.store.tables import link

from .context import Context
from .invite import mail_deadline

MINUTE_MS = 60_000


def new_token() -> str:
    """What a cookie holds: 256 random bits."""
    return secrets.token_urlsafe(32)


def token_of(browser: str, link_id: int) -> str:
    """What a cookie holds for a link that is spent at once: whoever taps twice gets the same one twice, though the
    browser never saw the first answer. `browser`: a secret of 192 bits or more that only it knows."""
    return hashlib.sha256(f"{link_id}|{browser}".encode("utf-8", "surrogatepass")).hexdigest()


def token_hash(token: str) -> bytes:
    """What the database keeps of a cookie."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


async def proved_addresses(tx: AsyncConnection, society: str, member_id: int) -> list[tuple[int, str, str]]:
    """(slot, address, key) of the addresses a member proved, by slot."""
    c = address_table.c
    rows = await tx.execute(
        select(c.slot, c.address, c.address_key).where(c.society == society, c.member_id == member_id).order_by(c.slot)
    )
    return [(slot, text, key) for slot, text, key in rows]


async def tell(
    ctx: Context,
    tx: AsyncConnection,
    society: Society,
    member_id: int,
    letter: str,
    addresses: Sequence[tuple[int, str, str]],
    facts: Mapping[str, str | int],
    now: int,
) -> None:
    """One letter to each of these (slot, address, key); two spellings of a mailbox get one."""
    recipients = {key: text for _, text, key in addresses}
    mails = [
        NewMail(society.id, letter, Lane.COMPLETION, text, member_id=member_id, facts=facts)
        for text in recipients.values()
    ]
    await outbox.put(tx, mails, now, ctx.host)


async def ask_proof(
    ctx: Context, tx: AsyncConnection, society: Society, member_id: int, slot: int, address: Address, now: int
) -> None:
    """Mails the link that makes `address` count as the member's `slot`; an earlier one for that slot dies.

    Whoever asks is known otherwise, so one mail is tried though mail did not reach the address before. Nothing shows
    that there is a mailbox, so what may have been a refusal list is forgotten, too; another refusal says so again.
    """
    link_id = new_id()
    expires_at = now + society.links.address_proof_minutes * MINUTE_MS
    await revoke_proofs(tx, society.id, member_id, slot, now)
    await suppression.clear(tx, [(society.id, address.key)], suppression.DISPROVED)
    await tx.execute(
        insert(link).values(
            society=society.id,
            id=link_id,
            purpose=LinkPurpose.ADDRESS_PROOF.value,
            address=address.text,
            address_key=address.key,
            member_id=member_id,
            slot=slot,
            kid=ctx.ring.active(now).kid,
            created_at=now,
            expires_at=expires_at,
        )
    )
    mail = NewMail(
        society.id,
        "address-proof",
        Lane.LINK,
        address.text,
        member_id=member_id,
        link_id=link_id,
        deadline_at=mail_deadline(now, expires_at),
    )
    await outbox.put(tx, [mail], now, ctx.host)


async def revoke_proofs(tx: AsyncConnection, society: str, member_id: int, slot: int, now: int) -> None:
    """Ends the links that would still change this slot."""
    await tx.execute(
        update(link)
        .where(
            link.c.society == society,
            link.c.member_id == member_id,
            link.c.purpose == LinkPurpose.ADDRESS_PROOF.value,
            link.c.slot == slot,
            link.c.spent_at.is_(None),
            link.c.revoked_at.is_(None),
        )
        .values(revoked_at=now)
    )
