"""What the courier fills letters with: secrets are derived here, at the last moment, and nothing of it is stored.

A mail whose reason is gone (member deleted, address removed, link used) is cancelled instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit, credentials
from mailbot.config import Society
from mailbot.credentials import KeyRefused, LinkPurpose, LinkState
from mailbot.delivery import suppression
from mailbot.delivery.outbox import Cancelled, ClaimedMail, MailState, PutBack
from mailbot.delivery.suppression import Fate
from mailbot.letters.kinds import MAX_CODE
from mailbot.mail.address import stored
from mailbot.store.alarms import Alarm, raise_alarm
from mailbot.store.keys import among, values
from mailbot.store.tables import address as address_table
from mailbot.store.tables import link, member, pin_login

from . import credentials_mail, formula, people, pin
from .context import Context
from .reissue import mailed_password

SUPPRESSED = "suppressed"
"""Reason of mails that are not sent because their address takes none."""
UNDELIVERED = Alarm.COMPLETION_UNDELIVERED
"""The audit's event, and the alarm where a login waits for the mail."""

_LINKS = select(link).where(among(link.c.society, link.c.id))
_PIN_LOGINS = select(pin_login).where(among(pin_login.c.society, pin_login.c.id))
_OPEN = among(member.c.society, member.c.id)
_UNDELIVERED = (MailState.FAILED, MailState.EXPIRED, MailState.CANCELLED)

_WITHOUT_ID = ("reissue", "reissue-told")
"""They speak to a member without a nickname by no login ID, unless the society mails it anyway."""

Facts = dict[str, str | int]
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Letter:
    """What a letter stands on."""

    purpose: LinkPurpose | None = None
    path: str = ""
    """Of the link's URL; a letter without one has the code alone, and the steps for the address's carrier."""
    to_registered: bool = False
    """Only to an address the member still has."""
    nickname: bool = False
    any_state: bool = False
    """Also for members who are not registered yet."""


_LETTERS = {
    "invitation": _Letter(LinkPurpose.REGISTRATION, "r"),
    "invitation-plain": _Letter(LinkPurpose.REGISTRATION),
    "completion": _Letter(to_registered=True),
    "reissue": _Letter(LinkPurpose.REISSUE, "p", to_registered=True, nickname=True),
    "reissue-stale": _Letter(LinkPurpose.REISSUE, "p", to_registered=True),
    "reissue-staff": _Letter(to_registered=True),
    "reissue-paper": _Letter(),
    "reissue-told": _Letter(to_registered=True, nickname=True),
    "login-id": _Letter(to_registered=True, nickname=True),
    "address-proof": _Letter(LinkPurpose.ADDRESS_PROOF, "a", nickname=True),
    "address-changed": _Letter(nickname=True),
    "password-changed": _Letter(nickname=True, to_registered=True),
    "password-expiry": _Letter(nickname=True, to_registered=True),
    "mailed-link": _Letter(LinkPurpose.MAILED_LINK, "c", any_state=True),
    "confirm-by-mail": _Letter(LinkPurpose.MAILED_LINK, "c", any_state=True),
    pin.LETTER: _Letter(nickname=True, to_registered=True),
    credentials_mail.LETTER: _Letter(any_state=True),
    "registration-reset": _Letter(any_state=True),
    "help-received": _Letter(),
}


@dataclass(frozen=True)
class _Rows:
    links: dict[Key, Any]
    members: dict[Key, Any]
    addresses: dict[Key, dict[str, bool]]
    """Of each member, and whether mail reaches them."""
    known: dict[tuple[str, str], suppression.Known]
    letters: dict[Key, Any]
    pin_logins: dict[Key, Any]


async def mail_facts(
    ctx: Context, tx: AsyncConnection, mails: Sequence[ClaimedMail], now: int
) -> list[Facts | Cancelled | PutBack]:
    """The member facts of each mail's letter, in order; reads only, four statements for any number of
    mails, and one more each where credentials or PINs are among them."""
    rows = await _read(tx, mails)
    return [_suppressed(rows, mail, now) or _facts(ctx, rows, mail, now) for mail in mails]


