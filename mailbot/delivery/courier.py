"""Empties the outbox: claims, renders, signs, hands over to the relay, settles. Any number of couriers may run.

One loop owns the database: each turn settles in one transaction what came back meanwhile and claims the next batch, so
that commits are shared without a timer. Rendering and signing happen in threads, sending in as many tasks as the relay
has connections; what is in flight is bounded. Nothing but `stop` ends the loop: an outage is waited out, a mail that
cannot be rendered or sent is held for staff.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from mailbot.credentials import verp
from mailbot.delivery import outbox, policy
from mailbot.delivery.desk import Desk, FactsHook, Fault, Ready, Renderer, Signing
from mailbot.delivery.domains import Domains
from mailbot.delivery.mails import ClaimedMail, Expired, Held, PutBack, Result, Settlement
from mailbot.delivery.policy import MailState
from mailbot.delivery.relay import Relay
from mailbot.delivery.relays import words
from mailbot.mail.status import BEFORE_MAIL, Effect, Outcome, OutcomeKind, Stage
from mailbot.registration import bounces, mailfacts, timetable
from mailbot.registration.context import Context
from mailbot.store.alarms import Alarm, raise_alarm
from mailbot.store.engine import OUTAGES
from mailbot.telemetry import SECONDS, emit

SIGNING_THREADS = 2
LONGEST_PAUSE_MS = 30_000
"""Longest pause between two looks at a relay that takes no mail at all."""

_AGE = SECONDS.labels("outbox")


@dataclass(frozen=True)
class Hooks:
    """What registration does on the way out.

    `facts` answers in order; `refused`, with the relay's words, and then `settled` run in the settling transaction;
    `due` shares its work among all couriers and says how many mails it queued.
    """

    facts: FactsHook = mailfacts.mail_facts
    settled: Callable[[Context, AsyncConnection, Sequence[tuple[ClaimedMail, MailState]], int], Awaitable[None]] = (
        mailfacts.mail_settled
    )
    refused: Callable[[Context, AsyncConnection, Sequence[Settlement], int], Awaitable[None]] = bounces.refused
    due: Callable[[Context, AsyncConnection, int], Awaitable[int]] = timetable.due


class Courier:
    """Lifetime: one `run`."""

    def __init__(
        self,
        ctx: Context,
        letters: Renderer,
        signer: Signing,
        relay: Relay,
        now: Callable[[], int],
        hooks: Hooks | None = None,
    ) -> None:
        self._ctx = ctx
        self._letters = letters
        self._signer = signer
        self._relay = relay
        self._now = now
        self._hooks = hooks or Hooks()
        self._section = ctx.settings.site.courier
        self._wake = ctx.store.waker("outbox")
        self._ready: asyncio.PriorityQueue[tuple[int, int, Ready]] = asyncio.PriorityQueue()
        self._done: list[Settlement] = []
        self._alarms: dict[tuple[str, Alarm], str] = {}
        self._caught_up = asyncio.Event()  # less than a batch waits to be settled
        self._caught_up.set()
        self._in_flight = 0  # claimed and not yet settled
        self._count = 0
        self._stopping = False
        self._failures = 0  # of the relay as a whole, one after the other
        self._resume_at = 0
        self._works = False  # the relay took a mail since it last failed
        self._blamed: set[str] = set()  # domains whose mail it refused as our fault since it last took one
        connections = ctx.settings.site.relay.connections
        # One connection is left for the others, so that no domain that answers slowly keeps all of them waiting.
        self._domains = Domains[Ready](ctx.settings.site.relay.connections_per_domain or max(1, connections - 1))

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`, then waits for mails on the wire and gives back those that are not."""
        persistent = AsyncRetrying(
            retry=retry_if_exception_type(Exception),
            wait=wait_random_exponential(multiplier=0.2, max=30),
            stop=lambda _: stop.is_set(),
            sleep=partial(_nap, stop),
            before_sleep=_complain,
            retry_error_callback=_complain,
        )
        with ThreadPoolExecutor(SIGNING_THREADS, "mailbot-sign") as threads:
            desk = Desk(self._ctx, self._letters, self._signer, self._hooks.facts, threads)
            async with asyncio.TaskGroup() as group:
                helpers = [group.create_task(self._send()) for _ in range(self._ctx.settings.site.relay.connections)]
                helpers.append(group.create_task(self._keep_timetable(stop)))
                helpers.append(group.create_task(self._heed(stop)))
                while not stop.is_set():
                    self._wake.clear()
                    self._make_room()
                    claimed: list[ClaimedMail] = await persistent(self._turn)
                    if claimed:
                        group.create_task(self._prepare(claimed, desk))
                    if not self._worth_settling() and not (claimed and self._room()):
                        await self._rest(self._section.poll_ms / 1000)
                self._stopping = True
                end = asyncio.get_running_loop().time() + self._section.drain_seconds
                while self._in_flight and (left := end - asyncio.get_running_loop().time()) > 0:
                    await self._rest(min(left, 0.2))
                    self._wake.clear()
                    self._make_room()
                    await persistent(self._turn)
                if self._in_flight:
                    emit("courier.drain-ended", mails=self._in_flight)  # their leases run out by themselves
                for helper in helpers:
                    helper.cancel()

    async def _heed(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._stopping = True
        self._wake.set()

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    # The database's side: one turn.

    def _room(self) -> int:
        """How many mails to claim now. Small claims cost as much as large ones, so a few free places wait for more."""
        if self._stopping or self._now() < self._resume_at:
            return 0
        if self._failures:  # one mail finds out whether the relay is back
            return 0 if self._in_flight else 1
        batch = self._section.batch
        room = min(batch, 2 * batch - self._in_flight)
        return room if 2 * room >= batch else 0

    def _worth_settling(self) -> bool:
        """Whether half a batch came back, or all there is; the rest waits for more, at most until the next poll."""
        done = len(self._done)
        return done > 0 and (2 * done >= self._section.batch or done == self._in_flight)

    async def _turn(self) -> list[ClaimedMail]:
        """Settles what is done and claims what there is room for, in one transaction."""
        done, alarms, room = self._done[:], self._alarms.copy(), self._room()
        if not done and not alarms and not room:
            return []
        try:
            now = self._now()
            async with self._ctx.store.begin() as tx:
                settled = await self._settle(tx, done, now)
                for (society, kind), text in sorted(alarms.items()):  # in order, for the rows are locks
                    await raise_alarm(tx, society, kind, text, now)
                claimed = await outbox.claim(tx, now, room) if room else []
        except OUTAGES:
            raise
        except Exception as error:
            if not done:
                raise
            emit("courier.error", reason="settle", error=error)
            await self._settle_singly(done)
            return []
        del self._done[: len(done)]
        self._caught_up.set()
        for key in alarms:
            self._alarms.pop(key, None)
        self._in_flight += len(claimed) - len(done)
        self._tell(settled, now)
        return claimed

    async def _settle(
        self, tx: AsyncConnection, done: Sequence[Settlement], now: int
    ) -> list[tuple[ClaimedMail, MailState]]:
        settled = await outbox.settle(tx, done, now)
        if settled:
            counted = {(mail.society, mail.id) for mail, _ in settled}
            refused = [one for one in done if (one.mail.society, one.mail.id) in counted and bounces.tells(one)]
            if refused:
                await self._hooks.refused(self._ctx, tx, refused, now)
            await self._hooks.settled(self._ctx, tx, settled, now)
        return settled

    async def _settle_singly(self, done: Sequence[Settlement]) -> None:
        """After a batch failed by a fault of ours: whatever fails alone as well is settled without its hook, because a
        mail that went out and is not settled goes out again."""
        for one in done:
            now = self._now()
            try:
                async with self._ctx.store.begin() as tx:
                    settled = await self._settle(tx, [one], now)
            except OUTAGES:
                raise
            except Exception as error:
                emit("courier.error", reason="settled-hook", letter=one.mail.letter, error=error)
                async with self._ctx.store.begin() as tx:
                    settled = await outbox.settle(tx, [one], now)
                    text = f"{one.mail.letter}: {type(error).__name__} after the mail went out"
                    await raise_alarm(tx, one.mail.society, Alarm.SETTLED_HOOK, text, now)
            self._done.remove(one)
            self._caught_up.set()
            self._in_flight -= 1
            self._tell(settled, now)

    def _tell(self, settled: Sequence[tuple[ClaimedMail, MailState]], now: int) -> None:
        for mail, state in settled:
            emit("mail.settled", reason=state.value, society=mail.society, letter=mail.letter, attempts=mail.attempts)
            if state is MailState.DELIVERED:
                _AGE.observe(max(0, now - mail.created_at) / 1000)

    def _finish(self, mail: ClaimedMail, result: Result) -> None:
        self._done.append(Settlement(mail, result))
        if len(self._done) >= self._section.batch:
            self._caught_up.clear()
        if self._worth_settling():
            self._wake.set()

    def _hold(self, mail: ClaimedMail, reason: Alarm, error: Exception) -> None:
        """A fault of ours: the mail waits for staff, an alarm calls them. The alarm names no member."""
        emit("mail.held", reason=reason, society=mail.society, letter=mail.letter, error=error)
        self._alarms[mail.society, reason] = f"{mail.letter}: {type(error).__name__}"
        self._finish(mail, Held(reason.value))

    async def _prepare(self, mails: Sequence[ClaimedMail], desk: Desk) -> None:
        now = self._now()
        wanted: list[ClaimedMail] = []
        for mail in mails:
            latest = mail.last_moment - policy.attempt_ms(mail.lane)  # for its last try it need not be asked
            if latest > now and (at := self._domains.again(mail.recipient.rpartition("@")[2], mail.lane, now)):
                self._finish(mail, PutBack(min(at, latest)))
            else:
                wanted.append(mail)
        async for item in desk.prepare(wanted, now):
            match item:
                case Settlement():
                    self._finish(item.mail, item.outcome)
                case Fault():
                    self._hold(item.mail, item.reason, item.error)
                case Ready():
                    self._count += 1
                    self._ready.put_nowait((item.mail.lane, self._count, item))

    # The relay's side.

    async def _send(self) -> None:
        while True:
            lane, number, ready = await self._ready.get()
            await self._caught_up.wait()  # a crash doubles at most one settle batch and one mail a connection
            mail, domain = ready.mail, ready.recipient.domain
            limit = policy.attempt_ms(lane)
            result = self._unsent(mail, limit)
            if result is None:
                until = self._domains.enter(domain, lane, number, ready, self._now())
                if until is None:
                    continue
                if until:
                    result = PutBack(until)
            if result is not None:
                self._finish(mail, result)
                continue
            try:
                outcome = await self._relay.send(
                    self._sender(mail),
                    ready.recipient,
                    ready.message,
                    seconds=limit / 1000,
                    deadline_ms=mail.last_moment,
                    envelope_id=mail.message_id[1:14],
                )
            except Exception as error:
                self._hold(mail, Alarm.SEND_ERROR, error)
            else:
                self._heed_outcome(outcome, domain)
                self._finish(mail, outcome)
            if (following := self._domains.leave(domain)) is not None:
                self._ready.put_nowait(following)

    def _sender(self, mail: ClaimedMail) -> str:
        """The envelope sender: the society's bounce address with the mail's tag, so that a report proves itself."""
        bounce = self._ctx.settings.societies[mail.society].addresses.bounce
        return verp.tagged(self._ctx.ring, mail.society, bounce, mail.id, self._now())

    def _make_room(self) -> None:
        """Mails that wait too long for their domain's turn go back, so that their places serve other domains; all of
        them once the courier stops."""
        now = self._now()
        if self._stopping:
            for ready in self._domains.give_up():
                self._finish(ready.mail, PutBack(now))
        for ready, at in self._domains.overdue(now):
            self._finish(ready.mail, PutBack(at))

    def _unsent(self, mail: ClaimedMail, limit: int) -> Result | None:
        """Why this mail is not to be sent now, if it is not."""
        now = self._now()
        if now >= mail.last_moment:
            return Expired()
        if self._stopping or mail.lease_until - now < limit:
            return PutBack(now)
        if now < self._resume_at:
            return PutBack(self._resume_at)
        return None

    def _heed_outcome(self, outcome: Outcome, domain: str) -> None:
        """What a relay's answer means for other mails. Its words may name a member, so alarms have its codes only."""
        now, effect = self._now(), outcome.effect
        if effect is not Effect.OUR_FAULT:
            self._failures = 0
        if outcome.kind is OutcomeKind.DELIVERED:
            self._works, self._blamed = True, set()
        if outcome.trouble and effect is not Effect.OUR_FAULT:
            self._alarms["", Alarm.RELAY_FAILED] = f"another relay stands in: {outcome.trouble}"[:300]
        match effect:
            case Effect.OUR_FAULT if self._far(outcome, domain):
                if self._domains.asked_for_less(domain, now):
                    emit("relay.slowed", reason="refused", domain=domain, reply=words(outcome))
            case Effect.OUR_FAULT:
                self._works = False
                if outcome.stage not in BEFORE_MAIL:
                    self._domains.asked_for_less(domain, now)  # the next mail, to find out, goes elsewhere
                if now >= self._resume_at:  # the first of those that were under way together
                    self._failures += 1
                    self._resume_at = now + min(LONGEST_PAUSE_MS, 500 << min(self._failures, 10))
                    emit("relay.paused", reason="relay", seconds=(self._resume_at - now) // 1000, error=words(outcome))
                self._alarms["", Alarm.RELAY] = f"{outcome.relay} takes no mail: {words(outcome)}"
            case Effect.SLOW_DOMAIN:
                if self._domains.asked_for_less(domain, now):
                    emit("relay.slowed", reason="domain", domain=domain, reply=words(outcome))
            case _ if outcome.kind is OutcomeKind.DELIVERED:
                self._domains.took(domain)
            case _:
                pass

    def _far(self, outcome: Outcome, domain: str) -> bool:
        """Whether words about us are a far server's: some relays ask it while we wait, and pass on what it says. So it
        is while the relay takes mail to other domains, which must not wait for one that refuses everybody."""
        if outcome.stage in BEFORE_MAIL or outcome.stage is Stage.MAIL:
            return False
        self._blamed.add(domain)
        return self._works and len(self._blamed) == 1

    # Reminders, purges and whatever else has its time.

    async def _keep_timetable(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                async with self._ctx.store.begin() as tx:
                    queued = await self._hooks.due(self._ctx, tx, self._now())
                if queued:
                    self._ctx.store.wake("outbox")
            except Exception as error:
                emit("courier.error", reason="timetable", error=error)
            await _nap(stop, self._section.poll_ms / 1000)


async def _nap(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


def _complain(state: RetryCallState) -> Any:
    error = state.outcome.exception() if state.outcome else None
    emit("courier.error", reason="turn", attempt=state.attempt_number, error=error)
    return []
