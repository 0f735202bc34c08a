"""What somebody who forgot login ID or password asks for: an address in, mails to the accounts behind it out.

The request itself only notes the address, whoever asks; `expand` looks for accounts later, on the courier's side. So
known and unknown addresses cost a page the same. Asking changes nothing: password and sessions live until a new one is
set.

Which letter an account gets (all at most `mails_an_hour`):

- its link, or its login ID where that is what was asked for;
- a link whose page asks the birth date, and a mail that tells nothing of the member, where nobody logged in nor proved
  the address for long: carriers give old addresses to new people;
- word that only the help desk can go on, where that is the society's rule, the roster has no birth date, or several
  such links died of wrong ones;
- word that a letter on paper is needed, where the society mails nothing to an address that members share;
- nothing at a mailbox that ceased to exist; staff are told where the member has no other address.

Protected persons get nothing at an address they share, and nobody learns from us that they do. The member's other
addresses are told, without link or secret.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import ratelimit
from mailbot.config import Society
from mailbot.credentials import LinkPurpose
from mailbot.delivery import outbox
from mailbot.delivery.outbox import Lane, NewMail
from mailbot.ratelimit import HOUR_MS, Hit, Ledger, Limits
from mailbot.store import new_id
from mailbot.store.keys import among, values
from mailbot.store.tables import address as address_table
from mailbot.store.tables import link, member
from mailbot.store.tables import outbox as outbox_table
from mailbot.telemetry import emit

from . import choices, limits, people, words
from .context import Context
from .invite import mail_deadline
from .notices import MINUTE_MS
from .outcomes import Complaint, Refused
from .people import DAY_MS

BIRTH_DATE = "birth-date"
"""`link.asks` of a link whose mailbox is not enough."""
WRONG_BIRTH_DATES = 5
"""Wrong ones after which such a link is revoked."""
WORN_LINKS, WORN_DAYS = 3, 30
"""So many links that died of wrong birth dates in so many days: no further guesses, staff look at it."""
NAMELESS = "ご登録者"
"""Who a mail speaks to that may reach a stranger."""
REQUESTS_AT_ONCE = 100

_LINK, _STALE, _STAFF = "reissue", "reissue-stale", "reissue-staff"
_ID, _PAPER, _TOLD = "login-id", "reissue-paper", "reissue-told"


class Wish(StrEnum):
    """What was asked for: the purpose of a row of `link` that opens nothing and lives until `expand` has read it."""

    PASSWORD = "reissue-request"  # noqa: S105  a purpose
    LOGIN_ID = "login-id-request"


_COUNTED = {Wish.PASSWORD: (_LINK, _STALE, _STAFF), Wish.LOGIN_ID: (_ID, _STALE, _STAFF)}
"""The letters a wish may bring a member, which its hourly number counts."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """`mails`: how many were queued. `staff`: (society, member) of those whom only staff can help now."""

    mails: int = 0
    staff: tuple[tuple[str, int], ...] = ()


async def request(
    ctx: Context, society: Society, typed_address: str, network: str, now: int, wish: Wish = Wish.PASSWORD
) -> Refused | None:
    """Notes the wish. Known and unknown addresses cost the same statements; accounts are looked up by the timetable.

    Refused: field `address` when it is no address, 429 over the network's budget.
    """
    address = choices.address(ctx, typed_address, "address", society.label("reissue.address"))
    if isinstance(address, Complaint):
        return Refused((address,))
    site = ctx.settings.site
    hits = [limits.web(site, society, network), limits.wish(site, society, address, wish)]
    async with ctx.store.begin() as tx:
        ledger = await Ledger.lock(tx, [hit.key for hit in hits], now)
        over = ledger.allow(hits)
        await ledger.save(tx)
        if over is None:
            await tx.execute(
                insert(link).values(
                    society=society.id,
                    id=new_id(),
                    purpose=wish,
                    address=address.text,
                    address_key=address.key,
                    kid=ctx.ring.active(now).kid,
                    created_at=now,
                    expires_at=now + HOUR_MS,
                )
            )
    if over is not None and over.scope == "web":
        return Refused.whole(words.too_often(ledger.again_at(over), now), 429)
    ctx.store.wake("outbox")
    emit("reissue.requested", society=society.id)
    return None


async def expand(ctx: Context, tx: AsyncConnection, now: int) -> Expanded:
    """Turns noted wishes into links and mails, one for each account that proved the address."""
    statement = (
        select(link)
        .where(link.c.society.in_(list(ctx.settings.societies)), link.c.purpose.in_(list(Wish)))
        .order_by(link.c.created_at)
        .limit(REQUESTS_AT_ONCE)
    )
    noted = (await tx.execute(statement.with_for_update(skip_locked=True))).all()
    if not noted:
        return Expanded()
    asked = sorted({(row.society, row.address_key, Wish(row.purpose)) for row in noted if row.expires_at > now})
    accounts = await _accounts(tx, [(society, key) for society, key, _ in asked])
    answers = _Answers(ctx, now, await _history(tx, accounts, now))
    for society_id, key, wish in asked:
        if (there := accounts.get((society_id, key))) is not None:
            answers.add(ctx.settings.societies[society_id], wish, there)
    queued = await answers.write(tx)
    done = [(row.society, row.id) for row in noted]
    await tx.execute(delete(link).where(among(link.c.society, link.c.id)), values(done))
    return Expanded(queued, tuple(answers.staff))


@dataclass(frozen=True)
class _History:
    """What went before: mails of the last hour by (society, member, letter), links worn out by wrong birth dates, and
    every address of a member as (address, key)."""

    mailed: Counter[tuple[str, int, str]]
    worn: Counter[tuple[str, int]]
    addresses: dict[tuple[str, int], list[tuple[str, str]]]


@dataclass
class _Answers:
    """Collects what a batch of wishes brings."""

    ctx: Context
    now: int
    history: _History
    staff: list[tuple[str, int]] = field(default_factory=list)
    _links: list[dict[str, Any]] = field(default_factory=list)
    _mails: list[NewMail] = field(default_factory=list)
    _paper: list[tuple[str, str, str]] = field(default_factory=list)
    """(society, key, address) of shared addresses that get no link."""

    def add(self, society: Society, wish: Wish, accounts: Sequence[Any]) -> None:
        """`accounts`: all registered members who proved one address."""
        open_ones = [one for one in accounts if not people.has_left(society, one.left_on, self.now)]
        seen = [one for one in open_ones if not (one.protected and len(accounts) > 1)]
        if society.reissue.shared_address == "paper-only" and len(seen) > 1:
            place = (society.id, seen[0].address_key, seen[0].address)
            if place not in self._paper:
                self._paper.append(place)
            return
        for one in seen:
            self._answer(society, wish, one)

    def _answer(self, society: Society, wish: Wish, account: Any) -> None:
        who = (society.id, account.member_id)
        if account.unreachable_at is not None:  # the mailbox ceased to exist: it proves nobody any more
            if not self.history.addresses[who]:
                self.staff.append(who)
            return
        if sum(self.history.mailed[*who, letter] for letter in _COUNTED[wish]) >= society.reissue.mails_an_hour:
            return
        stale = self._is_stale(society, account)
        if not stale:
            letter = _LINK if wish is Wish.PASSWORD else _ID
        else:
            letter = _STALE if self._may_ask(society, account) else _STAFF
        self.history.mailed[*who, letter] += 1
        link_id = self._link(society, letter, account) if letter in (_LINK, _STALE) else None
        expires_at = self._links[-1]["expires_at"] if link_id is not None else None
        self._mails.append(
            NewMail(
                society.id,
                letter,
                Lane.REISSUE,
                account.address,
                member_id=account.member_id,
                link_id=link_id,
                deadline_at=mail_deadline(self.now, expires_at) if expires_at is not None else None,
            )
        )
        if letter == _STAFF:
            self.staff.append(who)
            return
        facts: dict[str, str | int] = {"requested_at": self.now, **({"nickname": NAMELESS} if stale else {})}
        others = {key: text for text, key in self.history.addresses[who] if key != account.address_key}
        for text in others.values():
            self._mails.append(
                NewMail(society.id, _TOLD, Lane.COMPLETION, text, member_id=account.member_id, facts=facts)
            )

    def _is_stale(self, society: Society, account: Any) -> bool:
        """Whether nobody has shown for long that the mailbox is still the member's."""
        days = society.reissue.stale_days
        last = max(account.proved_at, account.registered_at or 0, account.last_login_at or 0)
        return days is not None and self.now - last >= days * DAY_MS

    def _may_ask(self, society: Society, account: Any) -> bool:
        if society.reissue.stale_asks == "staff" or self.history.worn[society.id, account.member_id] >= WORN_LINKS:
            return False
        return people.open_person(self.ctx.ring, account.sealed, society.id, account.member_id).born is not None

    def _link(self, society: Society, letter: str, account: Any) -> int:
        """A new link. One that asks the birth date brings no temporary password: its mail may reach a stranger."""
        link_id = new_id()
        self._links.append(
            {
                "society": society.id,
                "id": link_id,
                "purpose": LinkPurpose.REISSUE.value,
                "address": account.address,
                "address_key": account.address_key,
                "member_id": account.member_id,
                "kid": self.ctx.ring.active(self.now).kid,
                "format": society.reissue.temporary_password if letter == _LINK else None,
                "asks": BIRTH_DATE if letter == _STALE else None,
                "created_at": self.now,
                "expires_at": self.now + society.links.reissue_minutes * MINUTE_MS,
            }
        )
        return link_id

    async def write(self, tx: AsyncConnection) -> int:
        """The number of mails."""
        if self._paper:
            hits = [Hit(society, _PAPER, key, Limits(hour=1)) for society, key, _ in self._paper]
            allowed = await ratelimit.hit(tx, hits, self.now)
            for (society, _, text), fresh in zip(self._paper, allowed, strict=True):
                if fresh:
                    self._mails.append(NewMail(society, _PAPER, Lane.REISSUE, text))
        if self._links:
            await tx.execute(insert(link), self._links)
        await outbox.put(tx, self._mails, self.now, self.ctx.host)
        return len(self._mails)


