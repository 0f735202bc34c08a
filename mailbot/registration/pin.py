"""The mailed PIN behind the password: one for each login, good for one browser, a few minutes and five tries.

Wrong tries count for the account as well, and a new PIN does not forget them; only who knows the password gets so far,
so nobody else can pause an account. The PIN itself is derived from its row whenever it is needed.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit, credentials, ratelimit
from mailbot.config import Society
from mailbot.credentials import KeyRefused
from mailbot.delivery import outbox
from mailbot.delivery.outbox import Lane, NewMail
from mailbot.ratelimit import Hit, Limits
from mailbot.store import new_id
from mailbot.store.alarms import Alarm, raise_alarm
from mailbot.store.tables import address as address_table
from mailbot.store.tables import member, pin_login
from mailbot.telemetry import emit

from . import guesses, people, words
from .context import Context
from .notices import MINUTE_MS, new_token, token_hash
from .outcomes import Complaint, PinAsked, PinPage, PinState, Refused, Scope

LETTER = "pin"
LOGIN_MS = 30 * MINUTE_MS
"""How long a login waits for its PIN, unless a new PIN lives longer."""
RESEND_MS = MINUTE_MS
"""A mail needs a moment: before that, asking again sends nothing."""
MAILS_A_LOGIN = 3
MAILS_A_DAY = 10
"""Mails to one account that led to no login."""
TAP_MS = 10_000
"""The same browser with the same password within this time tapped twice: one login, one mail."""
TRIES = 5
"""Wrong tries that end a PIN."""
TRIES_AN_HOUR = 10
"""Wrong tries at one account after which it pauses for half an hour."""
TRIES_IN_A_ROW = 100
"""Wrong tries without a right one after which only `unlock` helps."""
LOCKED = Alarm.PIN_LOCKED
"""The audit's event and the alarm."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The PIN was right, and is used up."""

    member_id: int
    scope: Scope


async def ask(
    ctx: Context, tx: AsyncConnection, society: Society, member_id: int, scope: Scope, browser: str, now: int
) -> PinAsked | Refused:
    """After the right password: a new waiting login and its PIN mails. The transaction holds the member's row.

    `browser`: what the browser's own cookie says, empty where it is not known.
    """
    assert society.login.pin is not None
    failures = await tx.scalar(
        select(member.c.pin_failures).where(member.c.society == society.id, member.c.id == member_id)
    )
    if (failures or 0) >= TRIES_IN_A_ROW:
        emit("login.pin", society=society.id, reason="locked")
        return Refused.whole(_over(society, PinState.LOCKED, None, now))
    if (until := await _pause_end(tx, society, member_id, now)) is not None:
        emit("login.pin", society=society.id, reason="paused")
        return Refused.whole(_over(society, PinState.PAUSED, until, now), 429)
    if (twin := await _twin(ctx, tx, society, member_id, browser, now)) is not None:
        return twin
    if not await recipients(tx, society.id, member_id):
        emit("login.pin", society=society.id, reason="unreachable")
        return Refused.whole(_unreachable(society))
    if (again_at := await _next_mail_at(tx, society, member_id, now)) is not None:
        return Refused.whole(_no_more_mails(society, again_at, now), 429)
    kid, row_id, ends = ctx.ring.active(now).kid, new_id(), now + society.login.pin.minutes * MINUTE_MS
    token = _token(ctx, society, kid, row_id, browser) if browser else new_token()
    await tx.execute(
        insert(pin_login).values(
            society=society.id,
            id=row_id,
            member_id=member_id,
            proof_hash=token_hash(token),
            kid=kid,
            digits=society.login.pin.digits,
            scope=scope,
            sent_at=now,
            created_at=now,
            pin_expires_at=ends,
            expires_at=max(now + LOGIN_MS, ends),
        )
    )
    await _mail(ctx, tx, society.id, member_id, row_id, 0, ends, now)
    emit("login.pin", society=society.id, reason="asked")
    return PinAsked(f"{credentials.encode_id(row_id)}.{token}")


