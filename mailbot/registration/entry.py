"""Web entry: a mail address in, the invitation out (YK-8, SC-1)."""

from __future__ import annotations

from sqlalchemy import func, select

from mailbot.config import Society
from mailbot.ratelimit import Hit, Ledger, Limits
from mailbot.store.alarms import Alarm, raise_alarm
from mailbot.store.tables import member
from mailbot.telemetry import emit

from . import choices, limits, words
from .context import Context
from .invite import LinkRequest, request_links
from .outcomes import Complaint, Refused

_ALARMS = {"web-domain": Alarm.BUDGET_DOMAIN, "web-society": Alarm.BUDGET_SOCIETY}
"""What the excess of these budgets raises; the others are one person's or one network's."""


async def request_invitation(
    ctx: Context, society: Society, typed_address: str, network: str, now: int
) -> Refused | None:
    """Mails the one-time link to the typed address. The answer is the same whether the address is known or not.

    Refused: field `address` with what is wrong with it, or 429 over a budget of the network or the address.
    """
    address = choices.address(ctx, typed_address, "address", society.label("entry.address"))
    if isinstance(address, Complaint):
        return Refused((address,))
    if not _may_enter(society, address.domain):
        emit("entry.refused", society=society.id, reason="domain")
        return Refused((Complaint("address", words.other_domain(society)),))
    site = ctx.settings.site
    hits = limits.invitations(site, society, address, network)
    async with ctx.store.begin() as tx:
        cap = Hit(society.id, "web-society", "", Limits(hour=site.budgets.society_per_hour_min))
        ledger = await Ledger.lock(tx, [hit.key for hit in (*hits, cap)], now)
        over = ledger.allow([*hits, cap])
        if over is cap:  # only now is it worth counting those who are still to register
            waiting = await tx.scalar(
                select(func.count()).where(member.c.society == society.id, member.c.state == "invited")
            )
            share = (waiting or 0) * site.budgets.society_per_hour_percent // 100
            cap = Hit(society.id, "web-society", "", Limits(hour=max(site.budgets.society_per_hour_min, share)))
            over = ledger.allow([*hits, cap])
        await ledger.save(tx)
        if over is None:
            await request_links(ctx, tx, [LinkRequest(society.id, address)], now)
        elif (kind := _ALARMS.get(over.scope)) is not None:
            await raise_alarm(tx, society.id, kind, f"web entry: {over.subject or society.id} is over its cap", now)
    if over is not None:
        emit("entry.refused", society=society.id, reason=over.scope)
        say = words.just_sent if over.scope == "address" else words.too_often
        return Refused.whole(say(ledger.again_at(over), now), 429)
    ctx.store.wake("outbox")
    emit("entry.accepted", society=society.id)
    return None


def _may_enter(society: Society, domain: str) -> bool:
    """Whether the society takes addresses of this domain: all, or those it lists and what is below them."""
    listed = society.entry.domains
    return not listed or any(domain == one or domain.endswith(f".{one}") for one in listed)
