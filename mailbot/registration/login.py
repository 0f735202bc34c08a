"""Login and sessions. Where the society mails PINs, the password alone opens none (`pin`).

A wrong password pauses the login ID for the network it came from, and a network that tries many IDs pauses as a whole;
nothing a stranger does locks a member out elsewhere. Every failure costs one hash and says the same.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import ratelimit
from mailbot.config import Society
from mailbot.credentials import PasswordTooLong
from mailbot.store.tables import member
from mailbot.store.tables import session as session_table
from mailbot.telemetry import emit

from . import choices, formula, guesses, limits, people, pin, words
from .context import Context
from .notices import MINUTE_MS, new_token, token_hash
from .outcomes import LoggedIn, MemberView, PinAsked, Refused, Scope

NETWORK_SHARE = 10
"""A network may fail this many times as often as one login ID of it: many members sit behind one address."""


async def log_in(
    ctx: Context, society: Society, login_id: str, password: str, network: str, now: int, browser: str = ""
) -> LoggedIn | PinAsked | Refused:
    """One error text and one hash, whatever is wrong: unknown ID, wrong password, not registered yet, left, paused.

    `browser`: the value of a cookie that tells browsers apart; where PINs are mailed, a double tap is one login.
    """
    typed, labels = {"login_id": login_id, "password": password}, {"login_id": "login.id", "password": "login.password"}
    if (empty := choices.left_empty(society, typed, labels)) is not None:
        return empty
    key = formula.login_key(ctx.ring, society, login_id)
    limit = ctx.settings.site.budgets.login_failures_per_hour
    pair = f"{guesses.account(ctx.ring, society.id, key)}|{network}"
    everyone = f"*|{network}"
    async with ctx.store.begin() as tx:
        again_at = await ratelimit.wait_until(tx, [limits.web(ctx.settings.site, society, network)], now)
        if again_at is not None:
            return Refused.whole(words.too_often(again_at, now), 429)
        allowed = await guesses.count(tx, society.id, everyone, NETWORK_SHARE * limit, now)
        allowed = await guesses.count(tx, society.id, pair, limit, now) and allowed
        row = await _account(tx, society, key)
    is_open = (
        allowed
        and row is not None
        and row.state == "registered"
        and row.login_opens_at is not None
        and row.login_opens_at <= now
        and not people.has_left(society, row.left_on, now)
    )
    known_hash = row.password_hash if row is not None and is_open else None
    try:
        right = await ctx.passwords.verify(known_hash, password)
    except PasswordTooLong:
        right = False
    if not right or row is None:
        emit("login.refused", society=society.id, reason="wrong" if allowed else "paused")
        return Refused.whole(words.wrong_login(society))
    fresh = await ctx.passwords.hash(password) if ctx.passwords.needs_rehash(row.password_hash) else None
    async with ctx.store.begin() as tx:
        await guesses.forgive_one(tx, society.id, everyone)
        await guesses.forget(tx, society.id, pair)
        columns = {"password_hash": fresh or row.password_hash}
        if society.login.pin is None:
            columns |= _seen(now)
        unchanged = (member.c.society == society.id, member.c.id == row.id, member.c.password_hash == row.password_hash)
        taken = await tx.execute(update(member).where(*unchanged).values(columns))
        if taken.rowcount != 1:  # the password was changed while we looked at the old one
            return Refused.whole(words.wrong_login(society))
        end = people.password_end(society, row.password_set_at)
        scope: Scope = "expired-password" if end is not None and now >= end else "member"
        if society.login.pin is None:
            token = await open_session(ctx, tx, society, row.id, scope, now)
        else:
            asked = await pin.ask(ctx, tx, society, row.id, scope, browser, now)
    if society.login.pin is not None:
        ctx.store.wake("outbox")
        return asked
    emit("login.done", society=society.id, reason=scope)
    return LoggedIn(token, scope)


async def forgive(ctx: Context, society: Society, login_id: str, network: str) -> None:
    """What was counted as a wrong password was the first password of somebody who is not registered yet."""
    account = guesses.account(ctx.ring, society.id, formula.login_key(ctx.ring, society, login_id))
    async with ctx.store.begin() as tx:
        await guesses.forgive_one(tx, society.id, f"*|{network}")
        await guesses.forgive_one(tx, society.id, f"{account}|{network}")


async def log_in_with_pin(
    ctx: Context, society: Society, proof: str | None, typed: str, now: int
) -> LoggedIn | Refused | None:
    """The second half of a login: the mailed PIN, in the browser that gave the password. None: there is no first."""
    async with ctx.store.begin() as tx:
        passed = await pin.check(ctx, tx, society, proof, typed, now)
        if not isinstance(passed, pin.Passed):
            return passed
        mine = (member.c.society == society.id, member.c.id == passed.member_id)
        await tx.execute(update(member).where(*mine).values(_seen(now)))
        token = await open_session(ctx, tx, society, passed.member_id, passed.scope, now)
    emit("login.done", society=society.id, reason=passed.scope)
    return LoggedIn(token, passed.scope)


async def session(ctx: Context, society: Society, token: str, now: int) -> MemberView | None:
    """Whose session it is; refreshes its idle time (at most one write a minute). None when there is none any more."""
    hashed, s = token_hash(token), session_table.c
    c = member.c
    columns = (c.id, c.login_id, c.login_kind, c.sealed, c.sealed_nickname, c.state, c.left_on)
    times = (member.c.previous_login_at, member.c.password_set_at, s.scope, s.seen_at, s.expires_at)
    statement = (
        select(*columns, *times)
        .join(member, (member.c.society == s.society) & (member.c.id == s.member_id))
        .where(s.society == society.id, s.token_hash == hashed)
    )
    async with ctx.store.read() as tx:
        row = (await tx.execute(statement)).first()
    if row is None or now >= row.expires_at or now >= row.seen_at + idle_ms(ctx):
        return None
    if row.state != "registered" or people.has_left(society, row.left_on, now):
        return None
    if now >= row.seen_at + MINUTE_MS:
        async with ctx.store.begin() as tx:
            await tx.execute(
                update(session_table).where(s.society == society.id, s.token_hash == hashed).values(seen_at=now)
            )
    nickname = people.open_text(ctx.ring, row.sealed_nickname, society.id, "member", "sealed_nickname", row.id)
    return MemberView(
        row.id,
        row.scope,
        nickname or (row.login_id if row.login_kind == "chosen" else ""),
        formula.shown_id(ctx.ring, society, row.id, row.login_kind, row.login_id, row.sealed),
        row.previous_login_at,
        people.password_end(society, row.password_set_at),
    )


async def log_out(ctx: Context, society: Society, token: str) -> None:
    """Ends the session, if there is one."""
    s = session_table.c
    async with ctx.store.begin() as tx:
        await tx.execute(delete(session_table).where(s.society == society.id, s.token_hash == token_hash(token)))


def idle_ms(ctx: Context) -> int:
    """How long a session may rest."""
    return ctx.settings.site.web.idle_minutes * MINUTE_MS


async def open_session(
    ctx: Context, tx: AsyncConnection, society: Society, member_id: int, scope: Scope, now: int
) -> str:
    """A new session; its token, of which only the hash is kept."""
    token = new_token()
    await tx.execute(
        insert(session_table).values(
            society=society.id,
            token_hash=token_hash(token),
            member_id=member_id,
            scope=scope,
            created_at=now,
            seen_at=now,
            expires_at=now + ctx.settings.site.web.absolute_minutes * MINUTE_MS,
        )
    )
    return token


async def end_sessions(tx: AsyncConnection, society: Society, member_id: int) -> None:
    """Ends all of a member's sessions, and logins that wait for a PIN."""
    s = session_table.c
    await pin.end_waiting(tx, society, member_id)
    await tx.execute(delete(session_table).where(s.society == society.id, s.member_id == member_id))


def _seen(now: int) -> dict[str, Any]:
    return {"previous_login_at": member.c.last_login_at, "last_login_at": now}


async def _account(tx: AsyncConnection, society: Society, key: str) -> Any:
    c = member.c
    columns = (c.id, c.state, c.left_on, c.password_hash, c.password_set_at, c.login_opens_at)
    return (await tx.execute(select(*columns).where(c.society == society.id, c.login_key == key))).first()