def _suppressed(rows: _Rows, mail: ClaimedMail, now: int) -> Cancelled | PutBack | None:
    """Why this letter is not sent (now) to an address that mail does not reach."""
    known = rows.known.get((mail.society, suppression.key_of(mail.recipient)), {})
    match suppression.fate(known, mail.lane, now):
        case Fate.SEND:
            return None
        case Fate.NEVER:
            return Cancelled(SUPPRESSED)
        case Fate.WAIT:
            return PutBack(min(suppression.waits_until(known, mail.lane), mail.last_moment))


async def mail_settled(
    ctx: Context, tx: AsyncConnection, settled: Sequence[tuple[ClaimedMail, MailState]], now: int
) -> None:
    """Runs in the settling transaction. The completion mail opens the login where the society waits for it; one that
    cannot be delivered is put before staff: the member is registered, and waits for word."""
    societies = ctx.settings.societies
    ended = [(mail, state) for mail, state in settled if mail.letter == "completion" and mail.member_id is not None]
    waiting = [
        (mail, state)
        for mail, state in ended
        if mail.society in societies and societies[mail.society].login.opens == "completion-delivered"
    ]
    taken = sorted({(m.society, m.member_id or 0) for m, state in waiting if state is MailState.DELIVERED})
    if taken:
        closed = (member.c.state == "registered", member.c.login_opens_at.is_(None))
        await tx.execute(update(member).where(_OPEN, *closed).values(login_opens_at=now), values(taken))
    for mail, state in waiting:
        if state in _UNDELIVERED:
            text = "A completion mail was not delivered, and its member's login waits for it; the audit record has both"
            await raise_alarm(tx, mail.society, UNDELIVERED, text, now)
    for mail, state in ended:
        if state in _UNDELIVERED:
            facts: Facts = {"mail": mail.id, "state": state.value}
            await audit.record(tx, "system", UNDELIVERED, mail.society, mail.member_id, facts, now)
    await credentials_mail.settled(tx, settled, now)


async def _read(tx: AsyncConnection, mails: Sequence[ClaimedMail]) -> _Rows:
    by_link = sorted({(m.society, m.link_id, m.letter == pin.LETTER) for m in mails if m.link_id is not None})
    link_keys = [(society, row_id) for society, row_id, is_pin in by_link if not is_pin]
    pin_keys = [(society, row_id) for society, row_id, is_pin in by_link if is_pin]
    member_keys = sorted({(mail.society, mail.member_id) for mail in mails if mail.member_id is not None})
    links: dict[Key, Any] = {}
    members: dict[Key, Any] = {}
    addresses: dict[Key, dict[str, bool]] = {}
    pin_logins: dict[Key, Any] = {}
    if pin_keys:
        pin_logins = {(row.society, row.id): row for row in await tx.execute(_PIN_LOGINS, values(pin_keys))}
    if link_keys:
        for row in await tx.execute(_LINKS, values(link_keys)):
            links[row.society, row.id] = row
    if member_keys:
        c = member.c
        columns = (c.society, c.id, c.state, c.login_id, c.login_kind, c.sealed, c.sealed_nickname, c.password_set_at)
        for row in await tx.execute(select(*columns).where(among(c.society, c.id)), values(member_keys)):
            members[row.society, row.id] = row
        a = address_table.c
        statement = select(a.society, a.member_id, a.address, a.unreachable_at).where(among(a.society, a.member_id))
        for society, member_id, text, unreachable_at in await tx.execute(statement, values(member_keys)):
            addresses.setdefault((society, member_id), {})[text] = unreachable_at is None
    known = await suppression.causes(tx, {(mail.society, suppression.key_of(mail.recipient)) for mail in mails})
    return _Rows(links, members, addresses, known, await credentials_mail.letters_of(tx, mails), pin_logins)


