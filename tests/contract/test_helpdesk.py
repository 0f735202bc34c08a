"""The help desk on both databases: what is heard, what is only noted, who is told, and what staff see."""

import asyncio
import dataclasses
import json
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from mailbot.delivery.mails import Cancelled
from mailbot.delivery.policy import Lane
from mailbot.mail import status
from mailbot.mail.address import parse_typed
from mailbot.mail.envelope import Envelope
from mailbot.mail.status import Status
from mailbot.office import help as desk
from mailbot.office import keywork
from mailbot.registration import helpdesk, mailfacts, stops, timetable
from mailbot.registration.context import Context
from mailbot.store.alarms import alarms
from mailbot.store.tables import address, audit, budget, help_request, inbox, outbox
from tests.contract.test_reception import receiving
from tests.support.factory import DAY, HOUR, MINUTE, NOW, World, settings

SOCIETY, DESK = "hpe", "helpdesk@hpe.example"
ASKS = "社員番号10023の高橋です。\n仮パスワードが届きません。"
WIDE = {"BUDGETS_ADDRESS_PER_MINUTE": "100", "BUDGETS_ADDRESS_PER_HOUR": "100", "BUDGETS_ADDRESS_PER_DAY": "100"}


def mail(
    number: int = 1,
    sender: str | None = "taka@company.example",
    *,
    at: int = NOW,
    header_from: str = "",
    headers: str = "",
    subject: str = "user id",
    text: str = ASKS,
    to: str = DESK,
    peer: str = "192.0.2.7",
) -> Envelope:
    lines = f"From: {header_from or sender or 'taka@company.example'}\r\nTo: {to}\r\nSubject: {subject}\r\n"
    lines += (
        f"Message-ID: <{number}@company.example>\r\nDate: Fri, 20 Nov 2026 15:50:00 +0900\r\n{headers}\r\n{text}\r\n"
    )
    from_ = parse_typed(sender) if sender else None
    return Envelope(from_, (parse_typed(to),), lines.encode(), at, peer, "mx.example", "smtp", len(lines))


async def take(ctx: Context, *mails: Envelope) -> list[Status]:
    async with receiving(ctx) as receive:
        return [await receive(one) for one in mails]


def roomy(here: World, **more: str) -> Context:
    """Budgets of addresses as wide as they can be."""
    given = settings(here.ctx.settings.folder.parent, {**WIDE, **more})
    return dataclasses.replace(here.ctx, settings=given)


async def requests(here: World, *, done: bool = False) -> list[desk.Request]:
    async with here.ctx.store.read() as tx:
        return await desk.requests(here.ctx, tx, here.society(SOCIETY), done=done)


async def reasons(here: World) -> list[str]:
    return [row.reason for row in await here.rows(select(inbox.c.reason).order_by(inbox.c.received_at))]


async def test_a_mail_is_one_row_and_one_word_to_its_sender(here: World) -> None:
    assert await take(here.ctx, mail(), mail(at=NOW + MINUTE), mail(at=NOW + DAY)) == [status.OK] * 3
    (row,) = await here.rows(select(help_request))
    (word,) = await here.mails()
    (noted,) = await here.rows(select(inbox))
    assert (row.society, row.state, row.address, row.received_at) == (SOCIETY, "open", "taka@company.example", NOW)
    assert row.outbox_id == noted.outbox_id == word.id
    assert (word.letter, word.lane, word.recipient) == ("help-received", Lane.COMPLETION, "taka@company.example")
    assert (word.in_reply_to, word.facts) == ("<1@company.example>", {"answer": 1})
    async with here.ctx.store.read() as tx:
        assert await mailfacts.mail_facts(here.ctx, tx, [word], NOW) == [{"answer": 1}]
    assert (noted.purpose, noted.action, noted.reason) == ("help", "answer", "accepted")


async def test_what_it_says_is_sealed_and_can_be_read_by_staff(here: World) -> None:
    await take(here.ctx, mail(header_from="=?utf-8?B?6auY5qmL?= <taka@company.example>", text=f"{ASKS}\x1b[2J"))
    (row,) = await here.rows(select(help_request))
    assert not any(word in str(tuple(row)) or word.encode() in bytes(row.sealed) for word in ("10023", "高橋"))
    (one,) = await requests(here)
    assert (one.sender_field, one.subject, one.text) == ("高橋 <taka@company.example>", "user id", ASKS + "[2J")
    assert (one.doubt, one.acknowledged) == ("", True)


