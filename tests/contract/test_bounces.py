"""Reports on our mails, through the one funnel: what is proved changes something, once; nothing else does. Case 45."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from mailbot.credentials import verp
from mailbot.delivery import outbox as queue
from mailbot.delivery import suppression
from mailbot.delivery.mails import NewMail, Settlement
from mailbot.delivery.outbox import Cancelled
from mailbot.delivery.policy import Lane, MailState
from mailbot.intake.reception import Reception, Vouching
from mailbot.intake.screening import Reason
from mailbot.mail import status
from mailbot.mail.address import parse_typed
from mailbot.mail.authentication import Authentication, Result
from mailbot.mail.causes import Cause
from mailbot.mail.envelope import Envelope
from mailbot.mail.inbound import Inbound
from mailbot.mail.reports import read
from mailbot.mail.status import Outcome, OutcomeKind, Status
from mailbot.office.members import card
from mailbot.office.timeline import timeline
from mailbot.registration import bounces, login, mailfacts, profile, timetable, wishes
from mailbot.registration.outcomes import Updated
from mailbot.store.alarms import alarms
from mailbot.store.tables import address, attempt, audit, inbox, link, outbox
from mailbot.store.tables import suppression as table
from tests.support.factory import DAY, HOUR, MINUTE, NETWORK, PASSWORD, UNCHECKED, Joined, World, texts

CORPUS = Path(__file__).parents[1] / "corpus" / "bounces"
SOCIETY = "yokokou"
HANAKO = "hanako@phone.example"
_NUMBERS = count(1)
UNKNOWN, FULL, DMARC, DELAYED, VACATION, COMPLAINT, PERSON = (
    next(file for file in CORPUS.glob("*.eml") if file.stem.partition("-")[2] == name).read_bytes()
    for name in ("postfix-unknown", "full", "dmarc", "delayed", "vacation", "complaint", "a-person")
)

Receive = Callable[[Envelope], Awaitable[Status]]


@asynccontextmanager
async def receiving(here: World, vouching: Vouching = UNCHECKED) -> AsyncIterator[Receive]:
    made = Reception(here.ctx, 64, vouching)
    running = asyncio.create_task(made.run())
    try:
        yield made.receive
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def come(
    here: World,
    content: bytes,
    *to: str,
    sender: str | None = None,
    society: str = SOCIETY,
    vouching: Vouching = UNCHECKED,
) -> str:
    """Takes in what came to `to` -> the reason it ended with."""
    bounce = here.society(society).addresses.bounce
    recipients = tuple(parse_typed(one) for one in (to or (bounce,)))
    author = parse_typed(sender) if sender else None
    size = len(content)
    async with receiving(here, vouching) as receive:
        envelope = Envelope(author, recipients, content, here.now, "192.0.2.7", "mx.example", "smtp", size)
        assert await receive(envelope) == status.OK
    here.now += 1
    return str((await here.rows(select(inbox.c.reason).order_by(inbox.c.received_at.desc())))[0][0])


async def blank(here: World, sender: str = HANAKO, vouching: Vouching = UNCHECKED) -> str:
    content = f"From: {sender}\r\nTo: touroku@yokokou.example\r\nMessage-ID: <{here.now}@phone.example>\r\n\r\n"
    return await come(here, content.encode(), "touroku@yokokou.example", sender=sender, vouching=vouching)


async def sent(here: World) -> Any:
    """The newest mail, as if the relay had just taken it."""
    (row, *_) = await here.rows(select(outbox).order_by(outbox.c.created_at.desc(), outbox.c.lane.desc()))
    async with here.ctx.store.begin() as tx:
        mine = update(outbox).where(outbox.c.id == row.id)
        await tx.execute(mine.values(state="delivered", attempts=1, settled_at=here.now))
    return row


def tagged(here: World, row: Any, society: str = SOCIETY) -> str:
    return verp.tagged(here.ctx.ring, society, here.society(society).addresses.bounce, row.id, here.now)


def report(content: bytes = UNKNOWN) -> bytes:
    """A report that was not seen before."""
    return content.replace(b"Message-ID: <", b"Message-ID: <%d." % next(_NUMBERS))


async def known(here: World) -> dict[str, str]:
    return {row.address: row.cause for row in await here.rows(select(table).order_by(table.c.last_at))}


async def fate_of_all(here: World) -> list[Any]:
    async with here.ctx.store.read() as tx:
        return list(await mailfacts.mail_facts(here.ctx, tx, await here.mails(), here.now))


async def test_a_proved_report_fails_the_mail_and_suppresses_its_address(here: World) -> None:
    await blank(here)
    mail = await sent(here)
    assert await come(here, report(), tagged(here, mail)) == Reason.DELIVERY_REPORT
    (row,) = await here.rows(select(outbox))
    assert (row.state, row.reason, row.settled_at) == ("failed", "bounced-unknown-user", here.now - 1)
    (said,) = await here.rows(select(attempt))
    assert said.outcome == "bounced"
    assert "5.1.1" in said.relay_reply
    (noted,) = await here.rows(select(table))
    assert (noted.address, noted.cause, noted.source, noted.outbox_id) == (HANAKO, "unknown-user", "report", row.id)
    assert await here.count(inbox, inbox.c.outbox_id == row.id, inbox.c.purpose == "bounce") == 1
    assert await here.count(outbox) == 1  # nothing is ever answered


async def test_a_blank_mail_from_it_ends_that_before_its_answer_is_queued(here: World) -> None:
    await blank(here)
    await come(here, report(), tagged(here, await sent(here)))
    here.now += HOUR
    assert await known(here) == {HANAKO: "unknown-user"}
    assert await blank(here) == Reason.ACCEPTED
    assert await known(here) == {}
    assert isinstance((await fate_of_all(here))[-1], dict)


class Observing:
    """A robot that looks at its senders, and decides nothing by it."""

    binding = False

    def __init__(self, dmarc: Result) -> None:
        self.known = Authentication(dmarc=dmarc)

    async def check(self, envelope: Envelope, inbound: Inbound) -> Authentication:
        return self.known


async def test_a_blank_mail_that_nobody_vouches_for_is_answered_and_ends_nothing(here: World) -> None:
    await blank(here)
    await come(here, report(), tagged(here, await sent(here)))
    here.now += HOUR
    assert await blank(here, vouching=Observing(Result.FAIL)) == Reason.ACCEPTED
    assert await known(here) == {HANAKO: "unknown-user"}
    here.now += HOUR
    assert await blank(here, vouching=Observing(Result.PASS)) == Reason.ACCEPTED
    assert await known(here) == {}


async def test_what_the_web_entry_queues_for_it_is_not_sent(here: World) -> None:
    await blank(here)
    await come(here, report(), tagged(here, await sent(here)))
    await here.link(SOCIETY, HANAKO)
    assert (await fate_of_all(here))[-1] == Cancelled("suppressed")


async def test_a_forged_report_changes_nothing(here: World) -> None:
    await blank(here)
    mail = await sent(here)
    right = tagged(here, mail)
    local, _, domain = right.partition("@")
    forged = {
        "none": here.society(SOCIETY).addresses.bounce,
        "wrong": f"{local[:-1]}{'a' if local[-1] != 'a' else 'b'}@{domain}",
        "other-society": verp.tagged(here.ctx.ring, "hpe", f"{local.partition('+')[0]}@{domain}", mail.id, here.now),
        "other-mail": f"{local.partition('+')[0]}+aaaaaaaaaaaab{local.partition('+')[2][13:]}@{domain}",
        "cut": f"{local[:-1]}@{domain}",
    }
    assert {what: await come(here, report(), to) for what, to in forged.items()} == dict.fromkeys(
        forged, Reason.UNPROVED_REPORT
    )
    (row,) = await here.rows(select(outbox))
    assert row.state == "delivered"
    assert await known(here) == {}
    assert await here.count(attempt) == 0


async def test_a_report_counts_once_in_any_letter_case(here: World) -> None:
    await blank(here)
    mail = await sent(here)
    local, _, domain = tagged(here, mail).partition("@")
    assert await come(here, report(), f"{local.upper()}@{domain}") == Reason.DELIVERY_REPORT
    assert await come(here, report(), tagged(here, mail)) == Reason.LATE_REPORT
    assert [row.count for row in await here.rows(select(table))] == [1]
    here.now += HOUR
    await blank(here)  # clears
    assert await come(here, report(), tagged(here, mail)) == Reason.LATE_REPORT
    assert await known(here) == {}


async def test_a_report_after_a_week_is_too_late(here: World) -> None:
    await blank(here)
    mail = await sent(here)
    here.now += 7 * DAY + MINUTE
    assert await come(here, report(), tagged(here, mail)) == Reason.LATE_REPORT
    assert await known(here) == {}


async def test_a_report_may_be_faster_than_the_courier_settles(here: World) -> None:
    await blank(here)
    async with here.ctx.store.begin() as tx:
        (mail,) = await queue.claim(tx, here.now, 1)
    assert await come(here, report(), tagged(here, mail)) == Reason.DELIVERY_REPORT
    assert [row.state for row in await here.rows(select(outbox))] == ["failed"]


async def test_a_report_about_the_first_copy_does_not_stop_a_second_that_was_put_off(here: World) -> None:
    await blank(here)
    mail = await sent(here)
    assert await come(here, report(FULL), tagged(here, mail)) == Reason.DELIVERY_REPORT
    later = Outcome(OutcomeKind.DEFERRED, Status(451, "4.7.1", "greylisted"), "relay")
    async with here.ctx.store.begin() as tx:
        assert await queue.retry(tx, mail.id, here.now)
        (again,) = await queue.claim(tx, here.now, 1)
        await queue.settle(tx, [Settlement(again, later)], here.now)
    assert await come(here, report(FULL), tagged(here, mail)) == Reason.LATE_REPORT
    assert [row.state for row in await here.rows(select(outbox))] == ["queued"]


async def test_a_report_about_the_first_copy_does_not_stop_the_second(here: World) -> None:
    await blank(here)
    mail = await sent(here)
    assert await come(here, report(FULL), tagged(here, mail)) == Reason.DELIVERY_REPORT
    async with here.ctx.store.begin() as tx:
        assert await queue.retry(tx, mail.id, here.now)
    assert await come(here, report(FULL), tagged(here, mail)) == Reason.LATE_REPORT
    assert [row.state for row in await here.rows(select(outbox))] == ["queued"]


@pytest.mark.parametrize(
    ("state", "reason", "after"),
    [
        ("expired", "unconfirmed", "expired"),
        ("failed", "unconfirmed", "failed"),
        ("queued", "unconfirmed", "failed"),
        ("cancelled", "staff", "cancelled"),
        ("held", "staff", "held"),
        ("expired", "deadline", None),
        ("failed", "refused-full", None),
    ],
)
async def test_a_report_on_a_mail_that_ended_otherwise(here: World, state: str, reason: str, after: str | None) -> None:
    await blank(here)
    mail = await sent(here)
    settled = None if state in ("held", "queued") else here.now
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(outbox).values(state=state, reason=reason, settled_at=settled))
    told = Reason.DELIVERY_REPORT if after else Reason.LATE_REPORT
    assert await come(here, report(), tagged(here, mail)) == told
    assert await known(here) == ({HANAKO: "unknown-user"} if after else {})
    (row,) = await here.rows(select(outbox))
    assert (row.state, row.reason) == ((after, "bounced-unknown-user") if after else (state, reason))
    assert row.attempts == (2 if after else 1)
    assert await come(here, report(), tagged(here, mail)) == Reason.LATE_REPORT


async def test_reports_are_answered_in_order_whatever_they_are_about(here: World) -> None:
    mails = []
    for number in range(3):
        await blank(here, f"m{number}@phone.example")
        mails.append(await sent(here))
        here.now += 1
    unknown = read(UNKNOWN)
    asked = [bounces.BounceMail(SOCIETY, one.id, unknown) for one in sorted(mails, key=lambda row: -row.id)]
    unproved = bounces.BounceMail(SOCIETY, None, unknown)
    async with here.ctx.store.begin() as tx:
        taken = await bounces.take(here.ctx, tx, [asked[0], unproved, *asked], here.now)
    assert [one.outbox_id for one in taken] == [asked[0].mail_id, None, None, asked[1].mail_id, asked[2].mail_id]


async def test_a_complaint_after_a_week_is_too_late(here: World) -> None:
    await blank(here)
    mail = await sent(here)
    here.now += 7 * DAY + MINUTE
    assert await come(here, report(COMPLAINT), tagged(here, mail)) == Reason.LATE_REPORT
    assert await known(here) == {}


async def test_a_mail_that_never_left_cannot_come_back(here: World) -> None:
    await blank(here)
    (mail,) = await here.rows(select(outbox))
    assert await come(here, report(), tagged(here, mail)) == Reason.LATE_REPORT


async def test_each_kind_of_report(here: World) -> None:
    await blank(here)
    mail = await sent(here)
    for content, reason, cause, state in (
        (DELAYED, Reason.DELAY_REPORT, None, "delivered"),
        (VACATION, Reason.AUTOMATIC_REPLY, None, "delivered"),
        (PERSON, Reason.UNREADABLE_REPORT, None, "delivered"),
        (FULL, Reason.DELIVERY_REPORT, "full", "failed"),
        (COMPLAINT, Reason.COMPLAINT, "complaint", "failed"),
    ):
        assert await come(here, report(content), tagged(here, mail), sender="somebody@x.example") == reason
        assert await known(here) == ({HANAKO: cause} if cause else {})
        assert [row.state for row in await here.rows(select(outbox))] == [state]
        async with here.ctx.store.read() as tx:
            assert [one.kind for one in await alarms(tx)] == (["complaint"] if reason is Reason.COMPLAINT else [])


async def test_a_complaint_tells_its_tag_inside(here: World) -> None:
    await blank(here)
    told = tagged(here, await sent(here)).encode()
    content = COMPLAINT.replace(b"bounce+aaaaaaaaaaaaaaaaaaaaaaaaaa@kenpo.example", told)
    assert await come(here, content) == Reason.COMPLAINT
    assert await known(here) == {HANAKO: "complaint"}


async def test_policy_is_an_alarm_when_more_than_three_refuse(here: World) -> None:
    for number in range(4):
        await blank(here, f"m{number}@phone.example")
        await come(here, report(DMARC), tagged(here, await sent(here)))
        async with here.ctx.store.read() as tx:
            assert [one.kind for one in await alarms(tx)] == (["mail-refused"] if number == 3 else [])
    assert await known(here) == {}


async def refused(here: World, recipient: str, cause: Cause, society: str = SOCIETY) -> list[str]:
    """The relay refuses a mail for good, in words without a code -> the alarms."""
    outcome = Outcome(OutcomeKind.FAILED, Status(554, "", "Message rejected"), "relay", cause=cause)
    async with here.ctx.store.begin() as tx:
        await queue.put(tx, [NewMail(society, "invitation", Lane.LINK, recipient)], here.now, "m.example")
        settlements = [Settlement(mail, outcome) for mail in await queue.claim(tx, here.now, 9)]
        await queue.settle(tx, settlements, here.now)
        await bounces.refused(here.ctx, tx, settlements, here.now)
        return [one.kind for one in await alarms(tx)]


async def test_refusals_by_the_relay_count_by_their_cause_for_a_day_in_each_society(here: World) -> None:
    for number in range(4):
        assert await refused(here, f"a{number}@phone.example", Cause.FILTERED) == []
    for number in range(3):
        assert await refused(here, f"b{number}@phone.example", Cause.POLICY) == []
    assert await refused(here, "b0@phone.example", Cause.POLICY) == []  # three recipients still
    assert await refused(here, "c@phone.example", Cause.POLICY, "hpe") == []
    here.now += DAY
    assert await refused(here, "d@phone.example", Cause.POLICY) == []
    assert await refused(here, "e@phone.example", Cause.POLICY) == []
    assert await refused(here, "f@phone.example", Cause.POLICY) == []
    assert await refused(here, "g@phone.example", Cause.POLICY) == ["mail-refused"]


async def member(here: World) -> Joined:
    who = await here.join(SOCIETY)
    await here.register(who, "hanako-y", HANAKO)
    return who


async def dead(here: World) -> Joined:
    """A member whose only address ceased to exist after the completion mail."""
    who = await member(here)
    await come(here, report(), tagged(here, await sent(here)))
    return who


async def test_a_completion_mail_that_comes_back_is_put_before_staff(here: World) -> None:
    await dead(here)
    assert await here.count(audit, audit.c.event == "completion-undelivered") == 1


async def test_a_dead_address_proves_nobody(here: World) -> None:
    who = await dead(here)
    assert await here.count(address, address.c.unreachable_at.is_not(None)) == 1
    await blank(here)  # whoever has the mailbox now
    before = len(await here.mails())
    assert await wishes.request(here.ctx, who.society, HANAKO, NETWORK, here.now) is None
    assert await wishes.request(here.ctx, who.society, "nobody@phone.example", NETWORK, here.now) is None
    async with here.ctx.store.begin() as tx:
        await timetable.due(here.ctx, tx, here.now)
    assert len(await here.mails()) == before
    assert await here.count(audit, audit.c.event == "reissue-needs-staff", audit.c.member_id == who.id) == 1
    assert await here.count(link, link.c.purpose == "reissue") == 0


async def test_staff_see_what_happened_in_words(here: World) -> None:
    who = await dead(here)
    moments = await timeline(here.ctx, who.society, who.id)
    assert moments is not None
    told = {one.event: one.what for one in moments}
    assert "届かなかったという知らせが来ました" in told["mail-bounced"]
    assert "このあて先のメールアドレスはありません（5.1.1）" in told["mail-bounced"]
    assert HANAKO in told["address-unknown-user"]
    assert "本人の確認（再発行など）に使えなくなった" in told["address-unreachable"]
    found = await card(here.ctx, who.society, who.id, actor="staff", now=here.now)
    assert found is not None
    assert found.member.unreachable == {1}


async def test_known_unknown_and_suppressed_addresses_cost_a_page_the_same(here: World) -> None:
    """Case 75."""
    who = await dead(here)
    other = await here.join(SOCIETY)
    await here.register(other, "taro-y", "taro@phone.example")
    for typed in (HANAKO, "taro@phone.example", "nobody@phone.example"):
        before = await here.count(link)
        assert await wishes.request(here.ctx, who.society, typed, NETWORK, here.now) is None
        assert await here.count(link) == before + 1


async def test_letters_queued_before_go_nowhere_either(here: World) -> None:
    who = await member(here)
    completion = await sent(here)
    assert await wishes.request(here.ctx, who.society, HANAKO, NETWORK, here.now) is None
    async with here.ctx.store.begin() as tx:
        await timetable.due(here.ctx, tx, here.now)
    await come(here, report(), tagged(here, completion))
    async with here.ctx.store.begin() as tx:
        await suppression.clear(tx, [(SOCIETY, HANAKO)])
    letters = dict(zip([mail.letter for mail in await here.mails()], await fate_of_all(here), strict=True))
    assert letters["reissue"] == Cancelled("address-unreachable")


async def test_the_profile_says_so_and_proves_it_anew(here: World) -> None:
    who = await dead(here)
    view = await profile.view(here.ctx, who.society, who.id, here.now)
    assert [one.unreachable for one in view.addresses] == [True]
    form = {"login_id": "hanako-y", "nickname": "はな", "address_1": HANAKO, "password": PASSWORD}
    assert await profile.update(here.ctx, who.society, who.id, form, NETWORK, here.now) == Updated(())
    form["prove_1"] = "yes"
    assert await profile.update(here.ctx, who.society, who.id, form, NETWORK, here.now) == Updated((HANAKO,))
    proof = (await here.mails("address-proof"))[-1]
    assert isinstance((await fate_of_all(here))[-1], dict)
    assert proof.link_id is not None
    assert await profile.prove_address(here.ctx, who.society, proof.link_id, here.now) is True
    view = await profile.view(here.ctx, who.society, who.id, here.now)
    assert [one.unreachable for one in view.addresses] == [False]


async def test_a_login_by_pin_says_what_to_do(here: World) -> None:
    who = await here.join("hpe")
    good = "Umi-no-9-machi"
    await here.register(who, "ren-hp", "ren@private.example", password=good, password_again=good)
    arrived = [(one, MailState.DELIVERED) for one in await here.mails("completion")]
    async with here.ctx.store.begin() as tx:
        await mailfacts.mail_settled(here.ctx, tx, arrived, here.now)
    mail = await sent(here)
    assert mail.letter == "completion"
    await come(here, report(), tagged(here, mail, "hpe"), society="hpe")
    refused = await login.log_in(here.ctx, here.society("hpe"), "ren-hp", good, NETWORK, here.now)
    assert "お困りのときは" in texts(refused)[0]
    assert await here.mails("pin") == []


async def test_which_letters_still_go_out() -> None:
    now = 10 * DAY

    def fates(cause: Cause, age: int) -> str:
        found = [suppression.fate({cause: now - age}, lane, now) for lane in Lane]
        return " ".join(one.value for one in found)

    assert fates(Cause.UNKNOWN_USER, 9 * DAY) == "never never never never never"
    assert fates(Cause.FULL, HOUR) == "send send send wait wait"
    assert fates(Cause.FULL, DAY) == "send send send send send"
    assert fates(Cause.DISABLED, HOUR) == "send send send wait wait"
    assert fates(Cause.FILTERED, HOUR) == "send send send send send"
    assert fates(Cause.COMPLAINT, 9 * DAY) == "send send send send never"
    assert suppression.fate({}, Lane.BULK, now) is suppression.Fate.SEND
    both = {Cause.COMPLAINT: now - 9 * DAY, Cause.FULL: now - HOUR}
    fates_of_both = [suppression.fate(both, lane, now) for lane in (Lane.LINK, Lane.COMPLETION, Lane.BULK)]
    assert [one.value for one in fates_of_both] == ["send", "wait", "never"]