def _facts(ctx: Context, rows: _Rows, mail: ClaimedMail, now: int) -> Facts | Cancelled:
    society = ctx.settings.societies.get(mail.society)
    if society is None:
        return Cancelled("society-gone")
    letter = _LETTERS.get(mail.letter)
    if letter is None:
        return Cancelled("letter-gone")
    facts: Facts = dict(mail.facts)
    person = None
    if mail.member_id is not None:
        person = rows.members.get((mail.society, mail.member_id))
        if person is None or not (letter.any_state or person.state == "registered"):
            return Cancelled("member-gone")
        if letter.to_registered:
            reached = rows.addresses.get((mail.society, mail.member_id), {}).get(mail.recipient)
            if not reached:
                return Cancelled("address-removed" if reached is None else "address-unreachable")
    if letter.nickname and person is not None:
        place = (society.id, "member", "sealed_nickname", person.id)
        nickname = people.open_text(ctx.ring, person.sealed_nickname, *place)
        # else the ID tells symbol and number, or the address, or what the society keeps out of this mail
        told = person.login_kind == "chosen" and (society.reissue.login_id or mail.letter not in _WITHOUT_ID)
        if nickname or told:
            facts.setdefault("nickname", nickname or person.login_id)
    if letter.purpose is not None:
        row = rows.links.get((mail.society, mail.link_id or 0))
        state = (
            LinkState.UNKNOWN if row is None else credentials.state(row.expires_at, row.spent_at, row.revoked_at, now)
        )
        if row is None or state is not LinkState.LIVE:
            return Cancelled(f"link-{state.value}")
        try:
            facts |= _link_facts(ctx, society, letter, row, person)
            if not letter.path:
                carrier = ctx.settings.carriers.of(stored(mail.recipient).domain)
                facts |= {"carrier": carrier.name, "steps": "\n".join(carrier.steps)}
        except KeyRefused:
            return Cancelled("key-refused")
    if mail.letter == credentials_mail.LETTER:
        row = rows.letters.get((society.id, int(facts.get("temporary", 0))))
        return credentials_mail.facts(ctx, society, mail, row, now)
    if mail.letter == pin.LETTER:
        return _pin_facts(ctx, rows.pin_logins.get((mail.society, mail.link_id or 0)), facts, now)
    if mail.letter == "login-id":
        facts["login_id"] = _login_id(ctx, society, person)
    if mail.letter == "password-expiry":
        end = people.password_end(society, person.password_set_at if person is not None else None)
        if end is None or end != facts.get("expires_on"):
            return Cancelled("not-due")  # changed since, or the society has no such rule any more
    return facts


def _pin_facts(ctx: Context, row: Any, facts: Facts, now: int) -> Facts | Cancelled:
    """The PIN in two groups of digits, while it can still be used."""
    if row is None or row.ended_at is not None or row.generation != facts.get("generation"):
        return Cancelled("pin-ended")
    if now >= row.pin_expires_at or row.failures >= pin.TRIES:
        return Cancelled("pin-dead")
    code = pin.derive(ctx, row.society, row)
    if code is None:
        return Cancelled("key-refused")
    half = (len(code) + 1) // 2
    return {**facts, "pin": f"{code[:half]} {code[half:]}", "expires_at": row.pin_expires_at}


def _login_id(ctx: Context, society: Society, person: Any) -> str:
    """The ID as a letter tells it: an address may be longer than a line of a mail."""
    text = formula.shown_id(ctx.ring, society, person.id, person.login_kind, person.login_id, person.sealed)
    return text if len(text) <= MAX_CODE else "ご登録のメールアドレス"


def _link_facts(ctx: Context, society: Society, letter: _Letter, row: Any, person: Any) -> Facts:
    """Raises KeyRefused."""
    assert letter.purpose is not None
    facts: Facts = {
        "code": credentials.short_code(ctx.ring, letter.purpose, society.id, row.id, row.kid, row.generation),
        "expires_at": row.expires_at,
    }
    if letter.path:
        token = credentials.mint(ctx.ring, letter.purpose, society.id, row.id, row.kid)
        facts["url"] = f"{ctx.settings.site.site.web_url}/{society.id}/{letter.path}/{token}"
    if letter.purpose is LinkPurpose.REISSUE and row.asks is None:
        if society.reissue.login_id:
            facts["login_id"] = _login_id(ctx, society, person)
        if row.format is not None:
            facts["temporary_password"] = mailed_password(ctx, society.id, row.id, row.kid, row.generation, row.format)
    return facts
