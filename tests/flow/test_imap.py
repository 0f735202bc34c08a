"""The whole robot behind a mailbox on a real Dovecot: blank mail, link, registration, completion, and its death."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from tests.support.dovecot import PASSWORD, Dovecot, dovecot
from tests.support.imap import ADDRESS, blank_mail, imap_toml
from tests.support.member import Member, log_in, register
from tests.support.robot import HANAKO, TARO, Robot, body, link_in, robot
from tests.support.sink import Sink

USERS = count(1)
HOME = "kazoku@phone.example"
FOLDERS = {"done_folder": "Done", "authserv_id": "mx.provider.example"}
CHOSEN = "umi-no-mieru9machi"


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with dovecot() as running:
        yield running


def now() -> int:
    return time.time_ns() // 1_000_000


def checked(sender: str) -> str:
    """What a provider writes above a mail whose sender it knows."""
    domain = sender.rpartition("@")[2]
    said = f"spf=pass smtp.mailfrom={sender}; dkim=pass header.d={domain}; dmarc=pass header.from={domain}"
    return f"Authentication-Results: mx.provider.example; {said}\r\n"


class Post:
    """Somebody's provider, which delivers into the mailbox."""

    def __init__(self, server: Dovecot, user: str) -> None:
        self.server, self.user = server, user
        self._numbers = count(1)

    def deliver(self, sender: str, message_id: object = None, headers: str = "", **more: Any) -> None:
        number, headers = message_id or f"{next(self._numbers)}", checked(sender) + headers
        self.put(blank_mail(sender, number, date=now(), headers=headers, **more))

    def put(self, mail: bytes) -> None:
        self.server.deliver(self.user, mail, at=now())


def behind(server: Dovecot, folder: Path, smtp_sink: Sink, **more: Any) -> tuple[Robot, Post]:
    """A robot, not started yet, and the mailbox it will watch, in which there is old mail."""
    user = f"flow{next(USERS)}"
    server.deliver(user, *(blank_mail(f"old{n}@phone.example", f"old{n}") for n in range(20)), at=now())
    overrides = {"BUDGETS_ADDRESS_PER_MINUTE": "10", "BUDGETS_ADDRESS_PER_HOUR": "20"}
    made = Robot(folder, smtp_sink.port, overrides=overrides)
    toml = imap_toml("post", server.port, server.ca_file, folder, user, PASSWORD, **FOLDERS, **more)
    (folder / "config" / "mailbot.toml").write_text(toml)
    return made, Post(server, user)


@pytest.fixture
async def at(server: Dovecot, tmp_path: Path, smtp_sink: Sink) -> AsyncIterator[tuple[Robot, Post]]:
    made, post = behind(server, tmp_path, smtp_sink)
    async with robot(tmp_path, smtp_sink.port, smtp_port=made.smtp_port, overrides=made.overrides) as running:
        await watched(running)
        await asyncio.to_thread(running.import_roster, "yokokou", HANAKO.row, TARO.row)
        yield running, post


async def watched(made: Robot, times: int = 1) -> None:
    async with asyncio.timeout(20):
        while made.log.count('"imap.watching"') < times:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.05)


async def test_from_a_blank_mail_to_completion_and_the_next_of_the_family(
    at: tuple[Robot, Post], smtp_sink: Sink
) -> None:
    made, post = at
    begun = time.monotonic()
    post.deliver(HOME)
    first = link_in((await smtp_sink.wait(to=HOME))[-1])
    assert time.monotonic() - begun < 20, "IDLE tells at once; a look comes once a minute"
    async with Member(made.web) as member:
        done = await register(member, first, HANAKO.printed_id, HANAKO.printed_password, "hanako-n", CHOSEN)
        assert done.heading == "利用者情報登録完了", done.text
    completed = (await smtp_sink.wait(2, to=HOME))[1]
    assert completed.message["Subject"] == "利用登録完了のご案内"
    post.deliver(HOME)
    second = link_in((await smtp_sink.wait(3, to=HOME))[2])
    assert second != first
    async with Member(made.web) as member:
        await register(member, second, TARO.printed_id, TARO.printed_password, "taro-na", CHOSEN)
    await smtp_sink.wait(4, to=HOME)
    async with Member(made.web) as member:
        assert TARO.nickname in (await log_in(member, "yokokou", "taro-na", CHOSEN)).text
    assert {one.rcpt_tos[0] for one in smtp_sink.mails} == {HOME}, "old mail is history"
    async with asyncio.timeout(20):
        while [  # noqa: ASYNC110  the robot writes it
            len(post.server.folders(post.user).get(name, [])) for name in ("INBOX", "Done")
        ] != [20, 2]:
            await asyncio.sleep(0.05)


