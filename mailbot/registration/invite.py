"""Gives addresses their one-time registration link and queues the invitation: the end of the blank mail's way in.

A repeated request gets the same live link while at least half its life remains and its code is not worn out, else a new
one; at most two are live, the older ones are revoked. Takes a list and returns a list in the same order; never commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.credentials import LinkPurpose
from mailbot.delivery import outbox, suppression
from mailbot.delivery.outbox import Lane, NewMail
from mailbot.mail.address import Address
from mailbot.mail.causes import Cause
from mailbot.registration.context import Context
from mailbot.store import new_id
from mailbot.store.bulk import Bulk
from mailbot.store.keys import among, values
from mailbot.store.tables import link

LETTER = "invitation"
PLAIN = "invitation-plain"
"""For who lets no mail with a URL in: the link's short code instead."""
MAX_LIVE = 2
CODE_TRIES = 10
"""Wrong tries after which a link's short code is dead; its URL goes on working."""
MINUTE_MS = 60_000


_NEW = Bulk(any=link.insert())
_LIVE = (
    select(
        link.c.society,
        link.c.address_key,
        link.c.id,
        link.c.created_at,
        link.c.expires_at,
        link.c.code_failures,
    )
    .where(
        link.c.purpose == LinkPurpose.REGISTRATION.value,
        among(link.c.society, link.c.address_key),
        link.c.expires_at > bindparam("now"),
        link.c.spent_at.is_(None),
        link.c.revoked_at.is_(None),
    )
    .order_by(link.c.created_at.desc(), link.c.id)
)


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """An address that wants to register with a society. `in_reply_to`: Message-ID of its blank mail."""

    society: str
    address: Address
    in_reply_to: str | None = None
    answer: bool = False
    """True for the answer to a mail (RFC 3834: auto-replied), False for a request from a page."""
    proved: bool = False
    """Whether that mail was proved to come from the address."""


def mail_deadline(created_at: int, expires_at: int) -> int:
    """A mail whose link is about to die is not sent: half an hour, or a quarter of the link's life, before its end."""
    return expires_at - min(30 * MINUTE_MS, (expires_at - created_at) // 4)


async def request_links(ctx: Context, tx: AsyncConnection, requests: Sequence[LinkRequest], now: int) -> list[int]:
    """Queues an invitation for each request -> outbox ids in order. The caller holds the address's budget row.

    Where the last mail did not pass the member's filter, it is one without a URL.
    """
    if not requests:
        return []
    wanted = sorted({(r.society, r.address.key) for r in requests})
    known = await suppression.causes(tx, wanted)
    plain = {key for key, what in known.items() if Cause.FILTERED in what}
    wrote = {(r.society, r.address.key) for r in requests if r.proved}
    plain |= await suppression.disprove(tx, {key: what for key, what in known.items() if key in wrote})
    live: dict[tuple[str, str], list[tuple[int, int, int, int]]] = {key: [] for key in wanted}
    found = await tx.execute(_LIVE, {**values(wanted), "now": now})
    for society, address_key, *row in found:
        if (key := (society, address_key)) in live:
            live[key].append((row[0], row[1], row[2], row[3]))
    kid = ctx.ring.active(now).kid
    new_rows: list[dict[str, object]] = []
    revoked: list[tuple[str, int]] = []
    mails: list[NewMail] = []
    for request in requests:
        links = live[key := (request.society, request.address.key)]
        # who wears codes out on purpose must not end URLs by it: such a link pushes none out where a URL is mailed
        worn = links and links[0][3] >= CODE_TRIES and (key in plain or len(links) < MAX_LIVE)
        if not links or worn or 2 * (links[0][2] - now) < links[0][2] - links[0][1]:
            life = ctx.settings.societies[request.society].links.registration_minutes * MINUTE_MS
            links.insert(0, (new_id(), now, now + life, 0))
            new_rows.append(
                {
                    "society": request.society,
                    "id": links[0][0],
                    "purpose": LinkPurpose.REGISTRATION.value,
                    "address": request.address.text,
                    "address_key": request.address.key,
                    "kid": kid,
                    "created_at": now,
                    "expires_at": now + life,
                }
            )
            revoked += [(request.society, old[0]) for old in links[MAX_LIVE:]]
            del links[MAX_LIVE:]
        link_id, created_at, expires_at, _ = links[0]
        mails.append(
            NewMail(
                society=request.society,
                letter=PLAIN if key in plain else LETTER,
                lane=Lane.LINK,
                recipient=request.address.text,
                link_id=link_id,
                facts={"answer": 1} if request.answer else {},
                in_reply_to=request.in_reply_to,
                deadline_at=mail_deadline(created_at, expires_at),
            )
        )
    if new_rows:
        await _NEW.run(tx, new_rows)
    if revoked:
        ended = update(link).where(among(link.c.society, link.c.id)).values(revoked_at=now)
        await tx.execute(ended, values(revoked))
    ids = await outbox.put(tx, mails, now, ctx.settings.site.site.host)
    return [one for one in ids if one is not None]