async def page(ctx: Context, society: Society, proof: str | None, now: int) -> PinPage | None:
    """What the page of a waiting login says; reads only. None when this browser has none (any more)."""
    async with ctx.store.read() as tx:
        row = await _waiting(tx, society, proof, now)
        if row is None:
            return None
        paused_until = await _pause_end(tx, society, row.member_id, now)
        addresses = await recipients(tx, society.id, row.member_id)
    return PinPage(
        state=_state(ctx, society, row, paused_until, now),
        addresses=tuple(masked(one) for one in addresses),
        digits=row.digits,
        sent_at=row.sent_at,
        until=row.pin_expires_at,
        paused_until=paused_until,
        may_send=row.sends < MAILS_A_LOGIN,
        again_at=row.sent_at + RESEND_MS,
    )


async def send_again(ctx: Context, society: Society, proof: str | None, now: int) -> bool | Refused:
    """Mails the PIN again while it lives, else a new one; nothing within a minute of the last mail, or when this login
    has had its share. False: there is no such login any more."""
    assert society.login.pin is not None
    async with ctx.store.begin() as tx:
        row = await _waiting(tx, society, proof, now, lock=True)
        if row is None:
            return False
        state = _state(ctx, society, row, await _pause_end(tx, society, row.member_id, now), now)
        live = state is PinState.LIVE
        if state in (PinState.PAUSED, PinState.LOCKED) or row.sends >= MAILS_A_LOGIN:
            return True
        if live and now < row.sent_at + RESEND_MS:
            return True
        if (again_at := await _next_mail_at(tx, society, row.member_id, now)) is not None:
            return Refused.whole(_no_more_mails(society, again_at, now), 429)
        columns: dict[str, Any] = {"sends": row.sends + 1, "sent_at": now}
        generation, ends = row.generation, row.pin_expires_at
        if not live:
            generation, ends = row.generation + 1, now + society.login.pin.minutes * MINUTE_MS
            columns |= {
                "generation": generation,
                "kid": ctx.ring.active(now).kid,
                "failures": 0,
                "pin_expires_at": ends,
                "expires_at": max(row.expires_at, ends),
            }
        await tx.execute(
            update(pin_login).where(pin_login.c.society == society.id, pin_login.c.id == row.id).values(columns)
        )
        await _mail(ctx, tx, society.id, row.member_id, row.id, generation, ends, now)
    ctx.store.wake("outbox")
    emit("login.pin", society=society.id, reason="sent-again" if live else "renewed")
    return True


async def check(
    ctx: Context, tx: AsyncConnection, society: Society, proof: str | None, typed: str, now: int
) -> Passed | Refused | None:
    """A try at the PIN, counted where it has the right shape. None: this browser has no waiting login (any more)."""
    row = await _waiting(tx, society, proof, now, lock=True)
    if row is None:
        return None
    label = society.label("pin.code")
    until = await _pause_end(tx, society, row.member_id, now)
    state = _state(ctx, society, row, until, now)
    if state is not PinState.LIVE:
        return Refused.whole(_over(society, state, until, now))
    given = credentials.digits(typed)
    if len(given) != row.digits:
        text = f"{label}は、メールでお送りした{row.digits}けたの数字です。" if typed.strip() else ""
        return Refused((Complaint("pin", f"{text}{label}を入力してください。"),))
    if not credentials.same(given, derive(ctx, society.id, row) or ""):
        return await _wrong(tx, society, row, now)
    mine = (member.c.society == society.id, member.c.id == row.member_id)
    await tx.execute(
        update(pin_login).where(pin_login.c.society == society.id, pin_login.c.id == row.id).values(ended_at=now)
    )
    if row.pin_failures:
        await tx.execute(update(member).where(*mine).values(pin_failures=0))
    await guesses.forget(tx, society.id, _subject(row.member_id))
    await ratelimit.refund(tx, society.id, "pin-mail", str(row.member_id))
    return Passed(row.member_id, row.scope)


async def unlock(ctx: Context, tx: AsyncConnection, society: Society, member_id: int, now: int) -> bool:
    """The person is proved otherwise (by staff, or by a reissue): wrong PINs are forgotten, and a login that waits for
    its completion mail opens. False: not a registered member."""
    c = member.c
    done = await tx.execute(
        update(member)
        .where(c.society == society.id, c.id == member_id, c.state == "registered")
        .values(pin_failures=0, login_opens_at=func.coalesce(c.login_opens_at, now))
    )
    if done.rowcount != 1:
        return False
    await guesses.forget(tx, society.id, _subject(member_id))
    await ratelimit.refund(tx, society.id, "pin-mail", str(member_id))
    return True


