"""The durable queue of mails to be sent. A row holds facts and ids, never a secret or a rendered mail.

A row is its own lease: `claim` counts the attempt and moves `next_attempt_at` past the attempt's end, so a row whose
courier died comes back by itself; `settle` names the attempt, so a late word about an older attempt changes nothing.
Functions never commit. Times are milliseconds since 1970 UTC.
"""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, bindparam, case, exists, func, literal_column, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.delivery import policy
from mailbot.delivery.mails import Cancelled, ClaimedMail, Expired, Held, NewMail, PutBack, Result, Settlement
from mailbot.delivery.policy import Lane, MailState
from mailbot.mail.causes import Cause
from mailbot.mail.status import Outcome, OutcomeKind
from mailbot.store.bulk import Bulk
from mailbot.store.engine import insert, new_id
from mailbot.store.keys import among, values
from mailbot.store.tables import attempt, outbox, society_state
from mailbot.store.wakeup import announce

__all__ = [
    "Cancelled",
    "ClaimedMail",
    "Expired",
    "Held",
    "Lane",
    "MailState",
    "NewMail",
    "PutBack",
    "Settlement",
    "cancel",
    "claim",
    "hold",
    "list_mails",
    "put",
    "release",
    "retry",
    "settle",
    "show",
    "status",
]

UNCONFIRMED = "unconfirmed"
"""Reason of a row whose relay took the whole message and never answered: it may have arrived."""

BOUNCED = "bounced"
"""`attempt.outcome` of a report that came later; with the cause behind it, the reason of the mail that failed by it."""

REFUSED = "refused"
"""With the cause behind it: reason of a mail that the relay refused for good."""

ALL = ""
"""Row of `society_state` that stands for every society."""

_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_LANES = tuple(Lane)
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


_PUT = Bulk(any=outbox.insert())
_ATTEMPTED = Bulk(any=attempt.insert())


def message_id(mail_id: int, host: str) -> str:
    """Message-ID of every attempt (RFC 5322 section 3.6.4): the row's id, and 40 bits that only a receiver has seen."""
    letters = "".join(_ID_LETTERS[mail_id >> shift & 31] for shift in range(60, -1, -5))
    return f"<{letters}.{secrets.token_hex(5)}@{host}>"


async def put(tx: AsyncConnection, mails: Sequence[NewMail], now: int, host: str) -> list[int | None]:
    """Queues mails. Their ids in order; None where a mail with the same dedupe key was there before."""
    rows: list[dict[str, Any]] = []
    for mail in mails:
        mail_id = new_id()
        rows.append(
            {
                "society": mail.society,
                "id": mail_id,
                "letter": mail.letter,
                "lane": int(mail.lane),
                "recipient": mail.recipient,
                "member_id": mail.member_id,
                "link_id": mail.link_id,
                "facts": _json(dict(mail.facts)) if mail.facts else "{}",
                "message_id": message_id(mail_id, host),
                "in_reply_to": mail.in_reply_to,
                "dedupe_key": mail.dedupe_key,
                "state": MailState.QUEUED.value,
                "attempts": 0,
                "created_at": now,
                "next_attempt_at": now if mail.not_before is None else max(now, mail.not_before),
                "deadline_at": mail.deadline_at,
            }
        )
    dropped: set[int] = set()
    if plain := [row for row in rows if row["dedupe_key"] is None]:
        await _PUT.run(tx, plain)
    if keyed := [row for row in rows if row["dedupe_key"] is not None]:
        statement = insert(tx)(outbox).on_conflict_do_nothing(index_elements=["society", "dedupe_key"])
        kept = set((await tx.execute(statement.returning(outbox.c.id), keyed)).scalars())
        dropped = {row["id"] for row in keyed} - kept
    if rows:
        await announce(tx, "outbox")
    return [None if row["id"] in dropped else row["id"] for row in rows]


# A literal, not a parameter: only then may both databases use the index of queued rows.
_QUEUED = outbox.c.state == literal_column(f"'{MailState.QUEUED}'")
_KEY = tuple_(outbox.c.society, outbox.c.id)

_CLAIMED = (
    outbox.c.society,
    outbox.c.id,
    outbox.c.letter,
    outbox.c.lane,
    outbox.c.recipient,
    outbox.c.member_id,
    outbox.c.link_id,
    outbox.c.facts,
    outbox.c.message_id,
    outbox.c.in_reply_to,
    outbox.c.attempts,
    outbox.c.created_at,
    outbox.c.deadline_at,
    outbox.c.next_attempt_at,
    outbox.c.reason,
)