async def test_a_sender_is_told_once_a_day(here: World) -> None:
    ctx = roomy(here)
    times = [NOW, NOW + MINUTE, NOW + 23 * HOUR, NOW + DAY, NOW + DAY + HOUR]
    assert await take(ctx, *(mail(number, at=at) for number, at in enumerate(times))) == [status.OK] * 5
    assert [one.acknowledged for one in await requests(here)] == [True, False, False, True, False]
    again = "acknowledged-before"
    assert await reasons(here) == ["accepted", again, again, "accepted", again]
    assert len(await here.mails()) == 2
    await take(ctx, mail(9, "hana@company.example", at=NOW + DAY + HOUR))
    assert len(await here.mails()) == 3


async def test_the_word_uses_the_budget_of_all_mail_to_the_address(here: World) -> None:
    ctx = roomy(here, BUDGETS_ADDRESS_PER_HOUR="1")
    await take(ctx, mail(1, at=NOW))
    async with here.ctx.store.begin() as tx:  # a day has gone by for the word alone
        await tx.execute(budget.delete().where(budget.c.scope == "help-told"))
    await take(ctx, mail(2, at=NOW + MINUTE))
    assert [one.acknowledged for one in await requests(here)] == [True, False]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"sender": None}, "null-sender"),
        ({"headers": "Auto-Submitted: auto-replied\r\n"}, "automatic-reply"),
        ({"headers": "Precedence: bulk\r\n"}, "list-mail"),
        ({"headers": "X-Robot-Id: elsewhere.example\r\n"}, "loop"),
        ({"sender": "no-reply@hpe.example"}, "own-address"),
        ({"sender": DESK}, "own-address"),
        ({"sender": "mailer-daemon@company.example"}, "never-answer-address"),
        ({"headers": "X: y\r\n" * 300}, "broken-headers"),
    ],
)
async def test_what_programs_send_is_noted_only(here: World, given: dict[str, Any], reason: str) -> None:
    assert await take(here.ctx, mail(**given)) == [status.OK]
    assert await reasons(here) == [reason]
    assert await requests(here) == []
    assert await here.mails() == []


@pytest.mark.parametrize(
    ("given", "address_", "reason"),
    [
        ({"header_from": "taka@home.example"}, "taka@home.example", "sender-mismatch"),
        ({"header_from": "a@home.example, b@home.example"}, "taka@company.example", "several-from"),
        ({"header_from": "高橋"}, "taka@company.example", "unreadable-from"),
    ],
)
async def test_a_person_whose_address_is_not_sure_is_heard_and_not_answered(
    here: World, given: dict[str, Any], address_: str, reason: str
) -> None:
    await take(here.ctx, mail(**given))
    (one,) = await requests(here)
    assert (one.address, one.doubt, one.acknowledged, one.text) == (address_, reason, False, ASKS)
    assert await here.mails() == []


async def test_a_flood_from_one_address_is_noted_only(here: World) -> None:
    ctx = roomy(here)
    many = helpdesk.AN_HOUR + 3
    assert await take(ctx, *(mail(n, at=NOW + n) for n in range(many))) == [status.OK] * many
    assert len(await requests(here)) == helpdesk.AN_HOUR
    assert (await reasons(here))[-3:] == ["over-budget"] * 3
    assert len(await here.mails()) == 1


async def test_a_flood_from_many_addresses_waits_and_raises_an_alarm(here: World) -> None:
    ctx = roomy(here, BUDGETS_SOCIETY_PER_HOUR_MIN="5")
    answers = await take(ctx, *(mail(n, f"m{n}@company.example", peer=f"10.{n}.0.1") for n in range(8)))
    assert answers == [status.OK] * 5 + [status.OVER_LIMIT] * 3
    assert len(await requests(here)) == 5
    async with here.ctx.store.read() as tx:
        assert [row.kind for row in await alarms(tx)] == ["budget-help-society"]


async def test_a_flood_of_help_mails_leaves_the_registrations_their_budget(here: World) -> None:
    ctx = roomy(here, BUDGETS_SOCIETY_PER_HOUR_MIN="5")
    await take(ctx, *(mail(n, f"m{n}@company.example", peer=f"10.{n}.0.1") for n in range(8)))
    blank = mail(90, "hana@phone.example", to="touroku@yokokou.example", text="", peer="10.90.0.1")
    assert await take(ctx, blank) == [status.OK]
    assert await reasons(here) == ["accepted"] * 6


async def test_a_paused_society_hears_and_says_nothing(here: World) -> None:
    await stops.pause(here.ctx, SOCIETY, "test", "cli:test", NOW)
    assert await take(here.ctx, mail()) == [status.OK]
    assert [one.acknowledged for one in await requests(here)] == [False]
    assert (await reasons(here), await here.mails()) == (["society-paused"], [])


async def test_the_same_mail_twice_in_a_batch_and_another_with_it(here: World) -> None:
    async with receiving(roomy(here)) as receive:
        answers = await asyncio.gather(*(receive(mail(n)) for n in (1, 1, 2)))
    assert answers == [status.OK] * 3
    assert sorted(one.acknowledged for one in await requests(here)) == [False, True]


