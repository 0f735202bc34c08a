"""First credentials by mail: when they go out, what they say, and what takes them back."""

import dataclasses
from typing import Any

import pytest
from sqlalchemy import select, update

from mailbot.delivery.mails import Cancelled, ClaimedMail
from mailbot.delivery.policy import Lane, MailState
from mailbot.registration import credentials_mail, mailfacts, people, timetable
from mailbot.registration.credentials_mail import NotMailed, mail_credentials
from mailbot.registration.people import Person
from mailbot.store import open_store, schema
from mailbot.store.alarms import alarms
from mailbot.store.tables import audit, member, outbox, temporary
from tests.support.factory import DAY, HOUR, MINUTE, NOW, Joined, World

SOCIETY = "hpe"
FILE = "taka@company.example"


async def due(here: World, days: int) -> list[ClaimedMail]:
    """The credentials in the outbox after the timetable's turn `days` after the members joined."""
    here.now = NOW + days * DAY + (here.now - NOW) % DAY + MINUTE
    async with here.ctx.store.begin() as tx:
        await timetable.due(here.ctx, tx, here.now)
    return await here.mails("credentials")


async def facts(here: World, mail: ClaimedMail) -> Any:
    async with here.ctx.store.read() as tx:
        (found,) = await mailfacts.mail_facts(here.ctx, tx, [mail], here.now)
    return found


async def again(here: World, who: Joined) -> NotMailed | None:
    async with here.ctx.store.begin() as tx:
        return await mail_credentials(here.ctx, tx, who.society, who.id, here.now)


async def change(here: World, table: Any, **values: Any) -> None:
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(table).values(**values))


async def test_they_go_out_a_month_after_joining_once(here: World) -> None:
    who = await here.join(SOCIETY, address=FILE, nickname="たかさん")
    assert await due(here, 29) == []
    (mail,) = await due(here, 30)
    assert (mail.recipient, mail.lane, mail.member_id) == (FILE, Lane.BULK, who.id)
    assert mail.facts == {"temporary": who.letter, "generation": 0}
    assert await facts(here, mail) == {
        "login_id": who.login_id,
        "temporary_password": who.password,
        "nickname": "たかさん",
    }
    for days in (31, 60):
        assert [one.id for one in await due(here, days)] == [mail.id]


async def test_nothing_secret_waits_in_the_outbox(here: World) -> None:
    who = await here.join(SOCIETY, address=FILE, nickname="たかさん", password="uRkQpWzTab")
    (mail,) = await due(here, 30)
    (row,) = await here.rows(select(outbox))
    assert not any(secret in str(tuple(row)) for secret in (who.login_id, who.password, "たかさん"))
    found = await facts(here, mail)
    assert (found["login_id"], found["temporary_password"]) == (who.login_id, "uRkQpWzTab")


async def test_who_gets_none(here: World) -> None:
    await here.join(SOCIETY)  # no address on file
    await here.join(SOCIETY, address="left@company.example", left_on="2026-12-01")
    await here.join(SOCIETY, address="over@company.example", expires_at=NOW + 10 * DAY)
    await here.join("yokokou", address="elsewhere@company.example")  # a society with letters on paper
    registered = await here.join(SOCIETY, address="done@company.example")
    revoked = await here.join(SOCIETY, address="revoked@company.example")
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).where(member.c.id == registered.id).values(state="registered"))
        await tx.execute(update(temporary).where(temporary.c.id == revoked.letter).values(state="revoked"))
    later = await here.join(SOCIETY, address="later@company.example", left_on="2027-03-01")
    assert [mail.member_id for mail in await due(here, 30)] == [later.id]


async def test_a_protected_member_s_are_never_mailed_to_an_address_that_others_have(here: World) -> None:
    hidden = await here.join(SOCIETY, address="home@home.example", protected=True)
    other = await here.join(SOCIETY, address="home@home.example")
    alone = await here.join(SOCIETY, address=FILE, protected=True)
    assert {mail.member_id for mail in await due(here, 30)} == {other.id, alone.id}
    assert await again(here, hidden) is NotMailed.SHARED_ADDRESS


async def test_at_most_two_hundred_in_a_turn_and_nobody_is_left_out(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials_mail, "A_TURN", 3)
    who = [await here.join(SOCIETY, address=f"m{n}@company.example") for n in range(7)]
    counts = [len(await due(here, 30)) for _ in range(4)]
    assert counts == [3, 6, 7, 7]
    assert {mail.member_id for mail in await here.mails("credentials")} == {one.id for one in who}