async def end_waiting(tx: AsyncConnection, society: Society, member_id: int) -> None:
    """Ends the logins that wait for a PIN: the password they passed is none any more."""
    await tx.execute(delete(pin_login).where(pin_login.c.society == society.id, pin_login.c.member_id == member_id))


def derive(ctx: Context, society: str, row: Any) -> str | None:
    """The PIN of a row; None when its key was compromised."""
    try:
        return credentials.pin(ctx.ring, row.kid, society, row.id, row.generation, row.digits)
    except KeyRefused:
        return None


async def recipients(tx: AsyncConnection, society: str, member_id: int) -> list[str]:
    """Where PINs go: the ticked addresses, the first one where none is; two spellings of a mailbox are one, and one
    that ceased to exist is none."""
    c = address_table.c
    rows = (
        await tx.execute(
            select(c.address, c.address_key, c.pin)
            .where(c.society == society, c.member_id == member_id, c.unreachable_at.is_(None))
            .order_by(c.slot)
        )
    ).all()
    ticked = [row for row in rows if row.pin] or rows[:1]
    return list({row.address_key: row.address for row in reversed(ticked)}.values())[::-1]


def masked(address: str) -> str:
    """`ya****@example.jp`: enough to know one's own, too little to learn another's."""
    local, _, domain = address.rpartition("@")
    return f"{local[: 2 if len(local) > 2 else 1]}****@{domain}"


# --- inside -----------------------------------------------------------------------------------------------------------


async def _waiting(tx: AsyncConnection, society: Society, proof: str | None, now: int, lock: bool = False) -> Any:
    """The browser's waiting login with what matters of its member, or None."""
    name, _, token = (proof or "").partition(".")
    row_id = credentials.decode_id(name)
    if row_id is None or society.login.pin is None:
        return None
    m = member.c
    statement = (
        select(pin_login, m.pin_failures, m.state, m.left_on)
        .select_from(member)
        .join(pin_login, (pin_login.c.society == m.society) & (pin_login.c.member_id == m.id))
        .where(pin_login.c.society == society.id, pin_login.c.id == row_id)
    )
    # both rows: two tabs meet here, and the second sees what the first one wrote; member first, as everywhere
    row = (await tx.execute(statement.with_for_update() if lock else statement)).first()
    if row is None or not hmac.compare_digest(bytes(row.proof_hash), token_hash(token)):
        return None
    if row.ended_at is not None or now >= row.expires_at:
        return None
    return row if row.state == "registered" and not people.has_left(society, row.left_on, now) else None


def _token(ctx: Context, society: Society, kid: int, row_id: int, browser: str) -> str:
    """The cookie of a waiting login: a second tap makes the same once more. Raises KeyRefused."""
    return urlsafe_b64encode(ctx.ring.derive(kid, "pin-proof", society.id, row_id, 0, browser)).decode().rstrip("=")


async def _twin(
    ctx: Context, tx: AsyncConnection, society: Society, member_id: int, browser: str, now: int
) -> PinAsked | None:
    """The login this browser began a moment ago."""
    c = pin_login.c
    mine = (c.society == society.id, c.member_id == member_id, c.ended_at.is_(None), c.generation == 0)
    rows = await tx.execute(select(c.id, c.kid, c.proof_hash).where(*mine, c.created_at > now - TAP_MS))
    for row in rows if browser else ():
        try:
            token = _token(ctx, society, row.kid, row.id, browser)
        except KeyRefused:
            continue
        if hmac.compare_digest(bytes(row.proof_hash), token_hash(token)):
            return PinAsked(f"{credentials.encode_id(row.id)}.{token}")
    return None


def _state(ctx: Context, society: Society, row: Any, paused_until: int | None, now: int) -> PinState:
    if row.pin_failures >= TRIES_IN_A_ROW:
        return PinState.LOCKED
    if paused_until is not None:
        return PinState.PAUSED
    if row.failures >= TRIES:
        return PinState.DEAD
    return PinState.EXPIRED if now >= row.pin_expires_at or derive(ctx, society.id, row) is None else PinState.LIVE


