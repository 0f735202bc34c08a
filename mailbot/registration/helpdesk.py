"""Mails to a society's help desk: each stands as one row for staff, and its sender is told once a day that it arrived.

Only people are heard; screening has sorted programs out. What the mail says is sealed: it is full of names and numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Site
from mailbot.delivery import outbox
from mailbot.delivery.outbox import Lane, NewMail
from mailbot.mail.address import Address
from mailbot.mail.bodytext import Words
from mailbot.ratelimit import Hit, Limits
from mailbot.store import new_id
from mailbot.store.tables import help_request

from . import people
from .context import Context

LETTER = "help-received"
SCOPE = "help"
AN_HOUR = 20
"""Requests of one address in an hour; more of them are noted in the inbox only."""


@dataclass(frozen=True, slots=True)
class HelpMail:
    """A mail for a help desk. `doubt`: the screening's reason why its sender is not sure, empty where it is."""

    society: str
    address: Address
    words: Words
    doubt: str
    message_id: str | None
    acknowledge: bool


def hits(society: str, sender: Address, together: str, cap: Limits) -> list[Hit]:
    """The budgets a request uses: its sender's, and the one of all its kind (`together`)."""
    return [Hit(society, SCOPE, sender.key, Limits(hour=AN_HOUR)), Hit(society, together, "", cap)]


def told(site: Site, society: str, sender: Address) -> list[Hit]:
    """The budgets an acknowledgement uses: its own, one a day, and that of all automatic mail to the address."""
    b = site.budgets
    address = Limits(b.address_per_minute, b.address_per_hour, b.address_per_day)
    return [Hit(society, "help-told", sender.key, Limits(day=1)), Hit(society, "address", sender.key, address)]


async def take(ctx: Context, tx: AsyncConnection, mails: Sequence[HelpMail], now: int) -> list[int | None]:
    """Writes the requests down and queues the acknowledgements -> their outbox ids in order, None where none is due.
    The caller has checked the budgets and knows that no mail was taken before; it commits."""
    if not mails:
        return []
    due = [
        NewMail(
            mail.society,
            LETTER,
            Lane.COMPLETION,
            mail.address.text,
            facts={"answer": 1},
            in_reply_to=mail.message_id,
        )
        for mail in mails
        if mail.acknowledge
    ]
    queued = iter(await outbox.put(tx, due, now, ctx.host))
    answers = [next(queued) if mail.acknowledge else None for mail in mails]
    rows = []
    for mail, answer in zip(mails, answers, strict=True):
        request_id = new_id()
        said = {"from": mail.words.sender, "subject": mail.words.subject, "text": mail.words.text, "doubt": mail.doubt}
        sealed = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
        rows.append(
            {
                "society": mail.society,
                "id": request_id,
                "received_at": now,
                "address": mail.address.text,
                "address_key": mail.address.key,
                "sealed": people.seal_text(
                    ctx.ring, sealed, mail.society, help_request.name, "sealed", request_id, now
                ),
                "outbox_id": answer,
                "state": "open",
            }
        )
    await tx.execute(insert(help_request), rows)
    return answers
