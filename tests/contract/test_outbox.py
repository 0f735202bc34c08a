"""The outbox on SQLite and PostgreSQL: leases, ends, waits, what staff do."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import select

from mailbot.delivery import outbox, policy
from mailbot.delivery.mails import Cancelled, ClaimedMail, Expired, Held, PutBack, Result, Settlement
from mailbot.delivery.outbox import Lane, MailState, NewMail
from mailbot.mail.causes import Cause
from mailbot.mail.status import Outcome, OutcomeKind, Status
from mailbot.store import Store
from mailbot.store.engine import insert
from mailbot.store.tables import attempt, society_state
from mailbot.store.tables import outbox as table

NOW = 1_800_000_000_000
HOUR = 3_600_000
HOST = "mail.example"

DELIVERED = Outcome(OutcomeKind.DELIVERED, Status(250, "2.0.0", "queued as 4711"), "relay:25")
DEFERRED = Outcome(OutcomeKind.DEFERRED, Status(451, "4.7.1", "greylisted"), "relay:25")
FAILED = Outcome(OutcomeKind.FAILED, Status(550, "5.1.1", "no such user"), "relay:25", cause=Cause.UNKNOWN_USER)
UNKNOWN = Outcome(OutcomeKind.UNKNOWN, Status(451, "4.4.2", "(lost)"), "relay:25")


def mail(number: int = 0, society: str = "one", lane: Lane = Lane.LINK, **more: object) -> NewMail:
    return NewMail(society, "invitation", lane, f"member{number}@docomo.ne.jp", **more)  # type: ignore[arg-type]  # fields by name


async def put(store: Store, mails: Sequence[NewMail], now: int = NOW) -> list[int | None]:
    async with store.begin() as tx:
        return await outbox.put(tx, mails, now, HOST)


async def claim(store: Store, now: int = NOW, n: int = 50) -> list[ClaimedMail]:
    async with store.begin() as tx:
        return await outbox.claim(tx, now, n)


async def settle(store: Store, claimed: ClaimedMail, result: Result, now: int = NOW) -> list[MailState]:
    async with store.begin() as tx:
        return [state for _, state in await outbox.settle(tx, [Settlement(claimed, result)], now)]


async def row(store: Store, mail_id: int | None) -> tuple[str, str | None, int]:
    async with store.read() as tx:
        found = (await tx.execute(select(table).where(table.c.id == mail_id))).one()
    return found.state, found.reason, found.next_attempt_at


async def test_a_mail_comes_back_as_it_was_put(store: Store) -> None:
    (mail_id,) = await put(
        store,
        [mail(1, member_id=7, link_id=9, facts={"answer": 1, "x": "点"}, in_reply_to="<a@b>", deadline_at=NOW + HOUR)],
    )
    (claimed,) = await claim(store)
    assert mail_id is not None
    assert claimed.message_id.endswith(f"@{HOST}>")
    assert claimed == ClaimedMail(
        "one", mail_id, "invitation", Lane.LINK, "member1@docomo.ne.jp", 7, 9, {"answer": 1, "x": "点"},
        claimed.message_id, "<a@b>", 1, NOW, NOW + HOUR, NOW + policy.ATTEMPT_MS + policy.LEASE_SLACK_MS,
    )  # fmt: skip
    assert await claim(store) == []


async def test_urgent_lanes_go_first_and_only_so_many(store: Store) -> None:
    lanes = [Lane.BULK, Lane.COMPLETION, Lane.PIN, Lane.LINK, Lane.REISSUE]
    await put(store, [mail(n, lane=lane) for n, lane in enumerate(lanes)])
    assert [m.lane for m in await claim(store, n=2)] == [Lane.PIN, Lane.LINK]
    assert [m.lane for m in await claim(store, n=50)] == [Lane.REISSUE, Lane.COMPLETION, Lane.BULK]


async def test_a_pin_has_the_shorter_lease(store: Store) -> None:
    await put(store, [mail(lane=Lane.PIN)])
    (claimed,) = await claim(store)
    assert claimed.lease_until == NOW + policy.PIN_ATTEMPT_MS + policy.LEASE_SLACK_MS


async def test_not_before_its_time(store: Store) -> None:
    await put(store, [mail(not_before=NOW + 1000)])
    assert await claim(store, NOW + 999) == []
    assert len(await claim(store, NOW + 1000)) == 1


async def test_a_dedupe_key_queues_one_mail_a_society(store: Store) -> None:
    first, again, other, plain = await put(
        store, [mail(1, dedupe_key="k"), mail(2, dedupe_key="k"), mail(3, "two", dedupe_key="k"), mail(4)]
    )
    assert first is not None
    assert again is None
    assert other is not None
    assert plain is not None
    known, new = await put(store, [mail(5, dedupe_key="k"), mail(6, dedupe_key="l")])
    assert known is None
    assert new is not None
    assert {m.recipient[:7] for m in await claim(store)} == {"member1", "member3", "member4", "member6"}


async def test_claimers_never_share_a_row(store: Store) -> None:
    await put(store, [mail(n) for n in range(120)])
    batches = await asyncio.gather(*(claim(store, n=20) for _ in range(8)))
    ids = [m.id for batch in batches for m in batch]
    assert len(ids) == len(set(ids)) == 120


async def test_a_claim_still_open_is_passed_by(store: Store) -> None:
    await put(store, [mail(n) for n in range(4)])
    async with store.begin() as first:
        one = await outbox.claim(first, NOW, 2)
        other = asyncio.create_task(claim(store, n=4))
        # PostgreSQL skips the locked rows at once; SQLite has one writer, so the second claimer waits its turn.
        await asyncio.wait([other], timeout=5 if store.dialect == "postgresql" else 0.1)
        assert other.done() == (store.dialect == "postgresql")
    two = await other
    assert len(one) == len(two) == 2
    assert not {m.id for m in one} & {m.id for m in two}


async def test_a_dead_couriers_lease_runs_out_with_the_same_message_id(store: Store) -> None:
    await put(store, [mail()])
    (lost,) = await claim(store)
    assert await claim(store, lost.lease_until - 1) == []
    (again,) = await claim(store, lost.lease_until)
    assert (again.id, again.message_id, again.attempts) == (lost.id, lost.message_id, 2)


async def test_a_claim_that_was_rolled_back_never_happened(store: Store) -> None:
    await put(store, [mail()])
    async with store.engine.connect() as connection:
        assert len(await outbox.claim(connection, NOW, 1)) == 1
        await connection.rollback()
    (claimed,) = await claim(store)
    assert claimed.attempts == 1


async def test_a_late_word_changes_nothing(store: Store) -> None:
    (mail_id,) = await put(store, [mail()])
    (late,) = await claim(store)
    (current,) = await claim(store, late.lease_until)
    assert await settle(store, late, FAILED) == []
    assert (await row(store, mail_id))[0] == "queued"
    assert await settle(store, current, DELIVERED) == [MailState.DELIVERED]
    assert await settle(store, current, FAILED) == []
    assert (await row(store, mail_id))[0] == "delivered"
    async with store.read() as tx:
        words = (await tx.execute(select(attempt.c.number, attempt.c.outcome, attempt.c.relay_reply))).all()
    assert [tuple(w) for w in words] == [(2, "delivered", "relay:25: 250 2.0.0 queued as 4711")]


async def test_late_words_do_not_hide_good_ones_in_a_batch(store: Store) -> None:
    await put(store, [mail(n) for n in range(6)])
    claimed = await claim(store)
    async with store.begin() as tx:
        assert await outbox.cancel(tx, claimed[2].id, NOW)
        await outbox.retry(tx, claimed[4].id, NOW)
    (stolen,) = await claim(store)
    async with store.begin() as tx:
        settled = await outbox.settle(tx, [Settlement(m, DELIVERED) for m in claimed], NOW + 5)
    assert {m.id for m, _ in settled} == {m.id for m in claimed} - {claimed[2].id, stolen.id}
    assert (await row(store, stolen.id))[0] == "queued"


@pytest.mark.parametrize(
    ("result", "state", "reason", "ended"),
    [
        (DELIVERED, "delivered", None, True),
        (FAILED, "failed", "refused-unknown-user", True),
        (Expired(), "expired", "deadline", True),
        (Cancelled("member-gone"), "cancelled", "member-gone", True),
        (Held("render-error"), "held", "render-error", False),
        (PutBack(NOW + 5), "queued", None, False),
        (DEFERRED, "queued", None, False),
    ],
)
async def test_what_a_result_makes_of_a_row(
    store: Store, result: Result, state: str, reason: str | None, ended: bool
) -> None:
    (mail_id,) = await put(store, [mail()])
    (claimed,) = await claim(store)
    assert await settle(store, claimed, result, NOW + 3) == [state]
    async with store.read() as tx:
        found, attempts = await outbox.show(tx, claimed.id) or (None, [])
    assert (found.id, found.state, found.reason) == (mail_id, state, reason)  # type: ignore[union-attr]  # there is one
    assert found.settled_at == (NOW + 3 if ended else None)  # type: ignore[union-attr]  # there is one
    assert len(attempts) == isinstance(result, Outcome)
    assert await claim(store, NOW + 30_000) == [] or isinstance(result, PutBack)


@pytest.mark.parametrize(("lane", "waits"), [(Lane.PIN, [15, 45, 120, 240]), (Lane.LINK, [60, 180, 420, 900, 1800])])
async def test_a_mail_put_off_waits_longer_each_time(store: Store, lane: Lane, waits: list[int]) -> None:
    (mail_id,) = await put(store, [mail(lane=lane)])
    now = NOW
    for number, wait in enumerate(waits, 1):
        (claimed,) = await claim(store, now)
        assert claimed.attempts == number
        assert await settle(store, claimed, DEFERRED, now) == [MailState.QUEUED]
        due = (await row(store, mail_id))[2]
        assert 800 * wait <= due - now <= 1200 * wait
        assert await claim(store, due - 1) == []
        now = due


async def test_claims_that_came_to_nothing_lengthen_no_wait(store: Store) -> None:
    (mail_id,) = await put(store, [mail()])
    for _ in range(5):
        (claimed,) = await claim(store)
        await settle(store, claimed, PutBack(NOW))
    (claimed,) = await claim(store)
    assert claimed.attempts == 6
    await settle(store, claimed, DEFERRED)
    assert (await row(store, mail_id))[2] <= NOW + 72_000


async def test_mails_put_off_together_come_back_apart(store: Store) -> None:
    await put(store, [mail(n) for n in range(20)])
    claimed = await claim(store)
    async with store.begin() as tx:
        await outbox.settle(tx, [Settlement(m, DEFERRED) for m in claimed], NOW)
        dues = (await tx.execute(select(table.c.next_attempt_at))).scalars().all()
    assert len(set(dues)) > 10


async def test_a_mail_is_given_up_at_its_deadline(store: Store) -> None:
    (mail_id,) = await put(store, [mail(deadline_at=NOW + 30_000)])
    (claimed,) = await claim(store)
    assert await settle(store, claimed, DEFERRED) == [MailState.EXPIRED]
    assert (await row(store, mail_id))[:2] == ("expired", "deadline")


async def test_an_unconfirmed_mail_is_tried_once_more(store: Store) -> None:
    (mail_id,) = await put(store, [mail()])
    (first,) = await claim(store)
    assert await settle(store, first, UNKNOWN) == [MailState.QUEUED]
    (second,) = await claim(store, NOW + HOUR)
    assert second.unconfirmed
    assert second.message_id == first.message_id
    assert await settle(store, second, DEFERRED, NOW + HOUR) == [MailState.QUEUED]
    (put_back,) = await claim(store, NOW + 2 * HOUR)
    assert await settle(store, put_back, PutBack(NOW + 2 * HOUR), NOW + 2 * HOUR) == [MailState.QUEUED]
    (third,) = await claim(store, NOW + 2 * HOUR)
    assert await settle(store, third, UNKNOWN, NOW + 2 * HOUR) == [MailState.FAILED]
    assert (await row(store, mail_id))[:2] == ("failed", outbox.UNCONFIRMED)


async def test_a_paused_society_waits_alone(store: Store) -> None:
    await put(store, [mail(1, "paused"), mail(2, "open"), mail(3, "resumed")])
    async with store.begin() as tx:
        await tx.execute(
            insert(tx)(society_state),
            [{"society": "paused", "paused_at": NOW}, {"society": "resumed", "paused_at": None}],
        )
    assert {m.society for m in await claim(store)} == {"open", "resumed"}
    async with store.begin() as tx:
        await tx.execute(society_state.update().values(paused_at=None))
    assert [m.society for m in await claim(store)] == ["paused"]


async def test_mails_are_held_by_society_and_all_together(store: Store) -> None:
    await put(store, [mail(1, "held"), mail(2, "open"), mail(3, "open", Lane.PIN, deadline_at=NOW + HOUR)])
    async with store.begin() as tx:
        await tx.execute(insert(tx)(society_state), [{"society": outbox.ALL, "mails_held_at": NOW}])
    assert await claim(store) == []
    async with store.begin() as tx:
        await tx.execute(society_state.update().values(mails_held_at=None))
        await tx.execute(insert(tx)(society_state), [{"society": "held", "mails_held_at": NOW}])
    late = await claim(store, NOW + HOUR)
    assert [(m.society, m.lane, m.last_moment <= NOW + HOUR) for m in late] == [
        ("open", Lane.PIN, True),
        ("open", Lane.LINK, False),
    ]
    async with store.begin() as tx:
        await tx.execute(society_state.update().values(mails_held_at=None))
    assert [m.society for m in await claim(store)] == ["held"]


async def test_staff_hold_release_cancel_and_retry(store: Store) -> None:
    (mail_id,) = await put(store, [mail(deadline_at=NOW + HOUR)])
    assert mail_id is not None
    async with store.begin() as tx:
        assert await outbox.hold(tx, mail_id, NOW)
        assert not await outbox.hold(tx, mail_id, NOW)
    assert await claim(store) == []
    async with store.begin() as tx:
        assert not await outbox.release(tx, mail_id, NOW + HOUR)  # its secret is dead by then
        assert await outbox.release(tx, mail_id, NOW)
    (claimed,) = await claim(store)
    assert await settle(store, claimed, FAILED) == [MailState.FAILED]
    async with store.begin() as tx:
        assert await outbox.retry(tx, mail_id, NOW + 1)
        assert await outbox.cancel(tx, mail_id, NOW + 2)
        assert not await outbox.cancel(tx, mail_id, NOW + 2)
        assert not await outbox.retry(tx, mail_id, NOW + 2)
        assert not await outbox.retry(tx, 12345, NOW + 2)
    assert (await row(store, mail_id))[0] == "cancelled"


async def test_lists_and_counts(store: Store) -> None:
    await put(store, [mail(1), mail(2, lane=Lane.BULK)])
    await put(store, [mail(3, "two"), mail(4)], NOW + 10)
    async with store.read() as tx:
        counts = [tuple(r) for r in await outbox.status(tx)]
        recipients = [r.recipient[:7] for r in await outbox.list_mails(tx, society="one", state="queued", limit=1)]
        found = await outbox.list_mails(tx, recipient="member3@docomo.ne.jp")
        nothing = await outbox.show(tx, 1)
    assert counts == [("one", 1, "queued", 2, NOW), ("one", 4, "queued", 1, NOW), ("two", 1, "queued", 1, NOW + 10)]
    assert recipients == ["member4"]
    assert [r.society for r in found] == ["two"]
    assert nothing is None