async def _wrong(tx: AsyncConnection, society: Society, row: Any, now: int) -> Refused:
    """Counts the try for the PIN and for the account."""
    tries, in_a_row = row.failures + 1, row.pin_failures + 1
    await tx.execute(
        update(member).where(member.c.society == society.id, member.c.id == row.member_id).values(pin_failures=in_a_row)
    )
    await tx.execute(
        update(pin_login).where(pin_login.c.society == society.id, pin_login.c.id == row.id).values(failures=tries)
    )
    goes_on = await guesses.count(tx, society.id, _subject(row.member_id), TRIES_AN_HOUR - 1, now)
    emit("login.pin", society=society.id, reason="wrong")
    if in_a_row >= TRIES_IN_A_ROW:
        text = f"{TRIES_IN_A_ROW} wrong PINs in a row: somebody may know a password; the audit record names the member"
        await raise_alarm(tx, society.id, LOCKED, text, now)
        await audit.record(tx, "system", LOCKED, society.id, row.member_id, {}, now)
        return Refused.whole(_over(society, PinState.LOCKED, None, now))
    if not goes_on:
        until = await _pause_end(tx, society, row.member_id, now)
        return Refused.whole(_over(society, PinState.PAUSED, until, now))
    if tries >= TRIES:
        return Refused.whole(_over(society, PinState.DEAD, None, now))
    text = "が違います。メールの数字と見比べて、もう一度入力してください。"
    return Refused((Complaint("pin", f"{society.label('pin.code')}{text}あと{TRIES - tries}回まで入力できます。"),))


async def _mail(
    ctx: Context, tx: AsyncConnection, society: str, member_id: int, row_id: int, generation: int, end: int, now: int
) -> None:
    """One mail an address; the PIN is derived when it is sent, and no mail sets out after 60 % of the time it is good
    for: a PIN must arrive with time to type it."""
    which: dict[str, Any] = {"member_id": member_id, "link_id": row_id, "facts": {"generation": generation}}
    deadline = now + (end - now) * 3 // 5
    to = await recipients(tx, society, member_id)
    mails = [NewMail(society, LETTER, Lane.PIN, address, deadline_at=deadline, **which) for address in to]
    await outbox.put(tx, mails, now, ctx.host)


async def _next_mail_at(tx: AsyncConnection, society: Society, member_id: int, now: int) -> int | None:
    """None = a mail may go out, and is counted; else when the next one may."""
    hit = Hit(society.id, "pin-mail", str(member_id), Limits(day=MAILS_A_DAY))
    return await ratelimit.wait_until(tx, [hit], now)


async def _pause_end(tx: AsyncConnection, society: Society, member_id: int, now: int) -> int | None:
    return await guesses.pause_end(tx, society.id, _subject(member_id), TRIES_AN_HOUR - 1, now)


def _subject(member_id: int) -> str:
    return f"pin|{member_id}"


# --- words ------------------------------------------------------------------------------------------------------------


def _over(society: Society, state: PinState, paused_until: int | None, now: int) -> str:
    """Why no PIN is taken, and what to do."""
    label = society.label("pin.code")
    match state:
        case PinState.LOCKED:
            return (
                f"{label}が何度も続けて違ったため、安全のためログインを止めています。"
                "パスワードの再発行をするか、このページの下の「お困りのときは」へご連絡ください。"
            )
        case PinState.PAUSED:
            assert paused_until is not None
            return (
                f"{label}が何度も違ったため、しばらくログインできません。"
                f"{words.clock(paused_until, now)}を過ぎてから、もう一度ログインしてください。"
                "お急ぎの方は、パスワードの再発行をしてください。"
            )
        case PinState.DEAD:
            return f"{TRIES}回違ったため、この{label}は使えなくなりました。新しい{label}を受け取ってください。"
        case _:
            return f"この{label}は、使える時間を過ぎました。新しい{label}を受け取ってください。"


def _unreachable(society: Society) -> str:
    return (
        f"登録されているメールアドレスにメールが届かなくなったため、{society.label('pin.code')}をお送りできません。"
        "お手数ですが、このページの下の「お困りのときは」へご連絡ください。本人であることを確かめて、"
        "新しいメールアドレスに変えます。"
    )


def _no_more_mails(society: Society, again_at: int, now: int) -> str:
    return (
        f"{society.label('pin.code')}のメールを、短い間に何度もお送りしました。届いているメールをお確かめください。"
        f"次にお送りできるのは、{words.clock(again_at, now)}からです。"
    )