_CLAIM = (
    update(outbox)
    .where(
        _KEY.in_(
            select(outbox.c.society, outbox.c.id)
            .where(
                _QUEUED,
                outbox.c.next_attempt_at <= bindparam("now"),
                outbox.c.society.not_in(
                    select(society_state.c.society)
                    .where(or_(society_state.c.paused_at.is_not(None), society_state.c.mails_held_at.is_not(None)))
                    .scalar_subquery()
                ),
                ~exists().where(society_state.c.society == ALL, society_state.c.mails_held_at.is_not(None)),
            )
            .order_by(outbox.c.lane, outbox.c.next_attempt_at)
            .limit(bindparam("n"))
            .with_for_update(skip_locked=True, of=outbox)
        )
    )
    .values(
        attempts=outbox.c.attempts + 1,
        next_attempt_at=case((outbox.c.lane == int(Lane.PIN), bindparam("pin_until")), else_=bindparam("until")),
    )
    .returning(*_CLAIMED)
)


async def claim(tx: AsyncConnection, now: int, n: int) -> list[ClaimedMail]:
    """Leases up to `n` due mails, the most urgent lane first. No two claimers ever get the same row.

    Mails past their end are among them, to be settled as `Expired`; mails of paused societies are not, nor mails that
    staff hold back by society or all together.
    """
    limits = {
        "pin_until": now + policy.PIN_ATTEMPT_MS + policy.LEASE_SLACK_MS,
        "until": now + policy.ATTEMPT_MS + policy.LEASE_SLACK_MS,
    }
    rows = (await tx.execute(_CLAIM, {"now": now, "n": n, **limits})).all()
    claimed = [_claimed(row) for row in rows]
    claimed.sort(key=lambda mail: (mail.lane, mail.created_at))
    return claimed


def _claimed(row: Any) -> ClaimedMail:
    return ClaimedMail(
        row[0], row[1], row[2], _LANES[row[3]], row[4], row[5], row[6], json.loads(row[7]), row[8], row[9], row[10],
        row[11], row[12], row[13], row[14] == UNCONFIRMED,
    )  # fmt: skip


_SETTLE = Bulk(
    any=update(outbox)
    .where(
        outbox.c.society == bindparam("s"), outbox.c.id == bindparam("i"), outbox.c.attempts == bindparam("n"), _QUEUED
    )
    .values({name: bindparam(name) for name in ("state", "reason", "next_attempt_at", "settled_at")})
)


_SETTLED = select(outbox.c.society, outbox.c.id, outbox.c.attempts, outbox.c.state, outbox.c.next_attempt_at).where(
    among(outbox.c.society, outbox.c.id)
)


_AGAIN = frozenset({OutcomeKind.DEFERRED, OutcomeKind.UNKNOWN})
_TRIED = (
    select(attempt.c.society, attempt.c.outbox_id, func.count())
    .where(among(attempt.c.society, attempt.c.outbox_id))
    .group_by(attempt.c.society, attempt.c.outbox_id)
)


async def settle(
    tx: AsyncConnection, settlements: Sequence[Settlement], now: int
) -> list[tuple[ClaimedMail, MailState]]:
    """Writes what became of claimed mails: end states, next attempts, and the relay's words about each attempt.

    Returns those that still counted, with their new state: words about an attempt that is no longer the row's last,
    or about a row that staff ended meanwhile, change nothing.
    """
    unique = {(one.mail.society, one.mail.id): one for one in settlements}
    if not unique:
        return []
    tries = await _tries(tx, unique)
    rows = {key: _resolve(one.mail, one.outcome, tries.get(key, 0) + 1, now) for key, one in sorted(unique.items())}
    changed = await _SETTLE.run(
        tx, [{"s": key[0], "i": key[1], "n": unique[key].mail.attempts, **row} for key, row in rows.items()]
    )
    if changed.rowcount != len(rows):
        found = await tx.execute(_SETTLED, values(list(rows)))
        written = {(row[0], row[1]): (row[2], row[3], row[4]) for row in found}
        rows = {
            key: row
            for key, row in rows.items()
            if written.get(key) == (unique[key].mail.attempts, row["state"], row["next_attempt_at"])
        }
    attempts = [_attempt(unique[key], now) for key in rows if isinstance(unique[key].outcome, Outcome)]
    if attempts:
        await _ATTEMPTED.run(tx, attempts)
    return [(unique[key].mail, row["state"]) for key, row in rows.items()]


