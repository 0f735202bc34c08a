"""Alarms as rows: what a person should look at. One row a kind and society; a repeat counts up."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.store.engine import insert
from mailbot.store.tables import alarm


class Alarm(StrEnum):
    """What may be raised: the kind of the row, the label of `mailbot_alarms`, a row of docs/events.md."""

    AUTHENTICATION = "authentication"
    BUDGET_DOMAIN = "budget-domain"
    BUDGET_NETWORK = "budget-network"
    BUDGET_SOCIETY = "budget-society"
    BUDGET_UNPROVED = "budget-unproved"
    BUDGET_HELP_SOCIETY = "budget-help-society"
    BUDGET_HELP_UNPROVED = "budget-help-unproved"
    COMPLAINT = "complaint"
    COMPLETION_UNDELIVERED = "completion-undelivered"
    CREDENTIALS_UNDELIVERED = "credentials-undelivered"
    DNS = "dns"
    FACTS_ERROR = "facts-error"
    FORMULA_LOGIN_CLOSED = "formula-login-closed"
    IMAP_DOWN = "imap-down"
    IMAP_IGNORED = "imap-ignored"
    IMAP_MOVED = "imap-moved"
    IMAP_REFUSED = "imap-refused"
    IMAP_RENUMBERED = "imap-renumbered"
    IMAP_UNFILED = "imap-unfiled"
    MAIL_LOOP = "mail-loop"
    MAIL_REFUSED = "mail-refused"
    PIN_LOCKED = "pin-locked"
    RELAY = "relay"
    RELAY_FAILED = "relay-failed"
    RENDER_ERROR = "render-error"
    SEND_ERROR = "send-error"
    SETTLED_HOOK = "settled-hook"


async def raise_alarm(tx: AsyncConnection, society: str, kind: Alarm, text: str, now: int) -> None:
    """Raises or repeats an alarm. `text` names no member."""
    row = insert(tx)(alarm).values(society=society, kind=kind.value, text=text, count=1, first_at=now, last_at=now)
    await tx.execute(
        row.on_conflict_do_update(
            index_elements=["society", "kind"], set_={"count": alarm.c.count + 1, "last_at": now, "text": text}
        )
    )


async def alarms(tx: AsyncConnection) -> Sequence[Any]:
    """All alarms (society, kind, text, count, first_at, last_at), newest first."""
    return (await tx.execute(select(alarm).order_by(alarm.c.last_at.desc()))).all()


async def clear(tx: AsyncConnection, society: str, kind: str) -> bool:
    """Forgets an alarm that was dealt with. False when there was none."""
    gone = await tx.execute(delete(alarm).where(alarm.c.society == society, alarm.c.kind == kind))
    return bool(gone.rowcount)