REPORT = Path(__file__).parents[1] / "corpus" / "bounces" / "01-postfix-unknown.eml"


async def test_reports_questions_and_what_is_never_answered(server: Dovecot, tmp_path: Path, smtp_sink: Sink) -> None:
    """Set up as docs/imap.md says: the bounce address stands in no list of the mailbox."""
    made, post = behind(server, tmp_path, smtp_sink, addresses=[ADDRESS, "no-reply@hpe.example"])
    async with robot(tmp_path, smtp_sink.port, smtp_port=made.smtp_port, overrides=made.overrides) as running:
        await watched(running)
        post.deliver(HOME)
        (answer,) = await smtp_sink.wait(to=HOME)
        assert answer.mail_from.startswith("bounce+")
        report = REPORT.read_bytes().replace(b"hanako@phone.example", HOME.encode())
        report = report.replace(b"To: bounce@kenpo.example", b"To: " + answer.mail_from.encode())
        post.put(b"Return-Path: <>\r\n" + report)
        post.deliver("gone@phone.example", return_path="<>")
        post.deliver("away@phone.example", headers="Auto-Submitted: auto-replied\r\n")
        post.deliver("list@phone.example", headers="List-Id: <family.phone.example>\r\n")
        post.deliver("asks@phone.example", to="helpdesk@hpe.example", text="困っています")
        url = f"sqlite:///{tmp_path / 'var' / 'mailbot.sqlite3'}"
        wanted = {
            ("yokokou", "registration", "accepted"),
            ("yokokou", "bounce", "delivery-report"),
            ("yokokou", "registration", "null-sender"),
            ("yokokou", "registration", "automatic-reply"),
            ("yokokou", "registration", "list-mail"),
            ("hpe", "help", "accepted"),
        }
        async with asyncio.timeout(20):
            while len(await asyncio.to_thread(taken, url)) < len(wanted):  # noqa: ASYNC110  another process
                await asyncio.sleep(0.05)
        assert await asyncio.to_thread(taken, url) == wanted
        (row,) = await asyncio.to_thread(running.json, "suppression", "list")
        assert row["address"] == HOME
        await smtp_sink.wait(to="asks@phone.example")
        assert {one.rcpt_tos[0] for one in smtp_sink.mails} == {HOME, "asks@phone.example"}


def taken(url: str) -> set[tuple[str, str, str]]:
    """(society, purpose, reason) of all mails."""
    engine = create_engine(url)
    with engine.begin() as tx:
        rows = tx.execute(text("SELECT society, purpose, reason FROM inbox"))
        found = {(row.society, row.purpose, row.reason) for row in rows}
    engine.dispose()
    return found


async def test_the_same_mail_by_smtp_and_imap_has_one_answer(at: tuple[Robot, Post], smtp_sink: Sink) -> None:
    made, post = at
    for number, ways in enumerate((("smtp", "imap"), ("imap", "smtp"))):
        sender = f"p{number}@phone.example"
        for way in ways:
            if way == "imap":
                mail = blank_mail(sender, number, headers=checked(sender))
                same = re.sub(rb"Date: [^\r]+", b"Date: Fri, 20 Nov 2026 12:00:00 +0900", mail)
                post.server.deliver(post.user, same, at=now())
            else:
                code, _ = await asyncio.to_thread(
                    made.send_blank_mail, sender, ADDRESS, message_id=f"<{number}@phone.example>"
                )
                assert code == 250
            if way == ways[0]:
                await smtp_sink.wait(to=sender)
    post.deliver("last@phone.example", "last")
    await smtp_sink.wait(to="last@phone.example")
    assert [len(smtp_sink.to(f"p{number}@phone.example")) for number in range(2)] == [1, 1]
    assert made.log.count('"mail.seen-before"') == 2


