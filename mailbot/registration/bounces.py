"""What it means for mails, addresses and members that a mail did not arrive: word of the relay, or of a report.

A report counts only with the tag of a mail of ours, at most a week after that mail left, and once; whom it is about is
read from our own row. A mailbox that does not exist gets no mail until its owner writes from it, and proves nobody any
more until it was proved anew: carriers give old addresses to new people.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.credentials import verp
from mailbot.delivery import outbox, suppression
from mailbot.delivery.mails import ClaimedMail, Settlement
from mailbot.delivery.outbox import BOUNCED, REFUSED
from mailbot.delivery.policy import MailState
from mailbot.delivery.suppression import Key, Note, Source
from mailbot.intake.screening import Reason
from mailbot.mail.address import stored
from mailbot.mail.causes import Cause
from mailbot.mail.reports import Kind, Report, read
from mailbot.mail.status import Outcome, OutcomeKind
from mailbot.store.alarms import Alarm, raise_alarm
from mailbot.store.tables import address as address_table
from mailbot.store.tables import outbox as outbox_table

from . import mailfacts
from .context import Context
from .people import DAY_MS

REPORT_DAYS = 7
"""A report that comes later changes nothing. Relays give up after five days (RFC 5321 section 4.5.4.1)."""
MANY = 3
"""More recipients than this in a day whose side refuses our mail as such are an alarm."""

_SILENT = {
    Kind.DELAYED: Reason.DELAY_REPORT,
    Kind.DELIVERED: Reason.DELAY_REPORT,
    Kind.AUTOMATIC: Reason.AUTOMATIC_REPLY,
    Kind.NONE: Reason.UNREADABLE_REPORT,
}


@dataclass(frozen=True, slots=True)
class BounceMail:
    """A mail to a bounce address. `mail_id`: the mail of ours that its tag proves, None where there is no such tag;
    `report` is then not read either."""

    society: str
    mail_id: int | None
    report: Report


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of it. `failed`: our mail, where it has failed by this report."""

    reason: Reason
    outbox_id: int | None = None
    failed: ClaimedMail | None = None


def opened(ctx: Context, society: str, tag: str, content: bytes) -> BounceMail:
    """Checks the tag behind `bounce+` and reads the report; needs no database. For a thread: it may take a moment."""
    mail_id = verp.read_tag(ctx.ring, society, tag)
    if mail_id is None and (named := _named(ctx, society, content)):
        mail_id = verp.read_tag(ctx.ring, society, named)
    return BounceMail(society, mail_id, Report(Kind.NONE) if mail_id is None else read(content))


def _named(ctx: Context, society: str, content: bytes) -> str:
    """The tag in a complaint (RFC 5965), which comes to the plain address and tells the envelope sender inside."""
    if b"message/feedback-report" not in content[:16_384].lower():
        return ""
    local, _, domain = ctx.settings.societies[society].addresses.bounce.rpartition("@")
    wanted = rf"{re.escape(local)}\+([a-z2-7]{{{verp.TAG_CHARS}}})@{re.escape(domain)}"
    found = re.search(wanted.encode("ascii"), content[:65_536].lower())
    return found[1].decode("ascii") if found else ""


async def take(ctx: Context, tx: AsyncConnection, mails: Sequence[BounceMail], now: int) -> list[Taken]:
    """What proved reports say becomes state; answers in order. The caller calls `tell` at the end of its transaction.

    Rows are taken in the order of their keys, as the courier does, and mails before addresses: they are locks.
    """
    notes: list[Note] = []
    done: dict[int, Taken] = {}
    for place, mail in sorted(enumerate(mails), key=lambda one: (one[1].society, one[1].mail_id or 0, one[0])):
        done[place] = await _take(tx, mail, notes, now)
    await _learn(tx, notes, now)
    return [done[place] for place in range(len(mails))]


