"""The one funnel on both databases: nothing twice, nobody dropped silently, one bad mail harms no other."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from sqlalchemy import func, select, update

from mailbot.intake.reception import Reception
from mailbot.intake.screening import Reason
from mailbot.mail import status
from mailbot.mail.address import parse_typed
from mailbot.mail.envelope import Envelope
from mailbot.mail.status import Status
from mailbot.registration import invite, stops
from mailbot.registration.context import Context
from mailbot.store.alarms import alarms
from mailbot.store.tables import inbox, link, outbox
from tests.support.factory import HOUR, MINUTE, NOW, UNCHECKED, World, settings

REGISTRATION = "touroku@yokokou.example"
ROSTER = {"SOCIETY_PER_HOUR_MIN": "1", "SOCIETY_PER_HOUR_PERCENT": "100", "OTHER_DOMAIN_PERCENT": "100"}


def mail(
    sender: str | None = "hanako@phone.example",
    *,
    to: tuple[str, ...] = (REGISTRATION,),
    message_id: str = "<1@phone.example>",
    at: int = NOW,
    peer: str = "192.0.2.7",
    headers: str = "",
    header_from: str | None = None,
) -> Envelope:
    lines = f"From: {header_from or sender or 'hanako@phone.example'}\r\nTo: {to[0]}\r\n"
    lines += f"Message-ID: {message_id}\r\nDate: Fri, 20 Nov 2026 15:50:00 +0900\r\n{headers}\r\n"
    return Envelope(
        parse_typed(sender) if sender else None,
        tuple(parse_typed(one) for one in to),
        lines.encode(),
        at,
        peer,
        "phone.example",
        "smtp",
        len(lines),
    )


@asynccontextmanager
async def receiving(ctx: Context, batch: int = 64) -> AsyncIterator[Callable[[Envelope], Awaitable[Status]]]:
    made = Reception(ctx, batch, UNCHECKED)
    running = asyncio.create_task(made.run())
    try:
        yield made.receive
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def reasons(ctx: Context) -> Counter[str]:
    async with ctx.store.read() as tx:
        return Counter((await tx.scalars(select(inbox.c.reason))).all())


async def queued(ctx: Context) -> list[str]:
    async with ctx.store.read() as tx:
        return list(await tx.scalars(select(outbox.c.recipient).order_by(outbox.c.recipient)))


async def test_one_mail_one_answer_however_often_it_is_delivered(here: World) -> None:
    async with receiving(here.ctx) as receive:
        for at in (NOW, NOW + MINUTE, NOW + HOUR):
            assert await receive(mail(at=at)) == status.OK
    assert await queued(here.ctx) == ["hanako@phone.example"]
    assert await reasons(here.ctx) == {"accepted": 1}
    async with here.ctx.store.read() as tx:
        row = (await tx.execute(select(inbox))).one()
        answer = (await tx.execute(select(outbox))).one()
    assert row.outbox_id == answer.id
    assert answer.in_reply_to == "<1@phone.example>"


async def test_the_same_mail_twice_in_one_batch(here: World) -> None:
    async with receiving(here.ctx) as receive:
        answers = await asyncio.gather(*(receive(mail()) for _ in range(5)))
    assert answers == [status.OK] * 5
    assert await queued(here.ctx) == ["hanako@phone.example"]


async def test_fifty_mails_in_ten_seconds_are_one_answer(here: World) -> None:
    async with receiving(here.ctx) as receive:
        answers = await asyncio.gather(
            *(receive(mail(message_id=f"<{n}@phone.example>", at=NOW + 200 * n)) for n in range(50))
        )
    assert set(answers) == {status.OK}
    assert await queued(here.ctx) == ["hanako@phone.example"]
    assert await reasons(here.ctx) == {"accepted": 1, "over-budget": 49}


async def test_a_later_mail_repeats_the_same_link_while_half_its_life_remains(here: World) -> None:
    async with receiving(here.ctx) as receive:
        for number, at in enumerate((NOW, NOW + HOUR, NOW + 2 * HOUR, NOW + 4 * HOUR)):
            assert await receive(mail(message_id=f"<{number}@phone.example>", at=at)) == status.OK
    async with here.ctx.store.read() as tx:
        links = list(await tx.scalars(select(outbox.c.link_id).order_by(outbox.c.created_at)))
        live = await tx.scalar(
            select(func.count())
            .select_from(link)
            .where(link.c.revoked_at.is_(None), link.c.expires_at > NOW + 4 * HOUR)
        )
    assert links[0] == links[1]  # two of three hours are left
    assert links[2] != links[1]  # one of three is left: a new link
    assert len(links) == 4
    assert live is not None
    assert live <= 2


async def test_forged_senders_stay_under_the_societys_cap_and_raise_an_alarm(here: World) -> None:
    made = dataclasses.replace(
        here.ctx, settings=settings(here.ctx.settings.folder.parent, {"BUDGETS_SOCIETY_PER_HOUR_MIN": "20"})
    )
    async with receiving(made) as receive:
        answers = Counter(
            await asyncio.gather(
                *(
                    receive(
                        mail(f"v{n}@d{n}.example", message_id=f"<{n}@x.example>", peer=f"10.{n // 250}.{n % 250}.1")
                    )
                    for n in range(500)
                )
            )
        )
    assert answers == {status.OK: 20, status.OVER_LIMIT: 480}  # 4xx: the sender's server keeps it, nobody is dropped
    assert len(await queued(made)) == 20
    async with made.store.read() as tx:
        assert [row.kind for row in await alarms(tx)] == ["budget-society"]


async def test_a_posting_day_is_put_off_and_not_dropped(here: World) -> None:
    made = dataclasses.replace(
        here.ctx, settings=settings(here.ctx.settings.folder.parent, {"BUDGETS_DOMAIN_PER_HOUR": "2"})
    )
    async with receiving(made, batch=1) as receive:
        sent = [mail(f"m{n}@phone.example", message_id=f"<{n}@phone.example>") for n in range(3)]
        assert [await receive(one) for one in sent] == [status.OK, status.OK, status.OVER_LIMIT]
        again = dataclasses.replace(sent[2], received_at=NOW + HOUR)
        assert await receive(again) == status.OK
    assert len(await queued(made)) == 3


async def test_a_finished_registration_gives_the_address_its_budget_back(here: World) -> None:
    joined = await here.join("yokokou", nickname="はな")
    async with receiving(here.ctx) as receive:
        assert await receive(mail()) == status.OK
        await here.register(joined, "hanako-123x", "hanako@phone.example")
        assert await receive(mail(message_id="<2@phone.example>", at=NOW + 1)) == status.OK
    assert (await reasons(here.ctx))["accepted"] == 2


async def test_a_paused_society_answers_nobody_and_keeps_the_facts(here: World) -> None:
    await stops.pause(here.ctx, "yokokou", "test", "tester", NOW)
    async with receiving(here.ctx) as receive:
        assert await receive(mail()) == status.OK
    assert await queued(here.ctx) == []
    assert await reasons(here.ctx) == {"society-paused": 1}


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (mail(None), Reason.NULL_SENDER),
        (mail(headers="Auto-Submitted: auto-replied\r\n"), Reason.AUTOMATIC_REPLY),
        (mail(header_from="other@phone.example"), Reason.SENDER_MISMATCH),
        (mail(to=("postmaster@yokokou.example",)), Reason.NOT_FOR_ANSWER),
        (mail(to=("bounce@yokokou.example",)), Reason.UNPROVED_REPORT),
        (mail("info@yokokou.example"), Reason.OWN_ADDRESS),
    ],
)
async def test_what_is_not_answered_is_noted(here: World, envelope: Envelope, reason: Reason) -> None:
    async with receiving(here.ctx) as receive:
        assert await receive(envelope) == status.OK
    assert await queued(here.ctx) == []
    assert await reasons(here.ctx) == {reason.value: 1}


async def test_of_several_recipients_the_registration_address_wins(here: World) -> None:
    async with receiving(here.ctx) as receive:
        to = ("postmaster@yokokou.example", REGISTRATION, "info@yokokou.example")
        assert await receive(mail(to=to)) == status.OK
    assert await queued(here.ctx) == ["hanako@phone.example"]


async def test_one_mail_that_fails_harms_no_other(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = invite.request_links

    async def broken(ctx: Context, tx: object, requests: list[object], now: int) -> object:
        if any("bad" in str(one) for one in requests):
            raise RuntimeError("db password=secret")
        return await real(ctx, tx, requests, now)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr("mailbot.intake.reception.request_links", broken)
    names = ["a", "b", "bad", "c"]
    async with receiving(here.ctx) as receive:
        answers = await asyncio.gather(
            *(receive(mail(f"{name}@phone.example", message_id=f"<{name}@phone.example>")) for name in names)
        )
        assert answers == [status.OK, status.OK, status.OUTAGE, status.OK]
        assert await queued(here.ctx) == ["a@phone.example", "b@phone.example", "c@phone.example"]
        monkeypatch.setattr("mailbot.intake.reception.request_links", real)
        assert await receive(mail("bad@phone.example", message_id="<bad@phone.example>")) == status.OK
    assert len(await queued(here.ctx)) == 4


async def test_two_robots_take_the_same_mail_once(here: World) -> None:
    async with receiving(here.ctx) as one, receiving(here.ctx) as two:
        answers = await asyncio.gather(*(receive(mail()) for receive in (one, two) for _ in range(4)))
        answers += [await two(mail()) for answer in answers if answer == status.OUTAGE]  # the sender tries again
    assert status.OK in answers
    assert await queued(here.ctx) == ["hanako@phone.example"]


async def test_a_cap_follows_the_roster(here: World) -> None:
    made = dataclasses.replace(
        here.ctx,
        settings=settings(
            here.ctx.settings.folder.parent,
            {f"BUDGETS_{name}": value for name, value in ROSTER.items()},
        ),
    )
    for _ in range(3):
        await here.join("yokokou")
    async with receiving(made, batch=1) as receive:
        answers = [
            await receive(mail(f"m{n}@phone.example", message_id=f"<{n}@phone.example>", at=NOW + n)) for n in range(4)
        ]
    assert answers == [status.OK] * 3 + [status.OVER_LIMIT]


async def test_what_still_waits_when_the_robot_stops_is_put_off(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = asyncio.Event()

    async def stuck(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("mailbot.intake.reception.request_links", stuck)
    made = Reception(here.ctx, 1, UNCHECKED)
    running = asyncio.create_task(made.run())
    # more than the queue holds: some wait for room
    waiting = [asyncio.create_task(made.receive(mail(message_id=f"<{n}@phone.example>"))) for n in range(20)]
    await reached.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert await asyncio.gather(*waiting) == [status.SHUTTING_DOWN] * 20
    assert await made.receive(mail()) == status.SHUTTING_DOWN
    assert await queued(here.ctx) == []
    assert await reasons(here.ctx) == {}


async def test_a_spent_link_is_not_mailed_again(here: World) -> None:
    async with receiving(here.ctx) as receive:
        assert await receive(mail()) == status.OK
        async with here.ctx.store.begin() as tx:
            await tx.execute(update(link).values(spent_at=NOW))
        assert await receive(mail(message_id="<2@phone.example>", at=NOW + 2 * MINUTE)) == status.OK
    async with here.ctx.store.read() as tx:
        links = list(await tx.scalars(select(outbox.c.link_id)))
    assert len(set(links)) == 2