async def test_the_robot_is_killed_again_and_again(server: Dovecot, tmp_path: Path, smtp_sink: Sink) -> None:
    made, post = behind(server, tmp_path, smtp_sink)
    made.overrides["SMTP_LISTEN"] = "[]"  # a mailbox is all it has
    people = [f"p{n}@phone.example" for n in range(80)]
    url = f"sqlite:///{tmp_path / 'var' / 'mailbot.sqlite3'}"
    try:
        await asyncio.to_thread(made._spawn, [])
        await watched(made)
        for kills, group in enumerate((people[:40], people[40:])):
            for one in group:
                post.deliver(one, one)
            await smtp_sink.wait(40 * kills + 10)
            await asyncio.to_thread(made.kill)
            await smtp_sink.idle()
            await asyncio.to_thread(dead, url)
            await asyncio.to_thread(made._spawn, [])
        for one in people:
            await smtp_sink.wait(to=one, seconds=60)
        assert await made.stop() == 0, made.log
    finally:
        made.kill()
    assert {one.rcpt_tos[0] for one in smtp_sink.mails} == set(people)
    for one in people:
        assert len({str(mail.message["Message-ID"]) for mail in smtp_sink.to(one)}) == 1, one
    assert await made_json(made) == [("post", 0, 0)]


async def made_json(made: Robot) -> list[tuple[str, int, int]]:
    rows = await asyncio.to_thread(made.json, "imap", "status")
    return [(row["mailbox"], row["waiting"], row["ignored"]) for row in rows]


def dead(url: str) -> None:
    """What the passing of two minutes does to what a killed robot held."""
    engine = create_engine(url)
    with engine.begin() as tx:
        tx.execute(text("DELETE FROM lease"))
        tx.execute(text("UPDATE outbox SET next_attempt_at = next_attempt_at - 131000 WHERE state = 'queued'"))
    engine.dispose()


async def test_a_mailbox_that_is_down_harms_nothing_and_check_says_why(
    server: Dovecot, tmp_path: Path, smtp_sink: Sink
) -> None:
    made, post = behind(server, tmp_path, smtp_sink)
    word = tmp_path / "post.password"
    word.write_text("falsch")
    try:
        await made.start()
        async with asyncio.timeout(20):
            while '"imap.down"' not in made.log:  # noqa: ASYNC110  the robot writes it
                await asyncio.sleep(0.05)
        assert made.ready()
        code, _ = await asyncio.to_thread(made.send_blank_mail, "anna@phone.example", ADDRESS)
        assert code == 250
        assert "http" in body((await smtp_sink.wait(to="anna@phone.example"))[0])
        assert [row["kind"] for row in await asyncio.to_thread(made.json, "alarm", "list")] == ["imap-refused"]
        (row,) = await asyncio.to_thread(made.json, "imap", "status")
        assert (row["state"], f"refuses the login of {post.user}" in row["trouble"]) == ("down", True)
        said = await asyncio.to_thread(made.command, "check", check=False)
        assert f"mailbox post: the server refuses the login of {post.user}" in said.stdout
        word.write_text(PASSWORD)
        said = await asyncio.to_thread(made.command, "check", check=False)
        assert f"mailbox post: {post.user} can read INBOX at 127.0.0.1" in said.stdout
        await watched(made)
        (row,) = await asyncio.to_thread(made.json, "imap", "status")
        assert (row["state"], row["trouble"]) == ("up", None)
        assert "No mail waits." in (await asyncio.to_thread(made.command, "imap", "list")).stdout
        said = await asyncio.to_thread(made.command, "imap", "rescan", "post", "--since", "1h")
        assert "within 60 seconds" in said.stdout
        post.deliver("bert@phone.example", "bert")  # ends the wait
        await watched(made, 2)
        assert '"reason": "lost"' not in made.log
        assert await made.stop() == 0, made.log
    finally:
        made.kill()