async def _take(tx: AsyncConnection, mail: BounceMail, notes: list[Note], now: int) -> Taken:
    report = mail.report
    if mail.mail_id is None:
        return Taken(Reason.UNPROVED_REPORT)
    if report.kind in _SILENT:
        return Taken(_SILENT[report.kind], mail.mail_id)
    since = now - REPORT_DAYS * DAY_MS
    if report.kind is Kind.COMPLAINT:
        recipient = await _recipient(tx, mail.society, mail.mail_id, since)
        if recipient is None:
            return Taken(Reason.LATE_REPORT)
        notes.append(
            Note(mail.society, stored(recipient), Cause.COMPLAINT, Source.FEEDBACK, report.words, mail.mail_id)
        )
        return Taken(Reason.COMPLAINT, mail.mail_id)
    words = f"{report.status} {report.words}".strip()
    told = f"report: {report.cause.value}: {words}"
    found = await outbox.bounce(tx, mail.society, mail.mail_id, report.cause, told, since, now)
    if found is None:
        return Taken(Reason.LATE_REPORT)
    ours, state = found
    notes.append(Note(mail.society, stored(ours.recipient), report.cause, Source.REPORT, words, ours.id))
    return Taken(Reason.DELIVERY_REPORT, ours.id, ours if state is MailState.FAILED else None)


async def _recipient(tx: AsyncConnection, society: str, mail_id: int, since: int) -> str | None:
    c = outbox_table.c
    mine = (c.society == society, c.id == mail_id, func.coalesce(c.settled_at, c.created_at) >= since)
    found: str | None = await tx.scalar(select(c.recipient).where(*mine))
    return found


async def tell(ctx: Context, tx: AsyncConnection, taken: Sequence[Taken], now: int) -> None:
    """What follows from the mails that failed: alarms and audit, which lock what others wait for, so they come last."""
    failed = [one.failed for one in taken if one.failed is not None]
    if failed:
        await mailfacts.mail_settled(ctx, tx, [(mail, MailState.FAILED) for mail in failed], now)


def tells(one: Settlement) -> bool:
    """Whether what became of a mail says something about its address."""
    outcome = one.outcome
    if not isinstance(outcome, Outcome):
        return False
    return outcome.kind is OutcomeKind.FAILED or outcome.cause is Cause.FULL


async def refused(ctx: Context, tx: AsyncConnection, settlements: Sequence[Settlement], now: int) -> None:
    """The relay's own refusals, in the settling transaction."""
    notes = []
    for one in settlements:
        assert isinstance(one.outcome, Outcome)
        cause, mail = one.outcome.cause or Cause.OTHER, one.mail
        notes.append(
            Note(mail.society, stored(mail.recipient), cause, Source.RELAY, str(one.outcome.status), mail.id)
        )
    await _learn(tx, notes, now)


async def _learn(tx: AsyncConnection, notes: Sequence[Note], now: int) -> None:
    if not notes:
        return
    await suppression.note(tx, notes, now)
    await end_proofs(tx, [one.key for one in notes if one.cause is Cause.UNKNOWN_USER], now)
    for society in sorted({one.society for one in notes if one.cause is Cause.COMPLAINT}):
        text = "Somebody reported our mail as spam; `mailbot suppression list --cause complaint` says who"
        await raise_alarm(tx, society, Alarm.COMPLAINT, text, now)
    for society in sorted({one.society for one in notes if one.cause is Cause.POLICY}):
        if (many := await _refusing(tx, society, now)) > MANY:
            text = f"{many} recipients' servers refuse our mail as such since yesterday: SPF, DKIM, DMARC, reputation"
            await raise_alarm(tx, society, Alarm.MAIL_REFUSED, text, now)


async def _refusing(tx: AsyncConnection, society: str, now: int) -> int:
    c = outbox_table.c
    ours = c.reason.in_([f"{BOUNCED}-{Cause.POLICY}", f"{REFUSED}-{Cause.POLICY}"])
    recent = (c.society == society, c.state == MailState.FAILED.value, c.settled_at > now - DAY_MS, ours)
    return int(await tx.scalar(select(func.count(c.recipient.distinct())).where(*recent)) or 0)


async def end_proofs(tx: AsyncConnection, keys: Sequence[Key], now: int) -> None:
    """These mailboxes do not exist: they prove no member any more."""
    a = address_table.c
    for society, key in sorted(set(keys)):
        mine = (a.society == society, a.address_key == key, a.unreachable_at.is_(None))
        await tx.execute(update(address_table).where(*mine).values(unreachable_at=now))


async def restore_proofs(tx: AsyncConnection, society: str, key: str) -> int:
    """Staff asked the members: the address is theirs all the time. How many rows it was for."""
    a = address_table.c
    mine: tuple[Any, ...] = (a.society == society, a.address_key == key, a.unreachable_at.is_not(None))
    return (await tx.execute(update(address_table).where(*mine).values(unreachable_at=None))).rowcount
