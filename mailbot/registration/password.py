"""Changing the password when logged in (ALL-9), and confirming it before something weighty."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update

from mailbot import audit
from mailbot.config import Society
from mailbot.credentials import PasswordTooLong
from mailbot.store.tables import member
from mailbot.store.tables import session as session_table

from . import choices, formula, guesses, login, notices, people, words
from .context import Context
from .notices import token_hash
from .outcomes import Changed, Complaint, Refused

CHANGED_LETTER = "password-changed"
LABELS = {"old": "password.old", "password": "profile.password"}
"""Fields that ask the password in use and the keys of their labels."""


async def change(
    ctx: Context, society: Society, member_id: int, old: str, new: str, again: str, session_token: str, now: int
) -> Changed | Refused:
    """Ends the member's other sessions; this one goes on under a new token, with scope `member`.

    Complaints name the fields old, new, again. All addresses are told.
    """
    if (refused := await confirm(ctx, society, member_id, old, "old", now)) is not None:
        return refused
    facts = await _known(ctx, society, member_id, old)
    found = choices.password(society, new, again, ("new", "again"), society.label("password.new"), facts)
    if found:
        return Refused(tuple(found))
    new_hash = await ctx.passwords.hash(new)
    s = session_table.c
    mine = (member.c.society == society.id, member.c.id == member_id)
    async with ctx.store.begin() as tx:
        await tx.execute(select(member.c.id).where(*mine).with_for_update())  # member before session, as everywhere
        ended = await tx.execute(
            session_table.delete().where(
                s.society == society.id, s.token_hash == token_hash(session_token), s.member_id == member_id
            )
        )
        if ended.rowcount != 1:  # logged out, or the password was changed, in another window meanwhile
            return Refused((Complaint("old", words.not_the_old_one(society.label("password.old"))),))
        await login.end_sessions(tx, society, member_id)
        await tx.execute(update(member).where(*mine).values(password_hash=new_hash, password_set_at=now))
        token = await login.open_session(ctx, tx, society, member_id, "member", now)
        addresses = await notices.proved_addresses(tx, society.id, member_id)
        await notices.tell(ctx, tx, society, member_id, CHANGED_LETTER, addresses, {"changed_at": now}, now)
        await audit.record(tx, "member", "password-changed", society.id, member_id, {}, now)
    ctx.store.wake("outbox")
    return Changed(token)


async def confirm(ctx: Context, society: Society, member_id: int, typed: str, field: str, now: int) -> Refused | None:
    """None when `typed` is the member's password. Guesses pause as at login."""
    subject, limit = f"confirm|{member_id}", ctx.settings.site.budgets.login_failures_per_hour
    async with ctx.store.begin() as tx:
        allowed = await guesses.count(tx, society.id, subject, limit, now)
        known_hash = await tx.scalar(
            select(member.c.password_hash).where(
                member.c.society == society.id, member.c.id == member_id, member.c.state == "registered"
            )
        )
    try:
        right = await ctx.passwords.verify(known_hash if allowed else None, typed)
    except PasswordTooLong:
        right = False
    if not right:
        return Refused((Complaint(field, words.not_the_old_one(society.label(LABELS[field]))),))
    async with ctx.store.begin() as tx:
        await guesses.forget(tx, society.id, subject)
    return None


async def _known(ctx: Context, society: Society, member_id: int, previous: str) -> Any:
    async with ctx.store.read() as tx:
        row = (
            await tx.execute(
                select(member.c.sealed, member.c.login_id, member.c.login_kind).where(
                    member.c.society == society.id, member.c.id == member_id
                )
            )
        ).one()
        addresses = await notices.proved_addresses(tx, society.id, member_id)
    person = people.open_person(ctx.ring, row.sealed, society.id, member_id)
    texts = tuple(text for _, text, _ in addresses)
    login_id = formula.shown_id(ctx.ring, society, member_id, row.login_kind, row.login_id, row.sealed)
    return choices.known_facts(society, person, (login_id,), texts, previous)
