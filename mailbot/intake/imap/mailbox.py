"""One watched folder: learns its numbers, takes in what has come, idles, and begins anew whatever happens.

A mail's way: fetched, handed to reception, and only when that has committed written into the ledger, marked, moved. A
robot that dies anywhere on this way finds the mail again, and the inbox key keeps it from answering twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from mailbot.config import Settings
from mailbot.config.site import ImapMailbox
from mailbot.intake.imap import client
from mailbot.intake.imap.client import Connection, Denied, Lost
from mailbot.intake.imap.ledger import CHUNK, TOLD, Entry, Learnt, Ledger, State, Why, settled
from mailbot.intake.imap.letter import Letters, written_at
from mailbot.intake.imap.memory import FIRST_RETRY_MS, Memory, retry_at
from mailbot.intake.imap.patience import USUAL, Patience, Seen, pause
from mailbot.intake.imap.wire import Facts
from mailbot.intake.screening import Reason
from mailbot.mail.envelope import Envelope, Purpose
from mailbot.mail.status import OUTAGE, Status
from mailbot.store import Store, lease
from mailbot.store.alarms import Alarm, raise_alarm
from mailbot.store.engine import OUTAGES
from mailbot.telemetry import MAILBOX_UP, MAILBOX_WAITING, emit

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
DAY_MS = 24 * HOUR_MS


class Funnel(Protocol):
    """What is asked of `mailbot.intake.reception`."""

    async def receive(self, envelope: Envelope) -> Status: ...

    def place(self, envelope: Envelope) -> tuple[str, Purpose, bytes]: ...


class NotOurs(Exception):
    """Another robot has the lease."""


class Afresh(Exception):
    """Staff asked for the folder to be read again: no trouble, only a new session."""


@dataclass(frozen=True, slots=True)
class _Fetched:
    envelope: Envelope
    society: str
    key: bytes


class Mailbox:
    """Lifetime: one intake role."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        store: Store,
        funnel: Funnel,
        clock: Callable[[], int],
        patience: Patience = USUAL,
    ) -> None:
        self.name = name
        self._config: ImapMailbox = settings.site.imap[name]
        self._keep_ms = settings.site.retention.inbox_days * DAY_MS
        self._store = store
        self._funnel = funnel
        self._clock = clock
        self._patience = patience
        self._ledger = Ledger(name)
        legacy = frozenset(settings.site.smtp.legacy_domains)
        self._letters = Letters(name, self._config.addresses, settings.directory, legacy)
        route = settings.directory.route(*self._config.addresses[0].rpartition("@")[::2])
        self._society = route.society if route else ""
        self._holder = secrets.token_hex(8)
        self._held_until = 0
        self._failures = self._refusals = 0
        self._down_since: int | None = None
        self._idle_failures = 0
        self._poll_until = 0
        self._tidied_at = 0
        self._memory: Memory

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; never raises."""
        while not stop.is_set():
            seconds, until_changed = self._patience.beat, None
            word = Seen.now(client.secret(self._config))
            try:
                await self._hold()
                await self._session(stop)
                continue
            except NotOurs:
                pass
            except Afresh:
                continue
            except Denied as error:
                self._refusals += 1
                seconds = min(
                    self._patience.refused * (1 << min(self._refusals - 1, 9)), self._patience.refused_longest
                )
                until_changed = word
                await self._complain("refused", str(error), Alarm.IMAP_REFUSED)
            except (Lost, *OUTAGES) as error:
                seconds = await self._down(str(error))
            except Exception as error:
                emit("imap.failure", mailbox=self.name, error=error)
                seconds = await self._down(f"{type(error).__name__}: a fault of ours, see the log")
            finally:
                MAILBOX_UP.labels(self.name).set(0)
                await self._let_go()
            await pause(stop, seconds, until_changed, self._patience.beat)

    # -- lease ------------------------------------------------------------------------------------------------------

    @property
    def _lease(self) -> str:
        return f"imap/{self.name}"

    async def _hold(self) -> None:
        """Takes the lease, or makes it last. Raises NotOurs."""
        now = self._clock()
        if self._held_until - now > (self._patience.lease - self._patience.beat) * 1000:
            return
        ms = int(self._patience.lease * 1000)
        async with self._store.begin() as tx:
            if not await lease.take(tx, self._lease, self._holder, now, ms):
                raise NotOurs
        self._held_until = now + ms

    async def _let_go(self) -> None:
        if self._held_until:
            self._held_until = 0
            with self._watching_on():
                async with self._store.begin() as tx:
                    await lease.give_back(tx, self._lease, self._holder)

    @contextlib.contextmanager
    def _watching_on(self) -> Iterator[None]:
        """For one mail, and for what is done about trouble: more trouble with that, such as a database that is
        read-only for a while, must not end the watch, which nobody would begin again."""
        try:
            yield
        except OUTAGES:
            pass
        except Exception as error:
            emit("imap.failure", mailbox=self.name, error=error)

    # -- trouble ----------------------------------------------------------------------------------------------------

    async def _down(self, words: str) -> float:
        """Notes a failure -> seconds to wait."""
        self._failures += 1
        now = self._clock()
        self._down_since = self._down_since or now
        alarm = Alarm.IMAP_DOWN if now - self._down_since >= self._patience.alarm * 1000 else None
        await self._complain("lost", words, alarm)
        longest = min(self._patience.longest, 1 << min(self._failures - 1, 20))
        return longest + random.uniform(0, min(1, longest / 2))

    async def _complain(self, reason: str, words: str, alarm: Alarm | None) -> None:
        emit("imap.down", mailbox=self.name, reason=reason, words=words)
        if alarm:
            with self._watching_on():
                async with self._store.begin() as tx:
                    # the alarm is one for all mailboxes of the society, and names the last
                    await self._ledger.trouble(tx, words, self._clock())
                    await raise_alarm(tx, self._society, alarm, f"mailbox {self.name}: {words}", self._clock())

    async def _alarm(self, kind: Alarm, words: str) -> None:
        with self._watching_on():
            async with self._store.begin() as tx:
                await raise_alarm(tx, self._society, kind, f"mailbox {self.name}: {words}", self._clock())

    # -- a session --------------------------------------------------------------------------------------------------

    async def _session(self, stop: asyncio.Event) -> None:
        """From the login on, until `stop`. Raises Lost, Denied, NotOurs, Afresh and whatever the database raises."""
        connection = await Connection.open(self._config)
        try:
            await self._learn(connection)
            self._refusals = 0
            self._tidied_at = 0
            loop = asyncio.get_running_loop()
            while not stop.is_set():
                next_look = loop.time() + self._patience.between_looks
                await self._look(connection, stop)
                MAILBOX_UP.labels(self.name).set(1)
                MAILBOX_WAITING.labels(self.name).set(len(self._memory.waiting))
                await self._tidy(connection)
                if stop.is_set():
                    break
                await self._idle(connection, stop)
                await self._hold()
                await pause(stop, next_look - loop.time())
            await connection.logout()
        finally:
            connection.abort()

    async def _idle(self, connection: Connection, stop: asyncio.Event) -> None:
        """Waits for mail. A server that ends IDLE soon, twice in a row, is only asked now and then for an hour."""
        begun = self._clock()
        try:
            push = begun >= self._poll_until
            await connection.idle(self._rest(), stop, self._patience.beat, self._hold, push=push)
        except Lost:
            if self._clock() - begun >= MINUTE_MS:
                self._well()
            elif push:
                self._idle_failures += 1
                if self._idle_failures >= 2:
                    self._idle_failures, self._poll_until = 0, self._clock() + HOUR_MS
            raise
        if push:
            self._idle_failures = 0
        self._well()

    def _well(self) -> None:
        """Mail was taken in, or the connection lasted: the next failure is the first again. To have looked is not
        enough, or a server that hangs up after each look would be called every second for ever."""
        self._failures, self._down_since = 0, None

    def _rest(self) -> float:
        """Seconds until the folder is looked at again, whatever the server announces."""
        seconds = float(self._config.rest_seconds)
        if self._memory.waiting:
            first = min(retry_at(one) for one in self._memory.waiting.values())
            seconds = min(seconds, max((first - self._clock()) / 1000, 1))
        return seconds

    async def _learn(self, connection: Connection) -> None:
        config, now = self._config, self._clock()
        seen = await connection.select(config.folder)
        uid_next = seen.uid_next
        if uid_next is None:
            uid_next = max(await connection.search(1, everything=True), default=0) + 1
        host, user, name = config.place
        place = f"{user}@{host}/{name}"[:320]
        async with self._store.begin() as tx:
            left, oldest = await self._ledger.unanswered(tx, place)
            folder, learnt = await self._ledger.learn(tx, place, seen, uid_next, now)
            entries = await self._ledger.entries(tx, folder.uidvalidity)
            if learnt is Learnt.RENUMBERED:
                words = f"mailbox {self.name}: its mails have new numbers; only those of the last 3 hours are answered"
                await raise_alarm(tx, self._society, Alarm.IMAP_RENUMBERED, words, now)
            if left:
                age = max(now - oldest, 0) // HOUR_MS + 1
                words = f"mailbox {self.name}: host, user or folder is another; {left} mails of the former"
                words += " have no answer; if they are here now, "
                words += f"`mailbot imap rescan {self.name} --since {age}h` answers them"
                await raise_alarm(tx, self._society, Alarm.IMAP_MOVED, words, now)
        emit("imap.watching", mailbox=self.name, reason=learnt.value, first_uid=folder.first_uid)
        self._memory = Memory(folder)
        self._memory.recall(entries)

    async def _look(self, connection: Connection, stop: asyncio.Event) -> None:
        """Takes in everything that waits in the folder."""
        memory = self._memory
        async with self._store.begin() as tx:
            if not await self._ledger.touch(tx, self._clock()):
                raise Afresh
        while not stop.is_set():
            now = self._clock()
            there = await connection.search(memory.folder.first_uid)
            await self._miss(connection, sorted(memory.waiting.keys() - set(there)))
            resting = {uid for uid, one in memory.waiting.items() if retry_at(one) > now}
            resting |= {uid for uid, at in memory.gone.items() if at + FIRST_RETRY_MS > now}
            passed = memory.ended | resting | memory.recorded.keys()
            uids = [uid for uid in there if uid not in passed]
            if not uids:
                if await self._prove(connection, [uid for uid in there if uid in memory.recorded]):
                    continue
                break
            rest = iter(uids)
            while not stop.is_set() and (batch := list(islice(rest, self._config.batch))):
                await self._hold()
                await self._take(connection, batch)

    async def _miss(self, connection: Connection, uids: Sequence[int]) -> None:
        """Waiting mails that a search did not find: those that are not there when asked for by number are gone."""
        for start in range(0, len(uids), CHUNK):
            await self._hold()
            some = uids[start : start + CHUNK]
            there = await connection.present(some, unmarked=True)
            now, gone = self._clock(), [uid for uid in some if uid not in there]
            if gone:
                async with self._store.begin() as tx:
                    await self._ledger.gone(tx, self._memory.folder.uidvalidity, gone, now)
                self._memory.note([Entry(uid, State.GONE, at=now) for uid in gone])

    async def _prove(self, connection: Connection, uids: Sequence[int]) -> bool:
        """Whether of these numbers, which ended, some belong to other mails by now; those are to be taken. With a mark
        of our own hardly any is asked for: what is marked is not found."""
        memory, other = self._memory, set[int]()
        for start in range(0, len(uids), CHUNK):
            await self._hold()
            some = uids[start : start + CHUNK]
            facts = await connection.facts(some)
            for uid in facts.keys() & set(some):
                if memory.recorded.pop(uid) == facts[uid].arrived_at:
                    memory.ended.add(uid)
                else:
                    memory.taken.pop(uid, None)
                    other.add(uid)
        if other:
            memory.again |= other
            words = f"numbers were given again, as after a restore: {len(other)} mails are taken for new ones"
            await self._alarm(Alarm.IMAP_RENUMBERED, words)
        return bool(other)

    async def _take(self, connection: Connection, uids: Sequence[int]) -> None:
        now = self._clock()
        facts = await connection.facts(uids)
        folder = self._memory.folder
        history = [uid for uid, one in facts.items() if uid < folder.uid_next and one.arrived_at < folder.since]
        mails = await self._fetch(connection, {uid: one for uid, one in facts.items() if uid not in history}, now)
        old = {uid: why for uid, mail in mails.items() if (why := self._old(uid, facts[uid], mail, now))}
        answers = await self._receive({uid: mail for uid, mail in mails.items() if uid not in old})
        async with self._store.read() as tx:
            reasons = await settled(tx, {(mail.society, mail.key) for mail in mails.values()})
        entries = [Entry(uid, State.IGNORED, Why.HISTORY, arrived_at=facts[uid].arrived_at, at=now) for uid in history]
        for uid, mail in mails.items():
            entries.append(self._entry(uid, facts[uid], mail, old.get(uid), answers.get(uid), reasons, now))
        if missing := [uid for uid in uids if uid not in mails and uid not in history]:
            there = await connection.present(missing)
            entries += [self._again(uid, now) if uid in there else Entry(uid, State.GONE, at=now) for uid in missing]
        await self._enter(entries)
        if any(one.state in (State.TAKEN, State.IGNORED) for one in entries):
            self._well()
        await self._file(connection, entries)

    async def _fetch(self, connection: Connection, facts: Mapping[int, Facts], now: int) -> dict[int, _Fetched]:
        headers = await connection.headers(list(facts))
        mails: dict[int, _Fetched] = {}
        read = []
        for uid in facts.keys() & headers.keys():
            with self._watching_on():  # one that cannot be read waits, and is not missed by the others
                envelope = self._letters.envelope(headers[uid], b"", facts[uid], now)
                society, purpose, key = self._funnel.place(envelope)
                if purpose in (Purpose.HELP, Purpose.BOUNCE):
                    read.append(uid)
                mails[uid] = _Fetched(envelope, society, key)
        bodies = await connection.bodies(read)
        for uid in read:
            if uid not in bodies:
                del mails[uid]
                continue
            envelope = self._letters.envelope(headers[uid], bodies[uid], facts[uid], now)
            mails[uid] = _Fetched(envelope, mails[uid].society, mails[uid].key)
        return dict(sorted(mails.items()))

    def _old(self, uid: int, facts: Facts, mail: _Fetched, now: int) -> Why | None:
        """Why a mail came in too long ago to be answered."""
        folder = self._memory.folder
        answer_from = folder.answer_from if uid < folder.uid_next else None
        came = facts.arrived_at
        if (answer_from is not None and folder.renumbered) or uid in self._memory.again:
            # a restored mailbox may give old mails today's date
            came = min(came, written_at(mail.envelope.content) or came)
        if answer_from is not None:
            return Why.RENUMBERED if came < answer_from else None
        return Why.TOO_OLD if came < now - self._config.catch_up_hours * HOUR_MS else None

    async def _receive(self, mails: Mapping[int, _Fetched]) -> dict[int, Status]:
        """All at once, so that they share commits."""
        answers = await asyncio.gather(*(self._answer(mail.envelope) for mail in mails.values()))
        return dict(zip(mails, answers, strict=True))

    async def _answer(self, envelope: Envelope) -> Status:
        """451 where anything fails: one mail keeps no other from its answer."""
        try:
            return await self._funnel.receive(envelope)
        except OUTAGES:
            pass
        except Exception as error:
            emit("imap.failure", mailbox=self.name, error=error)
        return OUTAGE

    def _entry(
        self,
        uid: int,
        facts: Facts,
        mail: _Fetched,
        old: Why | None,
        answer: Status | None,
        reasons: Mapping[tuple[str, bytes], str],
        now: int,
    ) -> Entry:
        known = reasons.get((mail.society, mail.key))
        sender = mail.envelope.reverse_path
        state, reason, tries = State.TAKEN, known or "", 0
        if known is None and old is not None:
            state, reason = State.IGNORED, old.value
        elif answer is not None and answer.permanent:
            state, reason = State.IGNORED, Why.REFUSED.value
        elif answer is not None and answer.code >= 400:
            state, reason, tries = State.WAITING, answer.enhanced, self._again(uid, now).tries
            emit("imap.deferred", mailbox=self.name, reason=answer.enhanced)
        address = sender.text if sender is not None and state is not State.TAKEN else None
        return Entry(uid, state, reason, mail.society, mail.key, address, facts.arrived_at, tries, now)

    def _again(self, uid: int, now: int) -> Entry:
        before = self._memory.waiting.get(uid)
        return Entry(uid, State.WAITING, tries=before.tries + 1 if before else 1, at=now)

    async def _enter(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        told = [one for one in entries if one.state is State.IGNORED and one.reason in TOLD]
        async with self._store.begin() as tx:
            await self._ledger.write(tx, self._memory.folder.uidvalidity, entries)
            if told:
                words = f"mailbox {self.name}: {len(told)} mails came in too long ago to be answered by a robot"
                words += "; `mailbot imap list --ignored` says whose"
                await raise_alarm(tx, self._society, Alarm.IMAP_IGNORED, words, self._clock())
        for reason, count in Counter(one.reason for one in told).items():
            emit("imap.ignored", mailbox=self.name, reason=reason, mails=count)
        self._memory.note(entries)

    async def _file(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Marks and moves what was taken. What the server will not do is tried again in an hour; it is answered."""
        config, done = self._config, list[int]()
        taken = [one for one in entries if one.state is State.TAKEN]
        groups = [
            (config.done_folder, [one.uid for one in taken if one.reason == Reason.ACCEPTED]),
            (config.ignored_folder, [one.uid for one in taken if one.reason != Reason.ACCEPTED]),
        ]
        for folder, uids in groups:
            for start in range(0, len(uids), config.batch):
                await self._hold()
                some = uids[start : start + config.batch]
                filed = await connection.mark(some)
                if folder and connection.moves:
                    filed = await connection.move(some, folder) and filed
                if filed:
                    done += some
                else:
                    emit("imap.unfiled", mailbox=self.name, folder=folder, mails=len(some))
        for start in range(0, len(done), config.batch):
            some = done[start : start + config.batch]
            async with self._store.begin() as tx:
                await self._ledger.filed(tx, self._memory.folder.uidvalidity, some, self._clock())
            for uid in some:
                self._memory.taken.pop(uid, None)

    async def _tidy(self, connection: Connection) -> None:
        """At first and once an hour: files what was left half done, and forgets mails that ended long ago and are gone
        from the folder."""
        now = self._clock()
        if now - self._tidied_at < HOUR_MS:
            return
        self._tidied_at = now
        await self._file(connection, list(self._memory.taken.values()))
        if left := sum(one.at < now - HOUR_MS for one in self._memory.taken.values()):
            words = f"{left} mails were taken over an hour ago and the server still will not mark or move them"
            await self._alarm(Alarm.IMAP_UNFILED, words)
        there = set(await connection.search(1, everything=True))
        async with self._store.begin() as tx:
            gone = await self._ledger.purge(tx, self._memory.folder.uidvalidity, there, now - self._keep_ms)
        self._memory.ended.difference_update(gone)
