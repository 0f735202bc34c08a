"""The courier on SQLite and PostgreSQL, with stub letters and a relay that does what the test says."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import HelpChannel, Journey, Settings, Site, Society
from mailbot.config.load import Directory
from mailbot.config.site import CourierSection, RelaySection
from mailbot.config.society import Addresses
from mailbot.credentials import KeyRing
from mailbot.delivery import outbox, policy
from mailbot.delivery.courier import Courier, Hooks
from mailbot.delivery.domains import SLOW_DOMAIN_MS
from mailbot.delivery.mails import Cancelled, ClaimedMail
from mailbot.delivery.outbox import Lane, MailState, NewMail
from mailbot.delivery.relay import Relay
from mailbot.delivery.relays import open_relay
from mailbot.mail.address import Address
from mailbot.mail.causes import Cause
from mailbot.mail.status import Effect, Outcome, OutcomeKind, Stage, Status
from mailbot.registration.context import Context
from mailbot.store import Store
from mailbot.store.alarms import alarms
from mailbot.store.tables import attempt
from mailbot.store.tables import outbox as table
from tests.support.sink import CLOSE, sink

NOW = 1_800_000_000_000
DELIVERED = Outcome(OutcomeKind.DELIVERED, Status(250, "2.0.0", "ok"), "stub")
DEFERRED = Outcome(OutcomeKind.DEFERRED, Status(451, "4.3.0", "later"), "stub")
SLOWER = Outcome(OutcomeKind.DEFERRED, Status(421, "4.7.0", "slower"), "stub", Effect.SLOW_DOMAIN)
POLICY = Outcome(OutcomeKind.FAILED, Status(550, "5.7.26", "no: a1@x.jp"), "stub", cause=Cause.POLICY)
DOWN = Outcome(
    OutcomeKind.DEFERRED, Status(451, "4.4.2", "(refused)"), "stub", Effect.OUR_FAULT, stage=Stage.CONNECT
)

Facts = dict[str, str | int]


@dataclass
class Clock:
    ms: int = NOW

    def now(self) -> int:
        return self.ms


@dataclass
class StubRelay:
    """Answers by `rule`; while `gate` is closed, mails stay on the wire."""

    rule: Callable[[Address], Outcome] = lambda _: DELIVERED
    sent: list[tuple[str, str, bytes]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[str] = field(default_factory=list)
    slow_domain: str = ""  # where set, the gate is for this domain only
    busy: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)  # domain -> most mails at a time

    def __post_init__(self) -> None:
        self.gate.set()

    async def send(
        self,
        sender: str,
        recipient: Address,
        message: bytes,
        *,
        seconds: float,
        deadline_ms: int | None = None,
        envelope_id: str = "",
    ) -> Outcome:
        self.begun.append(recipient.text)
        busy = self.busy[recipient.domain] = self.busy.get(recipient.domain, 0) + 1
        self.most[recipient.domain] = max(busy, self.most.get(recipient.domain, 0))
        if self.slow_domain in ("", recipient.domain):
            await self.gate.wait()
        self.busy[recipient.domain] -= 1
        outcome = self.rule(recipient)
        if outcome is DELIVERED:
            self.sent.append((sender, recipient.text, message))
        return outcome

    async def close(self) -> None: ...


class StubLetters:
    def render(self, society_id: str, letter: str, facts: Any, **more: Any) -> bytes:
        if letter == "broken":
            raise KeyError("url")
        return f"{society_id}|{letter}|{facts['url']}|{more['message_id']}|{more['date_ms']}\r\n".encode()


@dataclass
class StubSigner:
    signed: int = 0

    def sign(self, message: bytes, now: int | None = None) -> bytes:
        self.signed += 1
        return b"signed|" + message


@dataclass
class Registration:
    """What registration would do; each test bends one of the functions."""

    refuse: Callable[[ClaimedMail], Exception | None] = lambda _: None
    settled_refuse: Callable[[ClaimedMail], Exception | None] = lambda _: None
    settled: list[tuple[int, MailState]] = field(default_factory=list)
    due_answers: list[int | Exception] = field(default_factory=list)
    due_calls: int = 0

    async def facts(
        self, ctx: Context, tx: AsyncConnection, mails: Sequence[ClaimedMail], now: int
    ) -> list[Facts | Cancelled]:
        found: list[Facts | Cancelled] = []
        for mail in mails:
            if (error := self.refuse(mail)) is not None:
                raise error
            found.append(Cancelled("member-gone") if mail.letter == "gone" else {"url": f"u{mail.link_id}"})
        return found

    async def on_settled(
        self, ctx: Context, tx: AsyncConnection, settled: Sequence[tuple[ClaimedMail, MailState]], now: int
    ) -> None:
        for mail, _ in settled:
            if (error := self.settled_refuse(mail)) is not None:
                raise error
        self.settled += [(mail.id, state) for mail, state in settled]

    async def due(self, ctx: Context, tx: AsyncConnection, now: int) -> int:
        self.due_calls += 1
        answer = self.due_answers.pop(0) if self.due_answers else 0
        if isinstance(answer, Exception):
            raise answer
        return answer


def society(name: str) -> Society:
    return Society(
        id=name,
        name=name,
        addresses=Addresses(robot=f"robot@{name}.jp", bounce=f"bounce@{name}.jp"),
        help=(HelpChannel(kind="phone", name="窓口", value="03-0000-0000"),),
        journeys={"page": Journey(starts=("page",), steps=("credentials",))},
    )


@dataclass
class Post:
    """A courier and everything around it."""

    store: Store
    clock: Clock = field(default_factory=Clock)
    relay: StubRelay = field(default_factory=StubRelay)
    real: Relay | None = None  # takes the stub's place
    signer: StubSigner = field(default_factory=StubSigner)
    registration: Registration = field(default_factory=Registration)
    connections: int = 4
    connections_per_domain: int = 0
    batch: int = 20
    poll_ms: int = 20
    drain_seconds: int = 5

    def courier(self) -> Courier:
        site = Site(
            relay=RelaySection(
                connections=self.connections, connections_per_domain=self.connections_per_domain
            ),
            courier=CourierSection(batch=self.batch, poll_ms=self.poll_ms, drain_seconds=self.drain_seconds),
        )
        societies = {name: society(name) for name in ("one", "two")}
        settings = Settings(Path(), site, societies, Directory({}, frozenset()))
        ctx = Context(settings, KeyRing.create(NOW), cast(Any, None), self.store)
        hooks = Hooks(self.registration.facts, self.registration.on_settled, due=self.registration.due)
        return Courier(ctx, StubLetters(), self.signer, self.real or self.relay, self.clock.now, hooks)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Event]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.courier().run(stop))
        try:
            yield stop
        finally:
            stop.set()
            await asyncio.wait_for(task, 20)

    async def put(self, *mails: NewMail) -> list[int]:
        async with self.store.begin() as tx:
            ids = await outbox.put(tx, mails, self.clock.ms, "mail.example")
        self.store.wake("outbox")
        return [mail_id for mail_id in ids if mail_id is not None]

    async def states(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        async with self.store.read() as tx:
            for state in (await tx.execute(select(table.c.state))).scalars():
                counts[state] = counts.get(state, 0) + 1
        return counts

    async def until(self, **wanted: int) -> None:
        """Returns once the outbox holds so many rows of each state."""
        states: dict[str, int] = {}
        try:
            async with asyncio.timeout(20):
                while (states := await self.states()) != wanted:  # noqa: ASYNC110  another task writes it
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"{states}, not {wanted}") from None

    async def alarms(self) -> set[tuple[str, str]]:
        async with self.store.read() as tx:
            return {(row.society, row.kind) for row in await alarms(tx)}

    async def words(self) -> list[tuple[int, str]]:
        async with self.store.read() as tx:
            rows = await tx.execute(select(attempt.c.number, attempt.c.relay_reply).order_by(attempt.c.number))
            return [(row[0], row[1]) for row in rows]


def mail(
    number: int = 1, name: str = "one", lane: Lane = Lane.LINK, letter: str = "invitation", **more: Any
) -> NewMail:
    return NewMail(name, letter, lane, f"a{number}@x.jp", link_id=number, **more)


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  another task
            await asyncio.sleep(0.005)


async def test_every_mail_goes_out_once(store: Store) -> None:
    post = Post(store)
    ids = await post.put(*(mail(n, "one" if n % 2 else "two") for n in range(150)))
    async with post.running():
        await post.until(delivered=150)
    assert sorted(recipient for _, recipient, _ in post.relay.sent) == sorted(f"a{n}@x.jp" for n in range(150))
    assert sorted(post.registration.settled) == sorted((mail_id, MailState.DELIVERED) for mail_id in ids)
    async with store.read() as tx:
        found, attempts = await outbox.show(tx, ids[0]) or (None, [])
    assert found is not None
    wanted = f"signed|two|invitation|u0|{found.message_id}|{NOW}\r\n".encode()
    (sender,) = [sent[0] for sent in post.relay.sent if sent[1:] == ("a0@x.jp", wanted)]
    assert sender.startswith("bounce+")
    assert sender.endswith("@two.jp")
    assert [(row.number, row.outcome) for row in attempts] == [(1, "delivered")]


async def test_two_couriers_share_the_work(store: Store) -> None:
    post = Post(store)
    await post.put(*(mail(n) for n in range(100)))
    async with post.running(), post.running():
        await post.until(delivered=100)
    assert len(post.relay.sent) == len({recipient for _, recipient, _ in post.relay.sent}) == 100


async def test_a_wake_is_heeded_between_polls(store: Store) -> None:
    post = Post(store, poll_ms=60_000)
    async with post.running():
        await wait_for(lambda: post.registration.due_calls > 0)
        await asyncio.sleep(0.1)
        await post.put(mail())
        await post.until(delivered=1)


async def test_a_mail_that_cannot_be_rendered_is_held_once(store: Store) -> None:
    post = Post(store)
    await post.put(mail(1), mail(2, letter="broken"), mail(3, "gone-society"), mail(4, letter="gone"), mail(5))
    async with post.running():
        await post.until(delivered=2, held=1, cancelled=2)
        post.clock.ms += 3_600_000
        await asyncio.sleep(0.1)
        await post.until(delivered=2, held=1, cancelled=2)
    assert await post.alarms() == {("one", "render-error")}


async def test_one_mail_without_facts_does_not_harm_its_batch(store: Store) -> None:
    post = Post(store)
    post.registration.refuse = lambda mail: ValueError("sealed with another key") if mail.link_id == 3 else None
    await post.put(*(mail(n) for n in range(6)))
    async with post.running():
        await post.until(delivered=5, held=1)
    assert await post.alarms() == {("one", "facts-error")}


async def test_facts_wait_for_an_absent_database(store: Store) -> None:
    post = Post(store)
    away = [OperationalError("SELECT", {}, Exception("away"))]
    post.registration.refuse = lambda _: away.pop() if away else None
    await post.put(*(mail(n) for n in range(4)))
    async with post.running():
        await wait_for(lambda: not away)
        await asyncio.sleep(0.1)
        assert post.relay.sent == []
        post.clock.ms += 5000
        await post.until(delivered=4)


async def test_an_outage_while_settling_sends_nothing_twice(store: Store) -> None:
    post = Post(store)
    away = [OperationalError("UPDATE", {}, Exception("away")) for _ in range(2)]
    post.registration.settled_refuse = lambda _: away.pop() if away else None
    await post.put(*(mail(n) for n in range(30)))
    async with post.running():
        await post.until(delivered=30)
    assert away == []
    assert len(post.relay.sent) == 30


async def test_a_fault_after_sending_settles_the_mail_all_the_same(store: Store) -> None:
    post = Post(store)
    post.registration.settled_refuse = lambda mail: KeyError("x") if mail.link_id == 7 else None
    await post.put(*(mail(n) for n in range(30)))
    async with post.running():
        await post.until(delivered=30)
    assert len(post.relay.sent) == 30
    assert len(post.registration.settled) == 29
    assert await post.alarms() == {("one", "settled-hook")}


async def test_a_mail_past_its_end_is_never_sent(store: Store) -> None:
    post = Post(store)
    await post.put(mail(1, deadline_at=NOW), mail(2, deadline_at=NOW + 1))
    async with post.running():
        await post.until(expired=1, delivered=1)
    assert post.relay.begun == ["a2@x.jp"]


async def test_urgent_mails_overtake(store: Store) -> None:
    post = Post(store, connections=1)
    post.relay.gate.clear()
    await post.put(*(mail(n, lane=Lane.BULK) for n in range(5)))
    async with post.running():
        await wait_for(lambda: len(post.relay.begun) == 1)
        await post.put(mail(9, lane=Lane.PIN))
        await asyncio.sleep(0.2)
        post.relay.gate.set()
        await post.until(delivered=6)
    assert post.relay.begun[1] == "a9@x.jp"


async def test_a_lease_too_short_for_an_attempt_goes_back_unsent(store: Store) -> None:
    post = Post(store, connections=1)
    post.relay.gate.clear()
    await post.put(mail(1), mail(2))
    async with post.running():
        await wait_for(lambda: len(post.relay.begun) == 1)
        await asyncio.sleep(0.1)
        post.clock.ms += policy.LEASE_SLACK_MS + 1
        post.relay.gate.set()
        await post.until(delivered=2)
    assert [number for number, _ in await post.words()] == [1, 2]


async def test_a_relay_that_takes_nothing_costs_few_attempts(store: Store) -> None:
    post = Post(store, connections=1)
    post.relay.rule = lambda _: DOWN
    await post.put(*(mail(n) for n in range(40)))
    async with post.running():
        await wait_for(lambda: len(post.relay.begun) == 1)
        await asyncio.sleep(0.2)
        assert len(post.relay.begun) == 1
        post.clock.ms += 1500  # one mail looks whether the relay is back
        await wait_for(lambda: len(post.relay.begun) == 2)
        await asyncio.sleep(0.2)
        assert len(post.relay.begun) == 2
        assert await post.states() == {"queued": 40}
        post.relay.rule = lambda _: DELIVERED
        post.clock.ms += 80_000  # two mails wait for their second try, the others go at once
        await post.until(delivered=40)
    assert await post.alarms() == {("", "relay")}


async def test_a_far_server_that_wants_nothing_of_us_holds_up_nobody_else(store: Store) -> None:
    post = Post(store, connections=1)
    denied = replace(DOWN, status=Status(550, "5.7.1", "relaying denied"), stage=Stage.RCPT)
    post.relay.rule = lambda to: denied if to.domain == "dead.jp" else DELIVERED
    await post.put(NewMail("one", "invitation", Lane.PIN, "first@ok.jp"))
    async with post.running():
        await post.until(delivered=1)
        await post.put(*(NewMail("one", "invitation", Lane.LINK, f"a{n}@dead.jp") for n in range(30)))
        await post.put(*(NewMail("one", "invitation", Lane.BULK, f"b{n}@ok.jp") for n in range(30)))
        await post.until(delivered=31, queued=30)
        assert await post.alarms() == set()
        post.relay.rule = lambda _: denied  # now it is the relay: two domains, and none taken
        post.clock.ms += 2 * SLOW_DOMAIN_MS
        await post.put(*(NewMail("one", "invitation", Lane.PIN, f"c@{name}.jp") for name in ("ok", "other")))
        await wait_for(lambda: {"c@ok.jp", "c@other.jp"} <= set(post.relay.begun))
        post.clock.ms += 1000
    assert await post.alarms() == {("", "relay")}


async def test_a_domain_that_wants_less_is_left_alone_and_others_are_not(store: Store) -> None:
    post = Post(store, connections=1)
    answers = [SLOWER]
    post.relay.rule = lambda to: answers.pop() if answers and to.domain == "x.jp" else DELIVERED
    await post.put(*(mail(n) for n in range(5)), NewMail("one", "invitation", Lane.BULK, "b@y.jp"))
    async with post.running():
        await post.until(queued=5, delivered=1)
        post.clock.ms += SLOW_DOMAIN_MS * 2
        await post.until(delivered=6)


async def test_refused_content_is_an_alarm_without_names(store: Store) -> None:
    post = Post(store)
    post.relay.rule = lambda _: POLICY
    await post.put(*(mail(n) for n in (1, 2, 3, 3)))
    async with post.running():
        await post.until(failed=4)
        assert await post.alarms() == set()  # three mailboxes may have rules of their own
        await post.put(mail(4))
        await post.until(failed=5)
    async with store.read() as tx:
        (row,) = await alarms(tx)
    assert (row.society, row.kind) == ("one", "mail-refused")
    assert "@" not in row.text


async def test_a_domain_that_hangs_leaves_room_for_the_others(store: Store) -> None:
    post = Post(store, connections=4, batch=10)
    post.relay.slow_domain = "slow.jp"
    post.relay.gate.clear()
    await post.put(*(NewMail("one", "invitation", Lane.LINK, f"a{n}@slow.jp", link_id=n) for n in range(60)))
    async with post.running():
        await wait_for(lambda: len(post.relay.begun) == 3)  # one connection is left for the others
        await post.put(*(mail(n) for n in range(30)))  # behind far more than the courier holds at a time
        for _ in range(100):
            await asyncio.sleep(0.05)
            post.clock.ms += 300
            if len(post.relay.sent) == 30:
                break
        assert len(post.relay.sent) == 30
        assert [one for one in post.relay.begun if one.endswith("@slow.jp")] == post.relay.begun[:3]
        assert post.signer.signed <= 2 * 10 + 30  # who goes back for the domain's sake is not made first
        post.relay.gate.set()
        async with asyncio.timeout(20):
            while await post.states() != {"delivered": 90}:
                post.clock.ms += 10_000
                await asyncio.sleep(0.05)


async def test_no_domain_gets_more_at_a_time_than_configured(store: Store) -> None:
    post = Post(store, connections=4, connections_per_domain=2)
    post.relay.gate.clear()
    await post.put(*(mail(n) for n in range(8)), NewMail("one", "invitation", Lane.BULK, "b@y.jp"))
    async with post.running():
        await wait_for(lambda: len(post.relay.begun) == 3)
        await asyncio.sleep(0.1)
        assert sorted(one.partition("@")[2] for one in post.relay.begun) == ["x.jp", "x.jp", "y.jp"]
        post.relay.gate.set()
        await post.until(delivered=9)
    assert post.relay.most == {"x.jp": 2, "y.jp": 1}


async def test_a_relay_that_breaks_its_word_holds_the_mail(store: Store) -> None:
    post = Post(store)

    def refuse(_: Address) -> Outcome:
        raise ValueError("bare LF")

    post.relay.rule = refuse
    await post.put(mail())
    async with post.running():
        await post.until(held=1)
    assert await post.alarms() == {("one", "send-error")}


async def test_what_is_not_settled_bounds_what_is_sent(store: Store) -> None:
    """A crash doubles at most a batch, and one mail a connection."""
    post = Post(store, connections=4, connections_per_domain=4, batch=20)
    post.relay.gate.clear()
    refused: list[int] = []

    def away(mail: ClaimedMail) -> Exception | None:
        if post.clock.ms > NOW:
            return None
        refused.append(mail.id)
        return OperationalError("UPDATE", {}, Exception("away"))

    post.registration.settled_refuse = away
    await post.put(*(mail(n) for n in range(40)))
    async with post.running():
        await wait_for(lambda: post.signer.signed == 40)
        post.relay.gate.set()
        await wait_for(lambda: len(post.relay.sent) >= 20 and len(refused) >= 1)
        await asyncio.sleep(0.1)
        assert 20 <= len(post.relay.begun) <= 24
        post.clock.ms += 1
        await post.until(delivered=40)
    assert len(post.relay.sent) == 40


async def test_a_mail_put_off_is_tried_again_with_the_same_message_id(store: Store) -> None:
    post = Post(store)
    post.relay.rule = lambda _: DEFERRED
    (mail_id,) = await post.put(mail())
    async with post.running():
        await wait_for(lambda: len(post.relay.begun) == 1)
        async with asyncio.timeout(20):
            while not await post.words():  # noqa: ASYNC110  another task
                await asyncio.sleep(0.01)
        post.relay.rule = lambda _: DELIVERED
        post.clock.ms += 80_000
        await post.until(delivered=1)
    async with store.read() as tx:
        found = await outbox.show(tx, mail_id)
    assert found is not None
    assert found[0].message_id.encode() in post.relay.sent[0][2]
    assert await post.words() == [(1, "stub: 451 4.3.0 later"), (2, "stub: 250 2.0.0 ok")]


async def test_a_lost_answer_means_one_more_copy_and_no_third_whichever_relay_takes_it(store: Store) -> None:
    async with sink() as first, sink() as second:
        urls = [f"smtp://127.0.0.1:{server.port}" for server in (first, second)]
        post = Post(store)
        post.real = open_relay(RelaySection(url=urls[0], fallback=(urls[1],)), "robot.test", now=post.clock.now)
        first.answer("dot", CLOSE, CLOSE)  # each has the mail, and nobody knows
        second.answer("dot", CLOSE)
        await post.put(mail(1), mail(2))
        async with post.running():
            await first.wait(2)
            first.kill()
            await first.idle()
            async with asyncio.timeout(20):
                while len(await post.words()) < 2:  # noqa: ASYNC110  another task
                    await asyncio.sleep(0.01)
            post.clock.ms += 80_000
            await post.until(delivered=1, failed=1)
            post.clock.ms += 80_000
            await post.until(delivered=1, failed=1)
        await post.real.close()
    sent = [sorted(one.content for one in server.mails) for server in (first, second)]
    assert sent[0] == sent[1]
    assert len(set(sent[0])) == 2
    assert ("", "relay-failed") in await post.alarms()


async def test_stopping_waits_for_the_wire_and_gives_back_the_rest(store: Store) -> None:
    post = Post(store, connections=2, connections_per_domain=2)
    post.relay.gate.clear()
    await post.put(*(mail(n) for n in range(12)))
    async with post.running() as stop:
        await wait_for(lambda: len(post.relay.begun) == 2)
        await asyncio.sleep(0.1)
        stop.set()
        await asyncio.sleep(0.1)
        post.relay.gate.set()
    assert await post.states() == {"delivered": 2, "queued": 10}
    async with store.begin() as tx:  # they are due at once
        again = await outbox.claim(tx, NOW, 50)
    assert [found.attempts for found in again] == [2] * 10


async def test_a_courier_that_dies_on_the_wire_is_followed_by_another(store: Store) -> None:
    post = Post(store, drain_seconds=1)
    post.relay.gate.clear()
    await post.put(mail())
    async with post.running():
        await wait_for(lambda: len(post.relay.begun) == 1)
    assert await post.states() == {"queued": 1}  # its lease still runs
    async with post.running():
        await asyncio.sleep(0.1)
        assert len(post.relay.begun) == 1
        post.relay.gate.set()
        post.clock.ms += policy.ATTEMPT_MS + policy.LEASE_SLACK_MS
        await post.until(delivered=1)
    assert len(post.relay.sent) == 1
    assert await post.words() == [(2, "stub: 250 2.0.0 ok")]


async def test_the_timetable_goes_on_after_a_fault(store: Store) -> None:
    post = Post(store)
    post.registration.due_answers = [KeyError("x"), OperationalError("SELECT", {}, Exception("away")), 1]
    async with post.running():
        await wait_for(lambda: post.registration.due_calls >= 4)