async def _accounts(tx: AsyncConnection, keys: list[tuple[str, str]]) -> dict[tuple[str, str], list[Any]]:
    """(society, address key) -> the registered members who proved it."""
    if not keys:
        return {}
    a, m = address_table.c, member.c
    person = (m.left_on, m.protected, m.registered_at, m.last_login_at, m.sealed)
    proved = (func.max(a.proved_at).label("proved_at"), func.max(a.unreachable_at).label("unreachable_at"))
    statement = (
        select(a.society, a.member_id, a.address_key, func.min(a.address).label("address"), *proved, *person)
        .join(member, (m.society == a.society) & (m.id == a.member_id))
        .where(among(a.society, a.address_key), m.state == "registered")
        .group_by(a.society, a.member_id, a.address_key, *person)
        .order_by(a.society, a.member_id)
    )
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in await tx.execute(statement, values(keys)):
        found[row.society, row.address_key].append(row)
    return found


async def _history(tx: AsyncConnection, accounts: dict[tuple[str, str], list[Any]], now: int) -> _History:
    members = sorted({(row.society, row.member_id) for rows in accounts.values() for row in rows})
    history = _History(Counter(), Counter(), defaultdict(list))
    if not members:
        return history
    o, a = outbox_table.c, address_table.c
    letters = sorted({letter for some in _COUNTED.values() for letter in some})
    mails = (
        select(o.society, o.member_id, o.letter, func.count())
        .where(among(o.society, o.member_id), o.letter.in_(letters), o.created_at > now - HOUR_MS)
        .group_by(o.society, o.member_id, o.letter)
    )
    for society, member_id, letter, count in await tx.execute(mails, values(members)):
        history.mailed[society, member_id, letter] = count
    worn = (
        select(link.c.society, link.c.member_id, func.count())
        .where(
            among(link.c.society, link.c.member_id),
            link.c.asks == BIRTH_DATE,
            link.c.failures >= WRONG_BIRTH_DATES,
            link.c.created_at > now - WORN_DAYS * DAY_MS,
        )
        .group_by(link.c.society, link.c.member_id)
    )
    for society, member_id, count in await tx.execute(worn, values(members)):
        history.worn[society, member_id] = count
    reached = (among(a.society, a.member_id), a.unreachable_at.is_(None))
    theirs = select(a.society, a.member_id, a.address, a.address_key).where(*reached)
    for society, member_id, text, key in await tx.execute(theirs.order_by(a.slot), values(members)):
        history.addresses[society, member_id].append((text, key))
    return history
