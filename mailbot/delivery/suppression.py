"""Addresses that mail did not reach, one row a cause, and which letters they still get. Functions never commit.

A row says why, who said so and when last. What it means for a letter is one table: cause, lane -> send, wait or never.
Times are milliseconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.delivery.policy import Lane
from mailbot.mail.address import Address, stored
from mailbot.mail.causes import Cause, perhaps_refused
from mailbot.store.engine import insert
from mailbot.store.keys import among, values
from mailbot.store.tables import suppression

REST_MS = 24 * 3_600_000
"""How long a mailbox that was full or closed gets no mail that can wait."""
MAX_WORDS = 300

Key = tuple[str, str]
"""(society, address key)."""


class Source(StrEnum):
    """Who said it."""

    RELAY = "relay"
    REPORT = "report"
    FEEDBACK = "feedback"
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class Note:
    """That mail did not reach an address. `outbox_id`: the mail that told, None where staff said so."""

    society: str
    address: Address
    cause: Cause
    source: Source
    words: str
    outbox_id: int | None = None

    @property
    def key(self) -> Key:
        return self.society, self.address.key


class Fate(Enum):
    """What becomes of a letter to such an address."""

    SEND = "send"
    WAIT = "wait"
    NEVER = "never"


_SENT = dict.fromkeys(Lane, Fate.SEND)
_PATIENT = {**_SENT, Lane.COMPLETION: Fate.WAIT, Lane.BULK: Fate.WAIT}
FATES: dict[Cause, dict[Lane, Fate]] = {
    Cause.UNKNOWN_USER: dict.fromkeys(Lane, Fate.NEVER),
    Cause.DISABLED: _PATIENT,
    Cause.FULL: _PATIENT,
    Cause.FILTERED: _SENT,  # known, so that the letter can be one that passes
    Cause.COMPLAINT: {**_SENT, Lane.BULK: Fate.NEVER},
}
"""Causes that are kept; the others say nothing about the address."""

KEPT = frozenset(FATES)

Known = Mapping[Cause, int]
"""What is known of an address: each cause, and when it was last heard."""


def fate(known: Known, lane: Lane, now: int) -> Fate:
    """What becomes of a letter in this lane at `now`: the strictest of what each cause says."""
    found = {FATES[cause][lane] for cause in known}
    if Fate.NEVER in found:
        return Fate.NEVER
    return Fate.WAIT if now < waits_until(known, lane) else Fate.SEND


def waits_until(known: Known, lane: Lane) -> int:
    """When a letter in this lane that waits may be sent, 0 where none has to."""
    return max((last + REST_MS for cause, last in known.items() if FATES[cause][lane] is Fate.WAIT), default=0)


async def note(tx: AsyncConnection, notes: Sequence[Note], now: int) -> None:
    """Writes what was learnt; causes that say nothing about the address are passed by."""
    kept = {(*one.key, one.cause.value): one for one in notes if one.cause in KEPT}
    for (society, key, cause), one in sorted(kept.items(), key=lambda item: item[0]):  # in order, for rows are locks
        given: dict[str, Any] = {
            "address": one.address.text,
            "source": one.source.value,
            "outbox_id": one.outbox_id,
            "words": one.words[:MAX_WORDS],
            "last_at": now,
        }
        row = insert(tx)(suppression).values(
            society=society, address_key=key, cause=cause, count=1, first_at=now, **given
        )
        index = ["society", "address_key", "cause"]
        set_ = {**given, "count": suppression.c.count + 1}
        await tx.execute(row.on_conflict_do_update(index_elements=index, set_=set_))


_CAUSES = select(
    suppression.c.society, suppression.c.address_key, suppression.c.cause, suppression.c.last_at
).where(among(suppression.c.society, suppression.c.address_key))


async def causes(tx: AsyncConnection, keys: Collection[Key]) -> dict[Key, Known]:
    """What is known of these addresses, where there is anything, in one statement."""
    if not keys:
        return {}
    known: dict[Key, dict[Cause, int]] = {}
    for society, key, cause, last in await tx.execute(_CAUSES, values(keys)):
        known.setdefault((society, key), {})[Cause(cause)] = last
    return {**known}


DISPROVED = frozenset({Cause.UNKNOWN_USER, Cause.DISABLED, Cause.FULL})
"""What a mail that came from the address, and was proved to, shows to be over."""


async def disprove(tx: AsyncConnection, known: Mapping[Key, Known]) -> set[Key]:
    """The owners of these addresses (`known`: what `causes` says) wrote from them, so there are mailboxes: `DISPROVED`
    is forgotten. What may as well have been the member's refusal list was it, and becomes `filtered` -> these keys."""
    over = {key for key, what in known.items() if not DISPROVED.isdisjoint(what)}
    perhaps = {key for key in over if any(perhaps_refused(cause, key[1].rpartition("@")[2]) for cause in known[key])}
    c, lists = suppression.c, set[Key]()
    for mine in _of({key for key in perhaps if Cause.FILTERED not in known[key]}, (Cause.UNKNOWN_USER,)):
        heard = mine & (c.source != Source.STAFF.value)  # a stop by staff says nothing about the mailbox
        turned = update(suppression).where(heard).values(cause=Cause.FILTERED.value)
        lists |= {(row[0], row[1]) for row in await tx.execute(turned.returning(c.society, c.address_key))}
    await clear(tx, over, DISPROVED)
    return lists


async def clear(tx: AsyncConnection, keys: Collection[Key], causes: Collection[Cause] = KEPT) -> int:
    """Forgets these causes of these addresses, one statement a society -> how many rows that were."""
    return sum([(await tx.execute(delete(suppression).where(mine))).rowcount for mine in _of(keys, causes)])


def _of(keys: Collection[Key], causes: Collection[Cause]) -> list[ColumnElement[bool]]:
    """Rows of these addresses with one of these causes, a condition for each society."""
    c = suppression.c
    return [
        and_(
            c.society == society,
            c.address_key.in_(sorted({key for one, key in keys if one == society})),
            c.cause.in_([cause.value for cause in causes]),
        )
        for society in sorted({society for society, _ in keys})
    ]


async def rows(
    tx: AsyncConnection, *, society: str | None = None, cause: Cause | None = None, limit: int = 50
) -> Sequence[Any]:
    """Rows for staff, the latest first."""
    statement = select(suppression).order_by(suppression.c.last_at.desc(), *suppression.primary_key).limit(limit)
    if society is not None:
        statement = statement.where(suppression.c.society == society)
    if cause is not None:
        statement = statement.where(suppression.c.cause == cause.value)
    return (await tx.execute(statement)).all()


def key_of(text: str) -> str:
    """The key of an address as the database holds it."""
    return stored(text).key
