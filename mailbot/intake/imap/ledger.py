"""What became of every mail of a watched folder: one row a UID, and no mark below which all is thought to be done.

Mails are also told apart by their inbox key, so a ledger that lost its numbers (UIDVALIDITY changed, a robot died
between answering and writing) costs a look at the mail and never a second answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.intake.imap.wire import Selected
from mailbot.store.engine import insert
from mailbot.store.keys import among, values
from mailbot.store.tables import imap_folder, imap_message, imap_trouble, inbox

HOUR_MS = 3_600_000
RENUMBERED_MS = 3 * HOUR_MS
"""After a change of UIDVALIDITY only mails as fresh as this are answered: what is older most likely was."""
CHUNK = 500
TO_LEARN = 0
"""`uid_next` of a folder that is to be read from its beginning at the next look."""


class State(StrEnum):
    WAITING = "waiting"  # to be tried again: the answer was 4xx
    TAKEN = "taken"  # committed; still to be marked and moved
    FILED = "filed"
    IGNORED = "ignored"  # not handed to reception
    GONE = "gone"  # deleted or moved by somebody before it could be read


class Why(StrEnum):
    """Reasons of the ledger itself; those of taken mails are the funnel's."""

    TOO_OLD = "too-old"
    RENUMBERED = "renumbered"
    HISTORY = "history"
    REFUSED = "refused"


TOLD = (Why.TOO_OLD, Why.RENUMBERED, Why.REFUSED)
"""Of these staff are told: a person may wait for an answer."""


@dataclass(frozen=True, slots=True)
class Folder:
    """What is known of a folder. Mails below `uid_next` were there when its numbers were learnt: they are looked at
    from `first_uid` on, history if they came before `since`, and answered if after `answer_from`. Times are ms.

    `answer_from` is later than `since` once UIDVALIDITY changed, for good: what the server calls fresh may be old."""

    uidvalidity: int
    first_uid: int
    uid_next: int
    answer_from: int | None
    since: int

    @property
    def renumbered(self) -> bool:
        return self.answer_from is not None and self.answer_from > self.since