# --- what staff see ---------------------------------------------------------------------------------------------------


async def test_whose_address_it_is(here: World) -> None:
    ctx = roomy(here)
    alone = await here.join(SOCIETY, address="taka@company.example", name="高橋一")
    proved = await here.join(SOCIETY, name="夏目花")
    both = await here.join(SOCIETY, address="iku@company.example")
    for _ in range(2):
        await here.join(SOCIETY, address="shared@company.example")
    await here.join("yokokou", address="nobody@company.example")
    async with here.ctx.store.begin() as tx:
        for who, text in ((proved, "hana@home.example"), (both, "iku@company.example")):
            row = {"society": SOCIETY, "member_id": who.id, "slot": 1, "address": text, "address_key": text}
            await tx.execute(insert(address).values(**row, proved_at=NOW))
    senders = ["taka@company", "hana@home", "iku@company", "shared@company", "nobody@company", "Taka@company"]
    await take(ctx, *(mail(n, f"{one}.example", at=NOW + n) for n, one in enumerate(senders)))
    found = [(one.sender.member_id, one.sender.words) for one in await requests(here)]
    assert found == [
        (alone.id, "on file"),
        (proved.id, "proved by the member"),
        (both.id, "on file and proved by the member"),
        (None, "shared by 2 members"),
        (None, "unknown"),
        (None, "unknown"),  # what stands before the at-sign may tell people apart by case
    ]
    assert [one.name for one in await requests(here)][:2] == ["高橋一", "夏目花"]


async def test_show_and_done_are_recorded(here: World) -> None:
    who = await here.join(SOCIETY, address="taka@company.example")
    await take(roomy(here), mail(1), mail(2, at=NOW + HOUR))
    first, second = await requests(here)
    async with here.ctx.store.begin() as tx:
        shown = await desk.show(here.ctx, tx, who.society, first.id, "cli:kaori", NOW)
        assert await desk.show(here.ctx, tx, who.society, 5, "cli:kaori", NOW) is None
    assert shown == first
    for expected in (True, False):
        async with here.ctx.store.begin() as tx:
            assert await desk.close(tx, who.society, first.id, "cli:kaori", NOW + DAY) is expected
    async with here.ctx.store.begin() as tx:  # another society's staff cannot reach it
        assert not await desk.close(tx, here.society("yokokou"), second.id, "cli:kaori", NOW)
        assert await desk.show(here.ctx, tx, here.society("yokokou"), second.id, "cli:kaori", NOW) is None
        assert [tuple(row) for row in await desk.waiting(tx)] == [(SOCIETY, 1, NOW + HOUR)]
    assert await requests(here) == [second]
    assert [(one.state, one.done_by) for one in await requests(here, done=True)] == [
        ("open", None),
        ("done", "cli:kaori"),
    ]
    rows = await here.rows(select(audit.c.event, audit.c.member_id, audit.c.facts).order_by(audit.c.number))
    facts = json.dumps({"request": first.id}, separators=(",", ":"))
    assert rows == [("help-shown", who.id, facts), ("help-done", None, facts)]


async def test_requests_that_are_done_go_after_their_time_and_open_ones_stay(here: World) -> None:
    await take(roomy(here), mail(1), mail(2, at=NOW + 1))
    first, second = await requests(here)
    async with here.ctx.store.begin() as tx:
        await desk.close(tx, here.society(SOCIETY), first.id, "cli:kaori", NOW)
    for days, left in ((90, 2), (91, 1)):
        async with here.ctx.store.begin() as tx:
            await timetable.purge(here.ctx, tx, NOW + days * DAY)
        assert len(await requests(here, done=True)) == left
    assert [one.id for one in await requests(here)] == [second.id]


async def test_a_request_is_sealed_anew_when_a_key_became_known(here: World) -> None:
    await take(here.ctx, mail())
    (before,) = await here.rows(select(help_request.c.sealed))
    ring = here.ctx.ring.rotate_compromised(NOW)
    await keywork.after_compromise(here.ctx, ring, "cli:test", NOW)
    here.ctx = dataclasses.replace(here.ctx, ring=ring)
    assert await here.rows(select(help_request.c.sealed)) != [before]
    assert (await requests(here))[0].text == ASKS
    async with here.ctx.store.read() as tx:
        assert await keywork.live_kids(tx) == {1: 1}


async def test_the_word_is_given_up_when_its_society_is_gone(here: World) -> None:
    await take(here.ctx, mail())
    (word,) = await here.mails()
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(outbox).values(society="gone"))
        gone = dataclasses.replace(word, society="gone")
        assert await mailfacts.mail_facts(here.ctx, tx, [gone], NOW) == [Cancelled("society-gone")]
