"""Behind a reissue link: what it asks, then a new password.

A link may ask the temporary password its mail carried, or the birth date where the mailbox alone is not enough
(`wishes`); whoever passed that goes on in the same browser only. Nothing logs in by itself.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit, credentials, ratelimit
from mailbot.config import Society
from mailbot.credentials import Format, KeyRefused, LinkPurpose, LinkState
from mailbot.store import new_id
from mailbot.store.tables import journey, link, member
from mailbot.telemetry import emit

from . import choices, dates, formula, limits, login, notices, people, pin, words
from .context import Context
from .dates import read_birth_date
from .journeys import JOURNEY_MS
from .notices import new_token, token_hash
from .outcomes import Begun, Complaint, Refused, ReissuePage
from .password import CHANGED_LETTER
from .progress import proof_fits
from .wishes import BIRTH_DATE, WRONG_BIRTH_DATES

MAX_FAILURES = 10
"""Wrong temporary logins after which the link is revoked: a new one is one mail away."""
PURPOSE = "reissue-password"
ASKED = {"login_id": "reissue.login-id", "temporary_password": "reissue.temporary-password"}
"""Fields of the temporary login and the keys of their labels."""
JOURNEY = "reissue"


async def first_page(
    ctx: Context, society: Society, link_id: int, now: int, proof: str | None = None
) -> ReissuePage | LinkState:
    """What the link's pages show; reads only. `proof`: of the browser that passed what the link asks; it may finish
    after the link's end."""
    async with ctx.store.read() as tx:
        row, state = await _link(tx, society, link_id, now)
        until = await _proved_until(tx, society, link_id, proof, now)
    if row is None or not (state is LinkState.LIVE or (state is LinkState.EXPIRED and until is not None)):
        return state
    asks = _asks(row)
    # where the ID has a way of its own, a mailbox alone is not told both
    told = until is not None or (asks is None and not society.reissue.separate_login_id)
    return ReissuePage(asks, until or row.expires_at, _login_id(ctx, society, row) if told else "", until is not None)


async def begin(
    ctx: Context, society: Society, link_id: int, form: Mapping[str, str], network: str, now: int
) -> Begun | Refused | LinkState:
    """POST of what the link asks: login_id and temporary_password, or birth_year, birth_month and birth_day.

    What is empty or no date is named and is no guess; wrong ones are counted, and the link dies of too many.
    """
    page = await first_page(ctx, society, link_id, now)
    if not isinstance(page, ReissuePage):
        return page
    if page.asks is None:
        return LinkState.UNKNOWN
    born = _typed_date(society, form, now) if page.asks == "birth-date" else None
    refused = born if isinstance(born, Refused) else None
    if page.asks != "birth-date":
        refused = choices.left_empty(society, form, ASKED)
    if refused is not None:
        return refused
    proof, journey_id = new_token(), new_id()
    async with ctx.store.begin() as tx:
        again_at = await ratelimit.wait_until(tx, [limits.web(ctx.settings.site, society, network)], now)
        if again_at is not None:
            return Refused.whole(words.too_often(again_at, now), 429)
        row, state = await _link(tx, society, link_id, now, lock=True)
        if state is not LinkState.LIVE:
            return state
        if isinstance(born, date):
            person = people.open_person(ctx.ring, row.sealed, society.id, row.member_id)
            right, most = born == person.born, WRONG_BIRTH_DATES
        else:
            right, most = _right(ctx, society, row, form), MAX_FAILURES
        if not right:
            return await _wrong(tx, society, row, most, now)
        await tx.execute(
            insert(journey).values(
                society=society.id,
                id=journey_id,
                name=JOURNEY,
                steps='["reissue-login","reissue-password"]',
                position=1,
                link_id=link_id,
                address=row.address,
                member_id=row.member_id,
                proof_hash=token_hash(proof),
                started_at=now,
                expires_at=max(row.expires_at, now + JOURNEY_MS),
            )
        )
    return Begun(journey_id, proof, "reissue-password")


def _typed_date(society: Society, form: Mapping[str, str], now: int) -> date | Refused:
    year, month, day = (choices.text_of(form, name) for name in dates.FIELDS)
    found = read_birth_date(year, month, day, date.fromisoformat(people.today(now)))
    return found if isinstance(found, date) else Refused(found.complaints(society.label("reissue.birth-date")))


async def _wrong(tx: AsyncConnection, society: Society, row: Any, most: int, now: int) -> Refused | LinkState:
    """Counts a wrong try; the last one revokes the link."""
    failures = row.failures + 1
    dead = {"revoked_at": now} if failures >= most else {}
    mine = (link.c.society == society.id, link.c.id == row.id)
    await tx.execute(update(link).where(*mine).values(failures=failures, **dead))
    if row.asks != BIRTH_DATE:
        return Refused.whole(words.wrong_reissue(society))
    if dead:
        facts = {"failures": failures}
        await audit.record(tx, "system", "reissue-link-revoked", society.id, row.member_id, facts, now)
        return LinkState.REVOKED
    label = society.label("reissue.birth-date")
    return Refused((Complaint(dates.YEAR, words.wrong_birth_date(label, most - failures)),))