class Learnt(StrEnum):
    KNOWN = "known"
    BASELINE = "baseline"
    RENUMBERED = "renumbered"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. `at`: when it was last tried, or ended."""

    uid: int
    state: State
    reason: str = ""
    society: str | None = None
    key: bytes | None = None
    address: str | None = None
    arrived_at: int | None = None
    tries: int = 0
    at: int = 0


class Ledger:
    """The rows of one mailbox. Every method runs in the caller's transaction."""

    def __init__(self, mailbox: str) -> None:
        self._mailbox = mailbox

    async def learn(
        self, tx: AsyncConnection, place: str, seen: Selected, uid_next: int, now: int
    ) -> tuple[Folder, Learnt]:
        """The folder as it stands in the ledger, after entering what the server says of it now."""
        row = (await tx.execute(select(imap_folder).where(imap_folder.c.mailbox == self._mailbox))).first()
        if row is not None and row.place == place:
            known = Folder(row.uidvalidity, row.first_uid, row.uid_next or uid_next, row.answer_from, row.since)
            if known.uidvalidity == seen.uidvalidity:
                if seen.uid_next is not None:  # one that went back is of a restored folder
                    first, following = min(known.first_uid, seen.uid_next), min(known.uid_next, seen.uid_next)
                    known = replace(known, first_uid=first, uid_next=following)
                mine = imap_folder.c.mailbox == self._mailbox
                numbers = {"first_uid": known.first_uid, "uid_next": known.uid_next, "seen_at": now}
                await tx.execute(update(imap_folder).where(mine).values(numbers))
                return known, Learnt.KNOWN
            fresh = max(known.since + 1, now - RENUMBERED_MS)
            folder, learnt = Folder(seen.uidvalidity, 1, uid_next, fresh, known.since), Learnt.RENUMBERED
        else:
            folder, learnt = Folder(seen.uidvalidity, uid_next, uid_next, None, now), Learnt.BASELINE
            # numbers of another place; UIDVALIDITY may be the same there
            await tx.execute(delete(imap_message).where(imap_message.c.mailbox == self._mailbox))
        facts = {
            "place": place,
            "uidvalidity": folder.uidvalidity,
            "first_uid": folder.first_uid,
            "uid_next": folder.uid_next,
            "answer_from": folder.answer_from,
            "since": folder.since,
            "seen_at": now,
        }
        new = insert(tx)(imap_folder).values(mailbox=self._mailbox, **facts)
        await tx.execute(new.on_conflict_do_update(index_elements=["mailbox"], set_=facts))
        return folder, learnt

    async def unanswered(self, tx: AsyncConnection, place: str) -> tuple[int, int]:
        """How many mails have no answer yet and are forgotten when the mailbox is learnt at `place`, and when the
        oldest of them arrived."""
        c, folder = imap_message.c, imap_folder.c
        elsewhere = select(folder.mailbox).where(folder.mailbox == self._mailbox, folder.place != place)
        told = (c.state == State.IGNORED.value) & c.reason.in_([one.value for one in TOLD])
        left = c.mailbox.in_(elsewhere) & ((c.state == State.WAITING.value) | told)
        found = select(func.count(), func.min(func.coalesce(c.arrived_at, c.at))).where(left)
        count, oldest = (await tx.execute(found)).one()
        return count, oldest or 0

    async def touch(self, tx: AsyncConnection, now: int) -> bool:
        """Notes that the folder was looked at. False where staff asked for it to be read from its beginning."""
        row = update(imap_folder).where(imap_folder.c.mailbox == self._mailbox).values(seen_at=now)
        return bool(await tx.scalar(row.returning(imap_folder.c.uid_next)))

    async def trouble(self, tx: AsyncConnection, words: str, now: int) -> None:
        """Notes what keeps the robot out, of a folder that was never opened too."""
        facts = {"at": now, "words": words}
        new = insert(tx)(imap_trouble).values(mailbox=self._mailbox, **facts)
        await tx.execute(new.on_conflict_do_update(index_elements=["mailbox"], set_=facts))

    async def entries(self, tx: AsyncConnection, uidvalidity: int) -> list[Entry]:
        c = imap_message.c
        columns = (c.uid, c.state, c.reason, c.arrived_at, c.tries, c.at)
        found = await tx.execute(select(*columns).where(c.mailbox == self._mailbox, c.uidvalidity == uidvalidity))
        return [
            Entry(row.uid, State(row.state), row.reason or "", arrived_at=row.arrived_at, tries=row.tries, at=row.at)
            for row in found
        ]

    async def write(self, tx: AsyncConnection, uidvalidity: int, entries: Sequence[Entry]) -> None:
        """Enters rows, or what became of them."""
        new = insert(tx)(imap_message).values(
            [
                {
                    "mailbox": self._mailbox,
                    "uidvalidity": uidvalidity,
                    "uid": one.uid,
                    "state": one.state.value,
                    "reason": one.reason or None,
                    "society": one.society,
                    "inbox_key": one.key,
                    "address": one.address,
                    "arrived_at": one.arrived_at,
                    "tries": one.tries,
                    "at": one.at,
                }
                for one in entries
            ]
        )
        names = ("state", "reason", "society", "inbox_key", "address", "tries", "at")
        changes = {name: new.excluded[name] for name in names}
        # a mail that could not be read at first, or is gone by now, came in when it came in
        changes["arrived_at"] = func.coalesce(new.excluded.arrived_at, imap_message.c.arrived_at)
        await tx.execute(new.on_conflict_do_update(index_elements=["mailbox", "uidvalidity", "uid"], set_=changes))

    async def gone(self, tx: AsyncConnection, uidvalidity: int, uids: Collection[int], now: int) -> None:
        """Waiting mails that are in the folder no more."""
        c = imap_message.c
        mine = (c.mailbox == self._mailbox) & (c.uidvalidity == uidvalidity) & c.uid.in_(uids)
        row = {"state": State.GONE.value, "reason": None, "address": None, "at": now}
        await tx.execute(update(imap_message).where(mine).values(row))

    async def filed(self, tx: AsyncConnection, uidvalidity: int, uids: Collection[int], now: int) -> None:
        c = imap_message.c
        mine = (c.mailbox == self._mailbox) & (c.uidvalidity == uidvalidity) & c.uid.in_(uids)
        await tx.execute(
            update(imap_message).where(mine, c.state == State.TAKEN.value).values(state=State.FILED.value, at=now)
        )

    async def purge(self, tx: AsyncConnection, uidvalidity: int, present: Collection[int], before: int) -> list[int]:
        """Forgets up to 500 mails that ended before `before` and are in the folder no more -> their UIDs. One that is
        still there keeps its row, or it would be taken for a new one."""
        c = imap_message.c
        over = (c.mailbox == self._mailbox) & (c.at < before)
        await tx.execute(delete(imap_message).where(over, c.uidvalidity != uidvalidity))
        found = await tx.scalars(
            select(c.uid).where(over, c.uidvalidity == uidvalidity, c.state != State.WAITING.value)
        )
        gone = [uid for uid in found if uid not in present][:CHUNK]
        if gone:
            mine = (c.mailbox == self._mailbox) & (c.uidvalidity == uidvalidity)
            await tx.execute(delete(imap_message).where(mine, c.uid.in_(gone)))
        return gone


