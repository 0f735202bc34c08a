"""First credentials by mail: the printed ones of a letter, sent by the help desk to the address on file.

Nothing secret is queued: the mail names the letter's row and generation, and what it says is derived at the moment it
leaves. A letter that died, was printed anew or whose member registered meanwhile takes its mail along.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, literal_column, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit
from mailbot.config import Society
from mailbot.credentials import KeyRefused
from mailbot.delivery import outbox
from mailbot.delivery.outbox import Cancelled, ClaimedMail, Lane, MailState, NewMail
from mailbot.mail.address import Address, AddressError, stored
from mailbot.store.alarms import Alarm, raise_alarm
from mailbot.store.keys import among, values
from mailbot.store.tables import member, temporary

from . import people
from .context import Context
from .invite import mail_deadline
from .people import DAY_MS
from .steps.temporary_login import printed_password

LETTER = "credentials"
UNDELIVERED = Alarm.CREDENTIALS_UNDELIVERED
"""The audit's event, and the alarm."""
UNDELIVERED_STATES = (MailState.FAILED, MailState.EXPIRED)
A_TURN = 200
"""Mails of one society queued in one turn of the timetable."""
HOUR_MS = 3_600_000

_OTHER = member.alias()
_SHARES = exists().where(
    _OTHER.c.society == member.c.society,
    _OTHER.c.file_address_index == member.c.file_address_index,
    _OTHER.c.id != member.c.id,
)
# Literals, not parameters: only then may both databases use the index of members who wait for this mail.
WAITING = and_(
    member.c.state == literal_column("'invited'"),
    member.c.credentials_mailed_at.is_(None),
    member.c.file_address_index.is_not(None),
)
_COLUMNS = (
    member.c.society,
    member.c.id.label("member_id"),
    member.c.sealed,
    member.c.state.label("member_state"),
    member.c.left_on,
    member.c.sealed_nickname,
    temporary.c.id,
    temporary.c.sealed_login_id,
    temporary.c.sealed_password,
    temporary.c.kid,
    temporary.c.generation,
    temporary.c.format,
    temporary.c.state,
    temporary.c.expires_at,
)
_OF_MEMBER = and_(temporary.c.society == member.c.society, temporary.c.member_id == member.c.id)
LETTERS = select(*_COLUMNS).join(member, _OF_MEMBER).where(among(temporary.c.society, temporary.c.id))


class NotMailed(StrEnum):
    """Why credentials cannot be mailed; `explanation` is a sentence for staff."""

    NOT_USED = "not-used"
    UNKNOWN = "unknown"
    REGISTERED = "registered"
    LEFT = "left"
    NO_ADDRESS = "no-address"
    SHARED_ADDRESS = "shared-address"
    NO_LETTER = "no-letter"
    TOO_SOON = "too-soon"

    @property
    def explanation(self) -> str:
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    NotMailed.NOT_USED: "this society mails no credentials: its file has no [credentials_mail]",
    NotMailed.UNKNOWN: "no such member",
    NotMailed.REGISTERED: "the member is registered already: a forgotten ID or password is reissued on the login page",
    NotMailed.LEFT: "the roster says that the member left",
    NotMailed.NO_ADDRESS: "the roster has no mail address for this member",
    NotMailed.SHARED_ADDRESS: "the member is protected, and others on the roster have the same mail address",
    NotMailed.NO_LETTER: "the member has no credentials that can still be used: make new ones first",
    NotMailed.TOO_SOON: "they were mailed less than an hour ago",
}


async def mail_credentials(
    ctx: Context, tx: AsyncConnection, society: Society, member_id: int, now: int
) -> NotMailed | None:
    """For staff: queues the member's credentials to the address on file, again if they were mailed before, at most once
    an hour. None = queued (wake the outbox after the commit); the caller records it in the audit."""
    if society.credentials_mail is None:
        return NotMailed.NOT_USED
    c = member.c
    columns = (c.state, c.left_on, c.sealed, c.protected, c.credentials_mailed_at, _SHARES.label("shares"))
    mine = (c.society == society.id, c.id == member_id)
    person = (await tx.execute(select(*columns).where(*mine).with_for_update(of=member))).first()
    if person is None:
        return NotMailed.UNKNOWN
    if person.state != "invited":
        return NotMailed.REGISTERED
    if people.has_left(society, person.left_on, now):
        return NotMailed.LEFT
    address = _on_file(ctx, society, member_id, person.sealed)
    if address is None:
        return NotMailed.NO_ADDRESS
    if person.protected and person.shares:
        return NotMailed.SHARED_ADDRESS
    newest = select(*_COLUMNS).join(member, _OF_MEMBER).where(*mine).order_by(temporary.c.created_at.desc())
    letters = [row for row in await tx.execute(newest) if _usable(ctx, society, row, now)]
    if not letters:
        return NotMailed.NO_LETTER
    if person.credentials_mailed_at is not None and now < person.credentials_mailed_at + HOUR_MS:
        return NotMailed.TOO_SOON
    await outbox.put(tx, [_mail(society, letters[0], address, now, f"/{now}")], now, ctx.host)
    await tx.execute(update(member).where(*mine).values(credentials_mailed_at=now))
    return None


