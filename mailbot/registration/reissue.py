"""A forgotten login ID or password: address in, one mail an account out, a new password at the end.

The request itself only notes the address, whoever asks; `expand` looks for accounts later, on the courier's side. So
known and unknown addresses cost a page the same. Asking changes nothing: password and sessions live until a new one is
set.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit, credentials
from mailbot.config import Society
from mailbot.credentials import Format, KeyRefused, LinkPurpose, LinkState
from mailbot.delivery import outbox
from mailbot.delivery.outbox import Lane, NewMail
from mailbot.ratelimit import HOUR_MS, Ledger
from mailbot.store import new_id
from mailbot.store.keys import among, values
from mailbot.store.tables import address as address_table
from mailbot.store.tables import journey, link, member
from mailbot.telemetry import emit

from . import choices, limits, login, notices, people, words
from .context import Context
from .invite import mail_deadline
from .journeys import JOURNEY_MS, proof_fits
from .notices import MINUTE_MS, new_token, token_hash
from .outcomes import Begun, Complaint, Refused, ReissuePage
from .password import CHANGED_LETTER

REQUEST = "reissue-request"
"""Purpose of a row of `link` that is a wish and opens nothing: it lives until `expand` has read it."""
REQUESTS_AT_ONCE = 100
MAX_FAILURES = 10
"""Wrong temporary logins after which the link is revoked: a new one is one mail away."""
PURPOSE = "reissue-password"
ASKED = {"login_id": "reissue.login-id", "temporary_password": "reissue.temporary-password"}
"""Fields of the temporary login and the keys of their labels."""
JOURNEY = "reissue"


async def request(ctx: Context, society: Society, typed_address: str, network: str, now: int) -> Refused | None:
    """Notes the wish. Known and unknown addresses cost the same statements; accounts are looked up by the timetable.

    Refused: field `address` when it is no address, 429 over the network's budget.
    """
    address = choices.address(ctx, typed_address, "address", society.label("reissue.address"))
    if isinstance(address, Complaint):
        return Refused((address,))
    site = ctx.settings.site
    hits = [limits.web(site, society, network), limits.reissue(site, society, address)]
    async with ctx.store.begin() as tx:
        ledger = await Ledger.lock(tx, [hit.key for hit in hits], now)
        over = ledger.allow(hits)
        await ledger.save(tx)
        if over is None:
            await tx.execute(
                insert(link).values(
                    society=society.id,
                    id=new_id(),
                    purpose=REQUEST,
                    address=address.text,
                    address_key=address.key,
                    kid=ctx.ring.active(now).kid,
                    created_at=now,
                    expires_at=now + HOUR_MS,
                )
            )
    if over is not None and over.scope == "web":
        return Refused.whole(words.TOO_OFTEN, 429)
    ctx.store.wake("outbox")
    emit("reissue.requested", society=society.id)
    return None


async def expand(ctx: Context, tx: AsyncConnection, now: int) -> int:
    """Turns noted wishes into links and mails, one for each account that proved the address; the number of mails."""
    statement = (
        select(link)
        .where(link.c.society.in_(list(ctx.settings.societies)), link.c.purpose == REQUEST)
        .order_by(link.c.created_at)
        .limit(REQUESTS_AT_ONCE)
    )
    wishes = (await tx.execute(statement.with_for_update(skip_locked=True))).all()
    if not wishes:
        return 0
    keys = sorted({(wish.society, wish.address_key) for wish in wishes if wish.expires_at > now})
    accounts = await _accounts(tx, keys, now)
    links: list[dict[str, Any]] = []
    mails: list[NewMail] = []
    for account in accounts:
        society = ctx.settings.societies.get(account.society)
        if society is None or account.mailed >= society.reissue.mails_an_hour:
            continue
        if people.has_left(society, account.left_on, now) or (account.protected and account.sharing > 1):
            continue
        link_id, expires_at = new_id(), now + society.links.reissue_minutes * MINUTE_MS
        links.append(
            {
                "society": society.id,
                "id": link_id,
                "purpose": LinkPurpose.REISSUE.value,
                "address": account.address,
                "address_key": account.address_key,
                "member_id": account.member_id,
                "kid": ctx.ring.active(now).kid,
                "format": society.reissue.temporary_password,
                "created_at": now,
                "expires_at": expires_at,
            }
        )
        mails.append(
            NewMail(
                society.id,
                "reissue",
                Lane.REISSUE,
                account.address,
                member_id=account.member_id,
                link_id=link_id,
                deadline_at=mail_deadline(now, expires_at),
            )
        )
    if links:
        await tx.execute(insert(link), links)
        await outbox.put(tx, mails, now, ctx.host)
    done = [(wish.society, wish.id) for wish in wishes]
    await tx.execute(delete(link).where(among(link.c.society, link.c.id)), values(done))
    return len(mails)


async def _accounts(tx: AsyncConnection, keys: list[tuple[str, str]], now: int) -> list[Any]:
    """Registered members who proved one of these addresses, with how many share it and mails of the last hour."""
    if not keys:
        return []
    a = address_table.c
    sharing = (
        select(a.society, a.address_key, func.count(func.distinct(a.member_id)).label("sharing"))
        .where(among(a.society, a.address_key))
        .group_by(a.society, a.address_key)
        .subquery()
    )
    mailed = (
        select(func.count())
        .where(
            link.c.society == a.society,
            link.c.member_id == a.member_id,
            link.c.purpose == LinkPurpose.REISSUE.value,
            link.c.created_at > now - HOUR_MS,
        )
        .correlate(address_table)
        .scalar_subquery()
    )
    statement = (
        select(
            a.society,
            a.member_id,
            func.min(a.address).label("address"),
            a.address_key,
            member.c.left_on,
            member.c.protected,
            sharing.c.sharing,
            mailed.label("mailed"),
        )
        .join(member, (member.c.society == a.society) & (member.c.id == a.member_id))
        .join(sharing, (sharing.c.society == a.society) & (sharing.c.address_key == a.address_key))
        .where(among(a.society, a.address_key), member.c.state == "registered")
        .group_by(a.society, a.member_id, a.address_key, member.c.left_on, member.c.protected, sharing.c.sharing)
        .order_by(a.society, a.member_id)
    )
    wanted = set(keys)
    return [row for row in await tx.execute(statement, values(keys)) if (row.society, row.address_key) in wanted]


async def first_page(ctx: Context, society: Society, link_id: int, now: int) -> ReissuePage | LinkState:
    """What the link's page asks for; reads only."""
    async with ctx.store.read() as tx:
        row, state = await _link(tx, society, link_id, now)
    return ReissuePage(row.format is not None, row.expires_at) if state is LinkState.LIVE else state