def _attempt(settlement: Settlement, now: int) -> dict[str, Any]:
    mail, outcome = settlement.mail, settlement.outcome
    assert isinstance(outcome, Outcome)
    return {
        "society": mail.society,
        "outbox_id": mail.id,
        "number": mail.attempts,
        "at": now,
        "outcome": outcome.kind.value,
        "relay_reply": f"{outcome.relay}: {outcome.status}".removeprefix(": "),
    }


async def _tries(tx: AsyncConnection, settlements: Mapping[tuple[str, int], Settlement]) -> dict[tuple[str, int], int]:
    """How often mails that are put off now were refused before: claims that came to nothing lengthen no wait."""
    keys = [
        key
        for key, one in settlements.items()
        if one.mail.attempts > 1 and isinstance(one.outcome, Outcome) and one.outcome.kind in _AGAIN
    ]
    if not keys:
        return {}
    found = await tx.execute(_TRIED, values(keys))
    return {(row[0], row[1]): row[2] for row in found}


def _resolve(mail: ClaimedMail, outcome: Result, tries: int, now: int) -> dict[str, Any]:
    """The columns that a settlement changes."""
    match outcome:
        case Outcome(kind=OutcomeKind.DELIVERED):
            return _end(MailState.DELIVERED, None, now)
        case Outcome(kind=OutcomeKind.FAILED, cause=cause):
            return _end(MailState.FAILED, f"{REFUSED}-{cause or Cause.OTHER}", now)
        case Outcome(kind=OutcomeKind.UNKNOWN) if mail.unconfirmed:
            # One more try was made already; a third copy would be a nuisance, so staff look at the relay's log.
            return _end(MailState.FAILED, UNCONFIRMED, now)
        case Outcome(kind=kind):
            unconfirmed = mail.unconfirmed or kind is OutcomeKind.UNKNOWN
            factor = random.uniform(1 - policy.SPREAD, 1 + policy.SPREAD)
            at = policy.next_attempt_at(mail.lane, tries, mail.created_at, mail.deadline_at, now, factor)
            if at is None:
                return _end(MailState.EXPIRED, UNCONFIRMED if unconfirmed else "deadline", now)
            return _again(at, UNCONFIRMED if unconfirmed else None)
        case PutBack(at=at):
            return _again(at, UNCONFIRMED if mail.unconfirmed else None)
        case Expired(reason=reason):
            return _end(MailState.EXPIRED, reason, now)
        case Cancelled(reason=reason):
            return _end(MailState.CANCELLED, reason, now)
        case Held(reason=reason):
            return {**_end(MailState.HELD, reason, now), "settled_at": None}


def _end(state: MailState, reason: str | None, now: int) -> dict[str, Any]:
    return {"state": state, "reason": reason and reason[:60], "next_attempt_at": now, "settled_at": now}


def _again(at: int, reason: str | None) -> dict[str, Any]:
    return {"state": MailState.QUEUED, "reason": reason, "next_attempt_at": at, "settled_at": None}


def _bounced(*states: MailState) -> Any:
    return outbox.c.state.in_([state.value for state in states])


_told = exists().where(
    attempt.c.society == outbox.c.society, attempt.c.outbox_id == outbox.c.id, attempt.c.number == outbox.c.attempts
)
"""What became of the attempt under way is known already."""

_BOUNCE = (
    update(outbox)
    .where(
        outbox.c.society == bindparam("s"),
        outbox.c.id == bindparam("i"),
        or_(
            _bounced(MailState.DELIVERED),
            and_(_bounced(MailState.FAILED, MailState.EXPIRED), outbox.c.reason == UNCONFIRMED),
            # a report faster than `settle`; after `retry` the copy it is about is not the one that waits
            and_(
                _bounced(MailState.QUEUED),
                outbox.c.attempts > 0,
                or_(
                    and_(outbox.c.next_attempt_at > bindparam("at"), ~_told),
                    outbox.c.reason == UNCONFIRMED,
                ),
            ),
            # on the wire while staff ended it
            and_(
                _bounced(MailState.CANCELLED, MailState.HELD),
                outbox.c.attempts > 0,
                func.coalesce(outbox.c.reason, "").not_like(f"{BOUNCED}-%"),
            ),
        ),
        func.coalesce(outbox.c.settled_at, outbox.c.created_at) >= bindparam("since"),
    )
    .values(
        state=case(
            (_bounced(MailState.EXPIRED, MailState.CANCELLED, MailState.HELD), outbox.c.state),
            else_=MailState.FAILED.value,
        ),
        settled_at=case((_bounced(MailState.HELD), outbox.c.settled_at), else_=bindparam("at")),
        attempts=outbox.c.attempts + 1,
        reason=bindparam("why"),
    )
    .returning(*_CLAIMED, outbox.c.state)
)