async def finish(
    ctx: Context, society: Society, link_id: int, proof: str | None, new: str, again: str, now: int
) -> Refused | LinkState | None:
    """Sets the password (form fields password, password_again), ends all sessions, tells all addresses; no login.

    `proof` is needed only where the page asked for the temporary password; LinkState.UNKNOWN when it does not fit.
    """
    async with ctx.store.read() as tx:
        row, state = await _link(tx, society, link_id, now)
        proved = await _proved_until(tx, society, link_id, proof, now) is not None
    if row is None or state in (LinkState.USED, LinkState.REVOKED):
        return state
    if not proved and (_asks(row) is not None or state is not LinkState.LIVE):
        return LinkState.UNKNOWN if state is LinkState.LIVE else state
    person = people.open_person(ctx.ring, row.sealed, society.id, row.member_id)
    login_id, mailed = _login_id(ctx, society, row), _mailed(ctx, society, row)
    facts = choices.known_facts(society, person, (login_id,), (row.address,), mailed)
    fields, label = ("password", "password_again"), society.label("reissue.password")
    if found := choices.password(society, new, again, fields, label, facts):
        return Refused(tuple(found))
    if await ctx.passwords.verify(row.password_hash, new):  # else an expired one would live on (SC-8)
        same = credentials.Problem(credentials.Code.PERSONAL, {"fact": credentials.Fact.PREVIOUS})
        return Refused((Complaint(fields[0], credentials.sentence(same, label)),))
    new_hash = await ctx.passwords.hash(new)
    async with ctx.store.begin() as tx:
        if not await _spend(tx, society, link_id, row.member_id, now):
            return LinkState.USED
        await tx.execute(
            update(member)
            .where(member.c.society == society.id, member.c.id == row.member_id, member.c.state == "registered")
            .values(password_hash=new_hash, password_set_at=now)
        )
        await pin.unlock(ctx, tx, society, row.member_id, now)
        await login.end_sessions(tx, society, row.member_id)
        addresses = await notices.proved_addresses(tx, society.id, row.member_id)
        await notices.tell(ctx, tx, society, row.member_id, CHANGED_LETTER, addresses, {"changed_at": now}, now)
        await audit.record(tx, "member", "password-reissued", society.id, row.member_id, {}, now)
    ctx.store.wake("outbox")
    emit("reissue.done", society=society.id)
    return None


async def _link(
    tx: AsyncConnection, society: Society, link_id: int, now: int, lock: bool = False
) -> tuple[Any, LinkState]:
    c, m = link.c, member.c
    statement = (
        select(link, m.login_id, m.login_key, m.login_kind, m.left_on, m.sealed, m.password_hash)
        .join(member, (member.c.society == c.society) & (member.c.id == c.member_id))
        .where(
            c.society == society.id,
            c.id == link_id,
            c.purpose == LinkPurpose.REISSUE.value,
            member.c.state == "registered",
        )
    )
    row = (await tx.execute(statement.with_for_update(of=link) if lock else statement)).first()
    if row is None or people.has_left(society, row.left_on, now):
        return None, LinkState.UNKNOWN
    return row, credentials.state(row.expires_at, row.spent_at, row.revoked_at, now)


def _asks(row: Any) -> Literal["birth-date", "temporary-login"] | None:
    if row.asks is not None:
        return "birth-date"
    return "temporary-login" if row.format is not None else None


def _mailed(ctx: Context, society: Society, row: Any) -> str | None:
    """The temporary password the mail carried, if any."""
    if row.format is None:
        return None
    try:
        return mailed_password(ctx, society.id, row.id, row.kid, row.generation, row.format)
    except KeyRefused:
        return None


def mailed_password(ctx: Context, society: str, link_id: int, kid: int, generation: int, fmt: str) -> str:
    """The temporary password of a reissue link. Raises KeyRefused."""
    return credentials.password(ctx.ring, kid, society, link_id, generation, Format.parse(fmt), PURPOSE)


def _right(ctx: Context, society: Society, row: Any, form: Mapping[str, str]) -> bool:
    expected = _mailed(ctx, society, row)
    if expected is None:
        return False
    cased = Format.parse(row.format).cased
    password = credentials.same(choices.text_of(form, "temporary_password"), expected, any_case=not cased)
    typed = formula.login_key(ctx.ring, society, choices.text_of(form, "login_id"))
    return hmac.compare_digest(typed, row.login_key) and password


def _login_id(ctx: Context, society: Society, row: Any) -> str:
    return formula.shown_id(ctx.ring, society, row.member_id, row.login_kind, row.login_id, row.sealed)


async def _proved_until(
    tx: AsyncConnection, society: Society, link_id: int, proof: str | None, now: int
) -> int | None:
    """Until when the browser with this cookie may finish; None where it did not pass what the link asks."""
    c = journey.c
    passed = await tx.execute(
        select(c.proof_hash, c.expires_at).where(
            c.society == society.id,
            c.link_id == link_id,
            c.name == JOURNEY,
            c.expires_at > now,
            c.done_at.is_(None),
        )
    )
    return max((one.expires_at for one in passed if proof_fits(one.proof_hash, proof)), default=None)


async def _spend(tx: AsyncConnection, society: Society, link_id: int, member_id: int, now: int) -> bool:
    """Spends the link, once; the member's other reissue links die with it."""
    mine = (
        link.c.society == society.id,
        link.c.member_id == member_id,
        link.c.purpose == LinkPurpose.REISSUE.value,
        link.c.spent_at.is_(None),
        link.c.revoked_at.is_(None),
    )
    spent = await tx.execute(update(link).where(*mine, link.c.id == link_id).values(spent_at=now))
    if spent.rowcount != 1:
        return False
    await tx.execute(update(link).where(*mine).values(revoked_at=now))
    await tx.execute(
        update(journey)
        .where(journey.c.society == society.id, journey.c.link_id == link_id, journey.c.name == JOURNEY)
        .values(done_at=now)
    )
    return True