async def test_staff_send_them_before_their_time_and_again_after_an_hour(here: World) -> None:
    who = await here.join(SOCIETY, address=FILE)
    assert await again(here, who) is None
    here.now += HOUR - 1
    assert await again(here, who) is NotMailed.TOO_SOON
    here.now += 1
    assert await again(here, who) is None
    mails = await due(here, 30)  # the month brings no third
    assert len(mails) == 2
    assert {str(await facts(here, mail)) for mail in mails} == {
        str({"login_id": who.login_id, "temporary_password": who.password})
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": "registered"}, NotMailed.REGISTERED),
        ({"left_on": "2026-11-20"}, NotMailed.LEFT),
    ],
)
async def test_staff_are_told_why_not(here: World, changes: dict[str, Any], reason: NotMailed) -> None:
    who = await here.join(SOCIETY, address=FILE)
    await change(here, member, **changes)
    assert await again(here, who) is reason
    assert await here.mails() == []
    assert reason.explanation


async def test_staff_are_told_why_not_of_letters(here: World) -> None:
    paper, nowhere = await here.join("yokokou", address=FILE), await here.join(SOCIETY)
    assert await again(here, paper) is NotMailed.NOT_USED
    assert await again(here, nowhere) is NotMailed.NO_ADDRESS
    assert await again(here, dataclasses.replace(nowhere, id=5)) is NotMailed.UNKNOWN
    who = await here.join(SOCIETY, address=FILE)
    known = here.ctx
    here.ctx = dataclasses.replace(known, ring=known.ring.rotate_compromised(NOW))
    assert await again(here, who) is NotMailed.NO_LETTER
    here.ctx = known
    await change(here, temporary, state="dead")
    assert await again(here, who) is NotMailed.NO_LETTER
    assert {reason.explanation for reason in NotMailed} >= {NotMailed.NO_LETTER.explanation}
    assert len({reason.explanation for reason in NotMailed}) == len(NotMailed)


@pytest.mark.parametrize(
    ("table", "changes", "reason"),
    [
        (temporary, {"state": "revoked"}, "letter-gone"),
        (temporary, {"state": "used"}, "letter-gone"),
        (temporary, {"generation": 1}, "letter-gone"),
        (temporary, {"expires_at": NOW}, "letter-gone"),
        (member, {"state": "registered"}, "member-gone"),
        (member, {"left_on": "2026-11-20"}, "member-gone"),
    ],
)
async def test_a_mail_whose_reason_is_gone_is_cancelled(
    here: World, table: Any, changes: dict[str, Any], reason: str
) -> None:
    await here.join(SOCIETY, address=FILE)
    (mail,) = await due(here, 30)
    await change(here, table, **changes)
    assert await facts(here, mail) == Cancelled(reason)


async def test_they_go_to_the_address_on_file_only(here: World) -> None:
    who = await here.join(SOCIETY, address=FILE)
    (mail,) = await due(here, 30)
    moved = people.seal_person(here.ctx.ring, Person(address="new@company.example"), SOCIETY, who.id, NOW)
    await change(here, member, sealed=moved)
    assert await facts(here, mail) == Cancelled("address-removed")
    async with here.ctx.store.begin() as tx:
        await tx.execute(temporary.delete())
    assert await facts(here, mail) == Cancelled("letter-gone")


async def test_a_key_that_became_known_mails_nothing(here: World) -> None:
    await here.join(SOCIETY, address=FILE)
    (mail,) = await due(here, 30)
    here.ctx = dataclasses.replace(here.ctx, ring=here.ctx.ring.rotate_compromised(NOW))
    assert await facts(here, mail) == Cancelled("key-refused")


async def test_credentials_that_cannot_be_delivered_are_put_before_staff(here: World) -> None:
    who = await here.join(SOCIETY, address=FILE)
    (mail,) = await due(here, 30)
    for state in (MailState.DELIVERED, MailState.CANCELLED, MailState.FAILED):
        async with here.ctx.store.begin() as tx:
            await mailfacts.mail_settled(here.ctx, tx, [(mail, state)], NOW)
    assert await here.rows(select(audit.c.event, audit.c.member_id)) == [("credentials-undelivered", who.id)]
    async with here.ctx.store.read() as tx:
        assert [row.kind for row in await alarms(tx)] == ["credentials-undelivered"]


async def test_who_is_due_is_found_by_index(tmp_path: Any) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'mailbot.sqlite3'}")
    await schema.upgrade(store)
    statement = select(member.c.id).where(
        member.c.society == SOCIETY, credentials_mail.WAITING, member.c.created_at <= 1
    )
    text = str(statement.compile(store.engine.sync_engine, compile_kwargs={"literal_binds": True}))
    async with store.read() as tx:
        plan = [row[-1] for row in await tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    await store.close()
    assert any("ix_member_credentials_due (society=? AND created_at<?)" in line for line in plan), plan