async def mail_due(ctx: Context, tx: AsyncConnection, society: Society, now: int) -> int:
    """Queues the credentials of members whom the roster named long enough ago; how many mails, at most 200."""
    rule = society.credentials_mail
    if rule is None or rule.after_days is None:
        return 0
    due = (
        select(*_COLUMNS)
        .join(temporary, _OF_MEMBER)
        .where(
            member.c.society == society.id,
            WAITING,
            member.c.created_at <= now - rule.after_days * DAY_MS,
            _stays(society, now),
            or_(~member.c.protected, ~_SHARES),
            temporary.c.state == "live",
            or_(temporary.c.expires_at.is_(None), temporary.c.expires_at > now),
        )
        .order_by(member.c.created_at, member.c.id, temporary.c.created_at)
        .limit(A_TURN)
        .with_for_update(of=member)
    )
    letters = {row.member_id: row for row in await tx.execute(due)}  # the newest one of each
    if not letters:
        return 0
    mails = []
    for member_id, row in letters.items():
        address = _on_file(ctx, society, member_id, row.sealed)
        if address is not None:
            mails.append(_mail(society, row, address, now))
    queued = await outbox.put(tx, mails, now, ctx.host)
    mine = update(member).where(member.c.society == society.id, member.c.id.in_(letters))
    await tx.execute(mine.values(credentials_mailed_at=now))
    return len([one for one in queued if one is not None])


async def letters_of(tx: AsyncConnection, mails: Sequence[ClaimedMail]) -> dict[tuple[str, int], Any]:
    """The letters' rows that these mails name, with their members, by society and letter; one statement at most."""
    keys = sorted({(mail.society, int(mail.facts.get("temporary", 0))) for mail in mails if mail.letter == LETTER})
    return {(row.society, row.id): row for row in await tx.execute(LETTERS, values(keys))} if keys else {}


def facts(ctx: Context, society: Society, mail: ClaimedMail, row: Any, now: int) -> dict[str, str | int] | Cancelled:
    """What the mail says, derived now. `row`: its letter, from `letters_of`, or None."""
    if row is None or row.member_id != mail.member_id or row.generation != mail.facts.get("generation"):
        return Cancelled("letter-gone")
    if row.member_state != "invited" or people.has_left(society, row.left_on, now):
        return Cancelled("member-gone")
    if row.state != "live" or (row.expires_at is not None and row.expires_at <= now):
        return Cancelled("letter-gone")
    address = _on_file(ctx, society, row.member_id, row.sealed)
    if address is None or address.text != mail.recipient:
        return Cancelled("address-removed")
    try:
        password, _ = printed_password(ctx, society, row)
    except KeyRefused:
        return Cancelled("key-refused")
    login_id = people.open_text(ctx.ring, row.sealed_login_id, society.id, "temporary", "sealed_login_id", row.id)
    found: dict[str, str | int] = {"login_id": login_id, "temporary_password": password}
    blob = row.sealed_nickname
    nickname = people.open_text(ctx.ring, blob, society.id, "member", "sealed_nickname", row.member_id)
    return {**found, "nickname": nickname} if nickname else found


async def settled(tx: AsyncConnection, mails: Sequence[tuple[ClaimedMail, MailState]], now: int) -> None:
    """Puts mails that could not be delivered before staff: their members know of no other way in."""
    lost = [(mail, state) for mail, state in mails if mail.letter == LETTER and state in UNDELIVERED_STATES]
    for mail, _ in lost:
        text = "First credentials were not delivered; the audit record says whose, `mailbot queue list` says why"
        await raise_alarm(tx, mail.society, UNDELIVERED, text, now)
    for mail, state in lost:
        facts: dict[str, str | int] = {"mail": mail.id, "state": state.value}
        await audit.record(tx, "system", UNDELIVERED, mail.society, mail.member_id, facts, now)


def _on_file(ctx: Context, society: Society, member_id: int, sealed: bytes) -> Address | None:
    person = people.open_person(ctx.ring, sealed, society.id, member_id)
    try:
        return stored(person.address)
    except AddressError:
        return None


def _usable(ctx: Context, society: Society, row: Any, now: int) -> bool:
    if row.state != "live" or (row.expires_at is not None and row.expires_at <= now):
        return False
    try:
        printed_password(ctx, society, row)
    except KeyRefused:
        return False
    return True


def _stays(society: Society, now: int) -> ColumnElement[bool]:
    """`not people.has_left`, as a condition."""
    if not society.left_closes_login:
        return true()
    return or_(member.c.left_on.is_(None), member.c.left_on > people.today(now))


def _mail(society: Society, row: Any, address: Address, now: int, again: str = "") -> NewMail:
    return NewMail(
        society.id,
        LETTER,
        Lane.BULK,
        address.text,
        member_id=row.member_id,
        facts={"temporary": row.id, "generation": row.generation},
        dedupe_key=f"credentials/{row.member_id}/{row.id}/{row.generation}{again}",
        deadline_at=mail_deadline(now, row.expires_at) if row.expires_at is not None else None,
    )