async def begin(
    ctx: Context, society: Society, link_id: int, form: Mapping[str, str], network: str, now: int
) -> Begun | Refused | LinkState:
    """POST of the temporary login (login_id, temporary_password) where the mail carried a temporary password."""
    if (empty := choices.left_empty(society, form, ASKED)) is not None:
        return empty
    proof, journey_id = new_token(), new_id()
    async with ctx.store.begin() as tx:
        ledger = await Ledger.lock(tx, [limits.web(ctx.settings.site, society, network).key], now)
        over = ledger.allow([limits.web(ctx.settings.site, society, network)])
        await ledger.save(tx)
        if over is not None:
            return Refused.whole(words.TOO_OFTEN, 429)
        row, state = await _link(tx, society, link_id, now, lock=True)
        if state is not LinkState.LIVE or row.format is None:
            return state if state is not LinkState.LIVE else LinkState.UNKNOWN
        if not _right(ctx, society, row, form):
            failures = row.failures + 1
            dead = {"revoked_at": now} if failures >= MAX_FAILURES else {}
            await tx.execute(
                update(link).where(link.c.society == society.id, link.c.id == link_id).values(failures=failures, **dead)
            )
            return Refused.whole(words.wrong_reissue(society))
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


async def finish(
    ctx: Context, society: Society, link_id: int, proof: str | None, new: str, again: str, now: int
) -> Refused | LinkState | None:
    """Sets the password (form fields password, password_again), ends all sessions, tells all addresses; no login.

    `proof` is needed only where the page asked for the temporary password; LinkState.UNKNOWN when it does not fit.
    """
    async with ctx.store.read() as tx:
        row, state = await _link(tx, society, link_id, now)
        proved = row is not None and await _proved(tx, society, link_id, proof, now)
    if row is None or state in (LinkState.USED, LinkState.REVOKED):
        return state
    if not proved and (row.format is not None or state is not LinkState.LIVE):
        return LinkState.UNKNOWN if state is LinkState.LIVE else state
    person = people.open_person(ctx.ring, row.sealed, society.id, row.member_id)
    facts = choices.known_facts(society, person, (row.login_id or "",), (row.address,), _mailed(ctx, society, row))
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
    c = link.c
    statement = (
        select(link, member.c.login_id, member.c.left_on, member.c.sealed, member.c.password_hash)
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
    typed = credentials.fold(choices.text_of(form, "login_id")).encode("utf-8", "surrogatepass")
    login_id = hmac.compare_digest(typed, credentials.fold(row.login_id).encode("utf-8", "surrogatepass"))
    return password and login_id


async def _proved(tx: AsyncConnection, society: Society, link_id: int, proof: str | None, now: int) -> bool:
    c = journey.c
    hashes = await tx.scalars(
        select(c.proof_hash).where(
            c.society == society.id,
            c.link_id == link_id,
            c.name == JOURNEY,
            c.expires_at > now,
            c.done_at.is_(None),
        )
    )
    return any(proof_fits(one, proof) for one in hashes)


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