async def settled(tx: AsyncConnection, keys: Collection[tuple[str, bytes]]) -> Mapping[tuple[str, bytes], str]:
    """(society, inbox key) -> the reason of a mail that was taken over, by whatever way it came."""
    if not keys:
        return {}
    c = inbox.c
    found = await tx.execute(
        select(c.society, c.inbox_key, c.reason).where(among(c.society, c.inbox_key)), values(keys)
    )
    return {(row.society, bytes(row.inbox_key)): row.reason for row in found}


async def overview(tx: AsyncConnection) -> list[dict[str, object]]:
    """Every mailbox the ledger knows, with its counts."""
    c = imap_message.c
    counted = await tx.execute(
        select(c.mailbox, c.state, c.reason, func.count()).group_by(c.mailbox, c.state, c.reason)
    )
    waiting: dict[str, int] = {}
    ignored: dict[str, int] = {}
    for mailbox, state, reason, count in counted:
        if state == State.WAITING:
            waiting[mailbox] = waiting.get(mailbox, 0) + count
        elif state == State.IGNORED and reason in TOLD:
            ignored[mailbox] = ignored.get(mailbox, 0) + count
    return [
        {
            "mailbox": row.mailbox,
            "place": row.place,
            "since_at": row.since,
            "seen_at": row.seen_at,
            "waiting": waiting.get(row.mailbox, 0),
            "ignored": ignored.get(row.mailbox, 0),
        }
        for row in await tx.execute(select(imap_folder).order_by(imap_folder.c.mailbox))
    ]


async def troubles(tx: AsyncConnection) -> dict[str, tuple[int, str]]:
    """Mailbox -> (when, words) of the last trouble that staff were told of; a later look ends it."""
    return {row.mailbox: (row.at, row.words) for row in await tx.execute(select(imap_trouble))}


async def listed(tx: AsyncConnection, *, ignored: bool) -> list[dict[str, object]]:
    """Mails that wait, or those that were not answered because they were too old; newest first."""
    c = imap_message.c
    wanted = c.state == State.WAITING.value
    if ignored:
        wanted = (c.state == State.IGNORED.value) & c.reason.in_([one.value for one in TOLD])
    found = await tx.execute(select(imap_message).where(wanted).order_by(c.arrived_at.desc(), c.uid.desc()))
    return [
        {
            "mailbox": row.mailbox,
            "uid": row.uid,
            "arrived_at": row.arrived_at,
            "from": row.address,
            "society": row.society,
            "reason": row.reason,
            "tries": row.tries,
            "last_at": row.at,
        }
        for row in found
    ]


async def rescan(tx: AsyncConnection, mailbox: str, since: int) -> bool:
    """Makes the folder be read from its first mail again: those that arrived from `since` on are answered, ignored ones
    too, and answered ones never twice. False where the mailbox is not known yet."""
    c, folder = imap_message.c, imap_folder.c
    begun = update(imap_folder).where(folder.mailbox == mailbox)
    renumbered = case((folder.answer_from > folder.since, since - 1), else_=since)
    done = await tx.execute(begun.values(first_uid=1, uid_next=TO_LEARN, since=renumbered, answer_from=since))
    ignored = (c.mailbox == mailbox) & (c.state == State.IGNORED.value) & (c.arrived_at >= since)
    await tx.execute(delete(imap_message).where(ignored))
    return bool(done.rowcount)
