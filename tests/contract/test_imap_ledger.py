"""Every mail of a folder is answered once, whatever dies in between: on a real Dovecot, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from mailbot.intake.imap import login_problem
from mailbot.intake.imap.client import Connection
from mailbot.intake.imap.ledger import Entry, Ledger, State, Why, listed, overview, rescan
from mailbot.intake.reception import Reception
from mailbot.mail.envelope import Envelope, Purpose
from mailbot.mail.status import Status
from mailbot.store import lease
from mailbot.store.alarms import alarms
from mailbot.store.tables import imap_message, inbox
from tests.support.dovecot import PASSWORD, Dovecot, dovecot
from tests.support.factory import DAY, HOUR, MINUTE, NOW, World
from tests.support.imap import Hands, blank_mail, hands, imap_toml, watching

USERS = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with dovecot() as running:
        yield running


@pytest.fixture
def user() -> str:
    """Every test has a mailbox of its own."""
    return f"box{next(USERS)}"


def at_dovecot(server: Dovecot, here: World, path: Path, user: str, /, **more: Any) -> Hands:
    return hands(here.ctx, path, imap_toml("box", server.port, server.ca_file, path, user, PASSWORD, **more))


async def test_case_53_history_is_not_answered_and_what_comes_later_is(
    here: World, server: Dovecot, user: str, tmp_path: Path
) -> None:
    old = [blank_mail(f"old{n}@phone.example", f"old{n}") for n in range(10_000)]
    server.deliver(user, *old, at=NOW)  # fresh, but there before the robot
    at = at_dovecot(server, here, tmp_path, user)
    async with watching(at):
        await at.learnt()
        server.deliver(user, *(blank_mail(f"p{n}@phone.example", n) for n in range(300)), at=NOW)
        await at.until_ledger(*[("filed", "accepted")] * 300, seconds=60)
    assert sorted(await at.answers()) == sorted(f"p{n}@phone.example" for n in range(300))
    marked = [flags for _, flags, _ in server.folders(user)["INBOX"]]
    assert sum("$RobotDone" in flags for flags in marked) == 300
    assert not any("\\Seen" in flags for flags in marked)


class Killed(BaseException):
    """kill -9, as far as one task can be killed."""


class Deadly:
    """A funnel that dies before or after it has committed."""

    def __init__(self, reception: Reception, step: str) -> None:
        self._reception, self._step = reception, step

    async def receive(self, envelope: Envelope) -> Status:
        if self._step == "before receive":
            raise Killed
        answer = await self._reception.receive(envelope)
        if self._step == "after commit":
            raise Killed
        return answer

    def place(self, envelope: Envelope) -> tuple[str, Purpose, bytes]:
        return self._reception.place(envelope)


STEPS: dict[str, tuple[Any, str] | None] = {
    "before receive": None,
    "after commit": None,
    "before store": (Connection, "mark"),
    "before move": (Connection, "move"),
    "after move": (Ledger, "filed"),
}


@pytest.mark.parametrize("step", STEPS)
async def test_a_robot_that_dies_at_any_step_answers_once(
    here: World, server: Dovecot, user: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    at = at_dovecot(server, here, tmp_path, user, done_folder="Done")
    async with watching(at):
        await at.learnt()
    server.deliver(user, blank_mail("anna@phone.example"), at=NOW)

    async def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        if place := STEPS[step]:
            patched.setattr(*place, die)
        async with watching(at, wrap=lambda made: Deadly(made, step)) as tasks:
            await asyncio.wait(tasks, timeout=20)
            assert isinstance(tasks[0].exception(), Killed)
    at.now += 2 * MINUTE
    async with watching(at):
        await at.until_ledger(("filed", "accepted"))
    assert await at.answers() == ["anna@phone.example"]
    folders = server.folders(user)
    assert (len(folders["INBOX"]), len(folders["Done"])) == (0, 1)


async def test_a_server_that_is_killed_in_idle_and_in_the_middle_of_mails(
    here: World, server: Dovecot, user: str, tmp_path: Path
) -> None:
    at = at_dovecot(server, here, tmp_path, user)
    people = [f"p{n}@phone.example" for n in range(200)]
    async with watching(at):
        await at.learnt()
        server.kill()
        server.deliver(user, *(blank_mail(one, one) for one in people), at=NOW)
        server.start()

        async def begun() -> bool:
            return len(await at.answers()) >= 50

        await at.until(begun)
        server.kill()
        server.start()
        await at.until_ledger(*[("filed", "accepted")] * 200)
    assert await at.answers() == sorted(people)


async def test_case_54_new_numbers_for_500_old_mails(here: World, server: Dovecot, user: str, tmp_path: Path) -> None:
    at = at_dovecot(server, here, tmp_path, user)
    server.deliver(user, *(blank_mail(f"h{n}@phone.example", f"h{n}") for n in range(100)), at=NOW - HOUR)
    async with watching(at):
        await at.learnt()
        server.deliver(user, *(blank_mail(f"p{n}@phone.example", n) for n in range(500)), at=NOW)
        await at.until_ledger(*[("filed", "accepted")] * 500)
    before = await at.answers()
    assert len(before) == 500
    async with at.ctx.store.begin() as tx:  # of some the inbox knows nothing any more
        await tx.execute(inbox.delete().where(inbox.c.address.in_([f"p{n}@phone.example" for n in range(50)])))
    at.now += 5 * HOUR
    server.renumber(user)
    server.deliver(user, blank_mail("fresh@phone.example", "fresh", date=at.now - HOUR), at=at.now - HOUR)
    async with watching(at):

        async def looked_at() -> bool:
            return "fresh@phone.example" in await at.answers() and len(await at.ledger()) >= 601

        await at.until(looked_at)
    assert await at.answers() == sorted([*before, "fresh@phone.example"])
    async with at.ctx.store.read() as tx:
        assert {"imap-renumbered"} <= {row.kind for row in await alarms(tx)}


async def test_case_54_a_backup_gives_numbers_a_second_time(
    here: World, server: Dovecot, user: str, tmp_path: Path
) -> None:
    at = at_dovecot(server, here, tmp_path, user)
    server.deliver(user, blank_mail("history@phone.example", "h"), at=NOW)
    async with watching(at):
        await at.learnt()
        server.deliver(user, blank_mail("a@phone.example", "a"), at=NOW)
        await at.until_ledger(("filed", "accepted"))
    with server.restored(user):
        async with watching(at):
            server.deliver(user, *(blank_mail(f"b{n}@phone.example", f"b{n}") for n in range(5)), at=NOW)
            await at.until_ledger(*[("filed", "accepted")] * 6)
    before = await at.answers()
    at.now += 2 * HOUR
    later = [f"c{n}@phone.example" for n in range(7)]
    server.deliver(user, *(blank_mail(one, one, date=at.now) for one in later[:2]), at=at.now)
    async with watching(at):
        for group in ([], later[2:]):  # before the robot connects again, and while it idles
            server.deliver(user, *(blank_mail(one, one, date=at.now) for one in group), at=at.now)

            async def answered(count: int = len(before) + 2 + len(group)) -> bool:
                return len(await at.answers()) == count

            await at.until(answered)
    assert await at.answers() == sorted([*before, *later])
    async with at.ctx.store.read() as tx:
        assert [row.kind for row in await alarms(tx)] == ["imap-renumbered"]


async def test_case_59_too_old_for_an_answer_is_listed(here: World, server: Dovecot, user: str, tmp_path: Path) -> None:
    at = at_dovecot(server, here, tmp_path, user, done_folder="Zu Ende & vorbei")
    async with watching(at):
        await at.learnt()
    at.now += 2 * DAY
    server.deliver(user, blank_mail("late@phone.example", "late"), at=at.now - 25 * HOUR)
    server.deliver(user, blank_mail("early@phone.example", "early"), at=at.now - 23 * HOUR)
    async with watching(at):
        await at.until_ledger(("ignored", "too-old"), ("filed", "accepted"))
        assert await at.answers() == ["early@phone.example"]
        async with at.ctx.store.read() as tx:
            (row,) = await listed(tx, ignored=True)
            assert (row["from"], row["arrived_at"]) == ("late@phone.example", at.now - 25 * HOUR)
            assert (await overview(tx))[0]["ignored"] == 1
            assert [(one.society, one.kind) for one in await alarms(tx)] == [("yokokou", "imap-ignored")]
        headers = server.folders(user)["INBOX"]
        assert [(uid, "$RobotDone" in flags) for uid, flags, _ in headers] == [(1, False)], "left as it is"
        async with at.ctx.store.begin() as tx:  # staff want it answered after all
            assert await rescan(tx, "box", at.now - 2 * DAY)
        server.deliver(user, blank_mail("new@phone.example", "new"), at=at.now)
        await at.until_ledger(("filed", "accepted"), ("filed", "accepted"), ("filed", "accepted"))
    assert await at.answers() == ["early@phone.example", "late@phone.example", "new@phone.example"]


async def test_case_59_one_mail_copied_three_times(here: World, server: Dovecot, user: str, tmp_path: Path) -> None:
    at = at_dovecot(server, here, tmp_path, user)
    async with watching(at):
        await at.learnt()
        server.deliver(user, *[blank_mail("anna@phone.example")] * 4, at=NOW)
        await at.until_ledger(*[("filed", "accepted")] * 4)
    assert await at.answers() == ["anna@phone.example"]


async def test_a_folder_with_a_japanese_name_and_mails_that_were_opened(
    here: World, server: Dovecot, user: str, tmp_path: Path
) -> None:
    name = "&enow4TD8MOs- &U9dO2A-"  # 空メール 受付
    client = server.client(user)
    assert client.create(f'"{name}"')[0] == "OK"
    at = at_dovecot(server, here, tmp_path, user, folder="空メール 受付", done_folder="済み & 完了")
    async with watching(at):
        await at.learnt()
        for number, box in enumerate((f'"{name}"', "INBOX")):
            mail = blank_mail(f"p{number}@phone.example", number)
            assert client.append(box, r"(\Seen)", '"20-Nov-2026 06:50:00 +0000"', mail)[0] == "OK"
        await at.until_ledger(("filed", "accepted"))
    client.logout()
    assert await at.answers() == ["p0@phone.example"], "no other folder is read"
    folders = server.folders(user)
    assert (len(folders[name]), len(folders["&bggwfw- &- &W4xOhg-"])) == (0, 1)


async def test_two_robots_at_one_mailbox(here: World, server: Dovecot, user: str, tmp_path: Path) -> None:
    at = at_dovecot(server, here, tmp_path, user)
    async with watching(at) as first, watching(at):
        await at.learnt()
        people = [f"p{n}@phone.example" for n in range(100)]
        server.deliver(user, *(blank_mail(one, one) for one in people), at=NOW)
        await at.until_ledger(*[("filed", "accepted")] * 100)
        first[0].cancel()
        at.now += 2 * MINUTE
        server.deliver(user, blank_mail("late@phone.example", "late"), at=at.now)
        await at.until_ledger(*[("filed", "accepted")] * 101)
    assert await at.answers() == sorted([*people, "late@phone.example"])


async def test_a_lease_has_one_holder_until_it_ends(here: World) -> None:
    async with here.ctx.store.begin() as tx:
        assert await lease.take(tx, "imap/box", "a", NOW, 1000)
        assert await lease.take(tx, "imap/box", "a", NOW + 500, 1000)
        assert not await lease.take(tx, "imap/box", "b", NOW + 1499, 1000)
        assert await lease.take(tx, "imap/box", "b", NOW + 1500, 1000)
        await lease.give_back(tx, "imap/box", "a")
        assert not await lease.take(tx, "imap/box", "a", NOW + 1600, 1000)
        await lease.give_back(tx, "imap/box", "b")
        assert await lease.take(tx, "imap/box", "a", NOW + 1600, 1000)


async def test_a_mail_that_was_read_at_last_is_known_by_its_sender(here: World) -> None:
    unread = Entry(7, State.WAITING, tries=1, at=NOW)
    read = replace(unread, state=State.IGNORED, reason=Why.TOO_OLD, address="a@phone.example", arrived_at=NOW - DAY)
    gone = replace(unread, state=State.GONE)
    rows = []
    for entry in (unread, read, gone):
        async with here.ctx.store.begin() as tx:
            await Ledger("box").write(tx, 1, [entry])
            row = (await tx.execute(select(imap_message))).one()
        rows.append((row.state, row.address, row.arrived_at))
    known = ("ignored", "a@phone.example", NOW - DAY)
    assert rows == [("waiting", None, None), known, ("gone", None, NOW - DAY)]


async def test_another_place_begins_anew(here: World, server: Dovecot, user: str, tmp_path: Path) -> None:
    at = at_dovecot(server, here, tmp_path, user)
    server.deliver(f"{user}b", blank_mail("history@phone.example", 1), at=NOW)
    async with watching(at):
        await at.learnt()
        server.deliver(user, blank_mail("anna@phone.example", 2), at=NOW)
        await at.until_ledger(("filed", "accepted"))
    moved = at_dovecot(server, here, tmp_path, f"{user}b")
    async with watching(moved):
        await moved.until_ledger()
        server.deliver(f"{user}b", blank_mail("berta@phone.example", 3), at=NOW)
        await moved.until_ledger(("filed", "accepted"))
    assert await at.answers() == ["anna@phone.example", "berta@phone.example"]


async def test_over_a_cap_a_mail_waits_and_is_answered_later(
    here: World, server: Dovecot, user: str, tmp_path: Path
) -> None:
    toml = imap_toml("box", server.port, server.ca_file, tmp_path, user, PASSWORD)
    at = hands(here.ctx, tmp_path, toml, "society_per_hour_min = 1\n")
    async with watching(at):
        await at.learnt()
        server.deliver(user, *(blank_mail(f"p{n}@phone.example", n) for n in range(3)), at=NOW)
        await at.until_ledger(("filed", "accepted"), ("waiting", "4.7.1"), ("waiting", "4.7.1"))
        at.now += HOUR
        server.deliver(user, blank_mail("x@phone.example", "x", headers="Auto-Submitted: auto-replied\r\n"), at=NOW)
        await at.until_ledger(
            ("filed", "accepted"), ("filed", "accepted"), ("waiting", "4.7.1"), ("filed", "automatic-reply")
        )
    async with at.ctx.store.read() as tx:
        (row,) = await listed(tx, ignored=False)
    assert (row["from"], row["tries"], row["reason"]) == ("p2@phone.example", 2, "4.7.1")


async def test_thousands_of_waiting_mails_that_vanish_at_once(
    here: World, server: Dovecot, user: str, tmp_path: Path
) -> None:
    at = at_dovecot(server, here, tmp_path, user)
    async with watching(at):
        await at.learnt()
        server.deliver(user, *(blank_mail(f"p{n}@phone.example", n) for n in range(2)), at=NOW)
        await at.until_ledger(*[("filed", "accepted")] * 2)
    async with at.ctx.store.begin() as tx:
        row = (await tx.execute(select(imap_message))).mappings().first()
        assert row
        waiting = {**row, "state": "waiting", "reason": "4.7.1", "tries": 1}
        await tx.execute(imap_message.insert(), [{**waiting, "uid": 10_000 + n} for n in range(7000)])
    async with watching(at):

        async def noticed() -> bool:
            async with at.ctx.store.read() as tx:
                return not await listed(tx, ignored=False)

        await at.until(noticed)
        server.deliver(user, blank_mail("late@phone.example", "late"), at=NOW)
        await at.until_ledger(*[("filed", "accepted")] * 3, *[("gone", None)] * 7000)


async def test_what_is_gone_is_forgotten_and_what_is_there_is_not(
    here: World, server: Dovecot, user: str, tmp_path: Path
) -> None:
    at = at_dovecot(server, here, tmp_path, user)
    async with watching(at):
        await at.learnt()
        server.deliver(user, *(blank_mail(f"p{n}@phone.example", n) for n in range(4)), at=NOW)
        await at.until_ledger(*[("filed", "accepted")] * 4)
    async with at.ctx.store.begin() as tx:
        await tx.execute(inbox.delete())
        await tx.execute(update(imap_message).values(at=NOW))
    client = server.client(user)
    client.select()
    client.uid("store", "1,2", "+FLAGS", r"(\Deleted)")
    client.uid("expunge", "1,2")
    client.uid("store", "3,4", "-FLAGS", "($RobotDone)")
    client.logout()
    at.now += 31 * DAY
    async with watching(at):
        await at.until_ledger(*[("filed", "accepted")] * 2)
    assert len(await at.answers()) == 4
    async with at.ctx.store.read() as tx:
        assert await tx.scalar(select(func.count()).select_from(inbox)) == 0


async def test_a_login_that_works_and_certificates_that_do_not(
    here: World, server: Dovecot, user: str, tmp_path: Path
) -> None:
    at = at_dovecot(server, here, tmp_path, user)
    box = at.ctx.settings.site.imap["box"]
    assert await login_problem(box) == ""
    machine = box.model_copy(update={"ca_file": Path()})
    assert "certificate of 127.0.0.1 is not to be trusted" in await login_problem(machine)
    other = box.model_copy(update={"host": "localhost"})
    assert "is not to be trusted: Hostname mismatch" in await login_problem(other)
    assert await login_problem(box.model_copy(update={"done_folder": "Done", "ignored_folder": "Not answered"})) == ""
    assert {"Done", '"Not answered"'} & server.folders(user).keys(), "made"
    impossible = box.model_copy(update={"ignored_folder": "a//b"})
    assert "folder a//b is not there and cannot be made" in await login_problem(impossible)
    assert "folder Nirgends cannot be opened" in await login_problem(box.model_copy(update={"folder": "Nirgends"}))
    box.password_file.chmod(0o644)
    assert "others can read this secret" in await login_problem(box)
    box.password_file.chmod(0o600)
    box.password_file.write_text("falsch")
    assert f"the server refuses the login of {user}" in await login_problem(box)
    box.password_file.write_text(PASSWORD)
    assert "127.0.0.1:1 cannot be reached: " in await login_problem(box.model_copy(update={"port": 1}))