async def bounce(
    tx: AsyncConnection, society: str, mail_id: int, cause: Cause, words: str, since: int, now: int
) -> tuple[ClaimedMail, MailState] | None:
    """A mail that the relay took at `since` or later did not arrive after all: it has failed by `cause`, and `words`
    stand beside its attempts. One that had ended in another way, or is held, keeps its state.

    None where there is none, or another report said so before.
    """
    which = {"s": society, "i": mail_id, "since": since, "at": now, "why": f"{BOUNCED}-{cause}"}
    row = (await tx.execute(_BOUNCE, which)).one_or_none()
    if row is None:
        return None
    mail = _claimed(row)
    tried = {"society": society, "outbox_id": mail_id, "number": mail.attempts, "at": now}
    await _ATTEMPTED.run(tx, [{**tried, "outcome": BOUNCED, "relay_reply": words}])
    return mail, MailState(row[-1])


# What staff see and do. A mail that is on the wire when it is cancelled or held may still arrive: the relay has it.


async def status(tx: AsyncConnection) -> Sequence[Any]:
    """Rows (society, lane, state, mails, oldest): how many there are, and when the oldest of them was queued."""
    c = outbox.c
    statement = (
        select(c.society, c.lane, c.state, func.count().label("mails"), func.min(c.created_at).label("oldest"))
        .group_by(c.society, c.lane, c.state)
        .order_by(c.society, c.lane, c.state)
    )
    return (await tx.execute(statement)).all()


async def list_mails(
    tx: AsyncConnection,
    *,
    society: str | None = None,
    state: str | None = None,
    recipient: str | None = None,
    limit: int = 50,
) -> Sequence[Any]:
    """Outbox rows, newest first."""
    wanted = {"society": society, "state": state, "recipient": recipient}
    statement = select(outbox).order_by(outbox.c.created_at.desc(), outbox.c.id).limit(limit)
    for name, value in wanted.items():
        if value is not None:
            statement = statement.where(outbox.c[name] == value)
    return (await tx.execute(statement)).all()


async def show(tx: AsyncConnection, mail_id: int) -> tuple[Any, Sequence[Any]] | None:
    """The row and its attempts (number, at, outcome, relay_reply), or None."""
    row = (await tx.execute(select(outbox).where(outbox.c.id == mail_id))).one_or_none()
    if row is None:
        return None
    tries = select(attempt).where(attempt.c.society == row.society, attempt.c.outbox_id == mail_id)
    return row, (await tx.execute(tries.order_by(attempt.c.number))).all()


async def _move(
    tx: AsyncConnection,
    mail_id: int,
    origins: Sequence[MailState],
    state: MailState,
    now: int,
    reason: str | None = None,
) -> bool:
    settled_at = now if state is MailState.CANCELLED else None
    statement = (
        update(outbox)
        .where(outbox.c.id == mail_id, outbox.c.state.in_(origins))
        .values(state=state, reason=reason, next_attempt_at=now, settled_at=settled_at)
    )
    if state is MailState.QUEUED:
        statement = statement.where(func.coalesce(outbox.c.deadline_at, outbox.c.created_at + policy.MAX_AGE_MS) > now)
    return bool((await tx.execute(statement)).rowcount)


async def retry(tx: AsyncConnection, mail_id: int, now: int) -> bool:
    """Makes a waiting, held or given-up mail due now; False for one that was delivered or whose time has passed.

    A waiting mail that a courier holds right now may arrive twice, with the same Message-ID.
    """
    origins = (MailState.QUEUED, MailState.HELD, MailState.FAILED, MailState.EXPIRED)
    return await _move(tx, mail_id, origins, MailState.QUEUED, now)


async def cancel(tx: AsyncConnection, mail_id: int, now: int) -> bool:
    """Ends a waiting or held mail; False where it does not wait any more."""
    return await _move(tx, mail_id, (MailState.QUEUED, MailState.HELD), MailState.CANCELLED, now, "staff")


async def hold(tx: AsyncConnection, mail_id: int, now: int) -> bool:
    """Keeps a waiting mail back until `release`."""
    return await _move(tx, mail_id, (MailState.QUEUED,), MailState.HELD, now, "staff")


async def release(tx: AsyncConnection, mail_id: int, now: int) -> bool:
    """Lets a held mail go; False where it is not held or its time has passed."""
    return await _move(tx, mail_id, (MailState.HELD,), MailState.QUEUED, now)
