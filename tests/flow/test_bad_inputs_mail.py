"""Bad input by mail against the real process: what it answers, whom it answers, and what stays behind.

`docs/bad-inputs.md` names the case each test proves; single replies and verdicts are held by dialogues and corpus.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sqlite3
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio

from mailbot.intake.screening import judge
from mailbot.mail.envelope import Purpose
from mailbot.mail.inbound import facts
from tests.support.corpus import OWN as OWN_IN_CORPUS
from tests.support.corpus import Specimen, specimens
from tests.support.robot import Robot, link_in, robot
from tests.support.sink import Sink, Taken, sink

pytestmark = pytest.mark.asyncio(loop_scope="module")

TO = "toroku@yokohama.robot.example"
SHARED_ID = b"20261120100000.4ADF.88A12B05"  # the Message-ID that most mails of corpus/headers have in common
OWN = {  # the addresses that the corpus takes for the robot's own
    "touroku@yokokou.example": TO,
    "info@yokokou.example": "info@yokohama.robot.example",
    "bounce@yokokou.example": "bounce@bounce.robot.example",
    "info@shochiku.example": "info@robot.example",
    "bounce@shochiku.example": "toroku@kenpo.example",
}
GENEROUS = {
    f"BUDGETS_{name}": "100000"
    for name in ("ADDRESS_PER_MINUTE", "ADDRESS_PER_HOUR", "ADDRESS_PER_DAY", "SOCIETY_PER_HOUR_MIN")
}


@dataclass(frozen=True)
class House:
    robot: Robot
    sink: Sink

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What the robot wrote down."""
        with closing(sqlite3.connect(self.robot.folder / "var" / "mailbot.sqlite3", timeout=30)) as db:
            return db.execute(statement).fetchall()

    async def talk(self, *lines: str | bytes) -> list[str]:
        return await asyncio.to_thread(_talk, self.robot.smtp_port, *lines)

    async def quiet(self, marker: str) -> None:
        """Returns when everything that was to be answered has left: a last mail has its answer and nothing waits."""
        code, words = await asyncio.to_thread(self.robot.send_blank_mail, marker, TO)
        assert code == 250, words
        await self.sink.wait(to=marker, seconds=60)
        for _ in range(600):
            if not await asyncio.to_thread(self.rows, "SELECT 1 FROM outbox WHERE state = 'queued'"):
                return
            await asyncio.sleep(0.1)
        raise AssertionError("the queue never became empty")


def _talk(port: int, *lines: str | bytes) -> list[str]:
    """Sends line after line, each once the reply to the one before has come -> the last line of each reply."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection, connection.makefile("rb") as file:

        def reply() -> str:
            line = file.readline()
            while line[3:4] == b"-":
                line = file.readline()
            return line.decode("ascii").strip()

        replies = [reply()]
        for line in lines:
            connection.sendall((line.encode() if isinstance(line, str) else line) + b"\r\n")
            replies.append(reply())
        return replies[1:]


def envelope(sender: str, to: str = TO) -> tuple[str, ...]:
    return ("EHLO phone.example", f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>", "DATA")


def stuffed(content: bytes) -> bytes:
    """A message as it goes through DATA, with the final dot."""
    return re.sub(rb"(?m)^\.", b"..", content.removesuffix(b"\r\n")) + b"\r\n."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("mail")
    async with sink() as taken:
        Robot(folder, taken.port)  # lays the shipped configuration down
        for file in (folder / "config" / "societies").glob("*.toml"):
            text = file.read_text("utf-8")
            for shipped, own in OWN.items():
                text = text.replace(f'"{shipped}"', f'"{own}"')
            file.write_text(text, "utf-8")
        carriers = '["docomo.ne.jp", "ezweb.ne.jp", "au.com", "old-carrier.example"]'
        overrides = {**GENEROUS, "SITE_HOST": '"ids.robot.example"', "SMTP_LEGACY_DOMAINS": carriers}
        async with robot(folder, taken.port, overrides=overrides) as running:
            yield House(running, taken)


def unescaped(address: str) -> str:
    """`"a..b."@docomo.ne.jp`, as RFC 5321 wants it, is a..b.@docomo.ne.jp."""
    return re.sub(r'^"(.*)"@', r"\1@", address)


async def test_the_corpus_is_answered_where_a_person_wrote_and_nowhere_else(house: House) -> None:
    """Cases 22 and 29 to 50: the whole corpus through the process, and the answers one by one."""
    own = replace(OWN_IN_CORPUS, domains=OWN_IN_CORPUS.domains | {"kenpo.example"})  # the bounce address lies there
    expected: Counter[tuple[str, str | None]] = Counter()
    ends: Counter[str] = Counter()

    async def sent(mail: Specimen) -> None:
        content = mail.content.replace(SHARED_ID, mail.name.replace("/", ".").encode())
        replies = await house.talk(*envelope(mail.wanted["mail_from"]), stuffed(content))
        if re.search(rb"(?<!\r)\n|\r(?!\n)|\0", content):  # not SMTP at all: RFC 5321 section 2.3.8
            assert replies[-1].startswith("521 5.5.2 "), mail.name
            return
        assert replies[-1] == "250 2.0.0 OK", mail.name
        inbound = facts(content)
        # loopback's senders are not checked here, and all mail comes to a registration address
        verdict = judge(mail.envelope(content), inbound, Purpose.REGISTRATION, own, None)
        ends[verdict.reason] += 1
        if verdict.address:
            written = mail.wanted.get("message_id", inbound.message_id or "")
            fits = 0 < len(written) < 980  # no line of ours is longer than RFC 5322 section 2.1.1 allows
            expected[str(verdict.address).casefold(), written if fits else None] += 1

    mails = [mail for mail in specimens() if len(mail.content) < 100_000]
    for start in range(0, len(mails), 10):
        await asyncio.gather(*map(sent, mails[start : start + 10]))
    await house.quiet("after-the-corpus@phone.example")
    answers = [mail for mail in house.sink.mails if "after-the-corpus@phone.example" not in mail.rcpt_tos]
    got = Counter((unescaped(mail.rcpt_tos[0]).casefold(), mail.message["In-Reply-To"]) for mail in answers)
    assert got == expected
    for mail in answers:
        _is_only_an_invitation(mail)
    # two mails without any header are one and the same to the robot, so kinds are compared, not numbers
    written_down = await asyncio.to_thread(house.rows, "SELECT DISTINCT reason FROM inbox")
    assert {reason for (reason,) in written_down} == set(ends)
    alarms = await asyncio.to_thread(house.rows, "SELECT kind FROM alarm")
    assert ("mail-loop",) in alarms


def _is_only_an_invitation(mail: Taken) -> None:
    """Nothing of what came in is in what goes out."""
    message = mail.message
    assert len(mail.rcpt_tos) == 1
    assert message["Subject"] == "利用登録手続きのご案内"
    assert message["Reply-To"] is message["Cc"] is message["Bcc"] is None
    assert [one.addr_spec for one in message["From"].addresses] == ["info@yokohama.robot.example"]
    assert message["Auto-Submitted"] == "auto-replied"
    assert len(mail.content) < 8192
    assert link_in(mail).count("/yokokou/r/") == 1


async def test_an_address_that_is_a_command_is_refused_and_leaves_nothing(house: House) -> None:
    """Case 2: words in MAIL FROM that decode to a line end and a second recipient."""
    before = await asyncio.to_thread(house.rows, "SELECT count(*) FROM inbox")
    smuggled = "=?utf-8?q?=61=40victim.example=3e=0d=0aRCPT_TO=3a=3cextra=40victim2.example?=@attacker.example"
    for path in (smuggled, "a b@e.example", '"x\x01"@e.example'):
        replies = await house.talk("EHLO phone.example", f"MAIL FROM:<{path}>", f"RCPT TO:<{TO}>", "DATA")
        assert replies[1].startswith("553 5.1.7 "), path
        assert all(reply.startswith("503 ") for reply in replies[2:])
    assert await asyncio.to_thread(house.rows, "SELECT count(*) FROM inbox") == before
    await house.quiet("after-smuggling@phone.example")
    assert not [mail for mail in house.sink.mails if any("@attacker" in one or "@e." in one for one in mail.rcpt_tos)]


async def test_a_null_sender_and_the_postmaster_are_taken_and_never_answered(house: House) -> None:
    """Cases 1 and 14."""
    message = f"From: a@phone.example\r\nTo: {TO}\r\nMessage-ID: <null@phone.example>\r\n\r\n."
    assert (await house.talk(*envelope(""), message))[-1] == "250 2.0.0 OK"
    for to in ("PostMaster", "postmaster@yokohama.robot.example", "ABUSE@robot.example"):
        replies = await house.talk(*envelope("polite@phone.example", to), message.replace("<null", f"<{to[:5]}"))
        assert replies[-1] == "250 2.0.0 OK", to
    await house.quiet("after-null@phone.example")
    assert house.sink.to("a@phone.example") == house.sink.to("polite@phone.example") == []
    reasons = await asyncio.to_thread(
        house.rows, "SELECT reason FROM inbox WHERE address IS NULL OR address = 'polite@phone.example'"
    )
    assert {reason for (reason,) in reasons} == {"null-sender", "not-for-answer"}


async def test_irregular_dots_are_answered_at_exactly_that_address(house: House) -> None:
    """Case 5; case 6 is a dialogue."""
    for domain in ("docomo.ne.jp", "old-carrier.example"):
        sender = f"a..b.@{domain}"
        message = f"From: <{sender}>\r\nTo: {TO}\r\nMessage-ID: <dots@{domain}>\r\n\r\n."
        assert (await house.talk(*envelope(sender), message))[-1] == "250 2.0.0 OK"
        await house.quiet(f"after-dots@{domain}")
        (mail,) = [one for one in house.sink.mails if one.message["In-Reply-To"] == f"<dots@{domain}>"]
        assert [unescaped(address) for address in mail.rcpt_tos] == [sender]


async def test_a_client_that_hears_no_answer_and_tries_again_gets_one_reply(house: House) -> None:
    """Case 23: the connection is reset right after the final dot, again and again."""
    message = f"From: reset@phone.example\r\nTo: {TO}\r\nMessage-ID: <reset@phone.example>\r\n\r\n.\r\n".encode()

    def cut_off() -> None:
        with socket.create_connection(("127.0.0.1", house.robot.smtp_port), 30) as connection:
            file = connection.makefile("rb")
            file.readline()
            for line in ("HELO phone.example", *envelope("reset@phone.example")[1:]):
                connection.sendall(line.encode() + b"\r\n")
                file.readline()
            connection.sendall(message)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            file.close()

    for _ in range(3):
        await asyncio.to_thread(cut_off)
    replies = await house.talk(*envelope("reset@phone.example"), message.removesuffix(b"\r\n"))
    assert replies[-1] == "250 2.0.0 OK"
    await house.quiet("after-reset@phone.example")
    assert len(house.sink.to("reset@phone.example")) == 1


async def test_questions_get_neutral_answers_and_the_log_stays_one_line_an_event(house: House) -> None:
    """Cases 26 and 27."""
    replies = await house.talk("VRFY root", "EXPN x", "HELP", b"HELO \x1b[2J", "HELO " + "a" * 500, "NOOP")
    assert [reply[:3] for reply in replies] == ["252", "502", "214", "501", "501", "250"]
    assert not any("root" in reply for reply in replies)
    log = house.robot.log
    assert "\x1b" not in log
    assert all(line.startswith("{") and line.endswith("}") for line in log.splitlines())


async def test_forty_megabytes_through_the_process(house: House) -> None:
    """Case 20: refused at the end, and the next mail of the same session is welcome."""
    photo = ("x" * 76 + "\r\n") * 510_000
    big = f"From: big@phone.example\r\nTo: {TO}\r\n\r\n{photo}."
    small = f"From: small@phone.example\r\nTo: {TO}\r\nMessage-ID: <small@phone.example>\r\n\r\n."
    again = ("MAIL FROM:<small@phone.example>", f"RCPT TO:<{TO}>", "DATA", small)
    replies = await house.talk(*envelope("big@phone.example"), big, *again)
    assert replies[4] == "552 5.3.4 Message too large"
    assert replies[-1] == "250 2.0.0 OK"
    await house.quiet("after-big@phone.example")
    assert (len(house.sink.to("big@phone.example")), len(house.sink.to("small@phone.example"))) == (0, 1)


@pytest.mark.parametrize("size", [100_000, 1_000_000])
async def test_one_long_line_or_a_photo_does_not_matter(house: House, size: int) -> None:
    """Cases 21 and 49."""
    sender = f"long-{size}@phone.example"
    message = f"From: {sender}\r\nTo: {TO}\r\nMessage-ID: <{sender}>\r\n\r\n{'あ'.encode().hex() * (size // 6)}\r\n."
    replies = await house.talk(*envelope(sender), message, "NOOP")
    assert replies[-2:] == ["250 2.0.0 OK", "250 2.0.0 OK"]
    await house.sink.wait(to=sender, seconds=60)


async def test_no_inbound_text_is_kept(house: House) -> None:
    """Case 39 and 40: what strangers write into Subject reaches neither database nor log."""
    for number, subject in enumerate(("=?utf-8?q?a=0d=0aBcc=3a_zanzibar=40e.example?=", "zanzibar 縞模様", "z" * 60)):
        sender = f"subject-{number}@phone.example"
        code, words = await asyncio.to_thread(house.robot.send_blank_mail, sender, TO, headers=[("Subject", subject)])
        assert code == 250, words
        _is_only_an_invitation((await house.sink.wait(to=sender, seconds=60))[0])
    everything = house.robot.log.encode()
    for file in (house.robot.folder / "var").glob("mailbot.sqlite3*"):
        everything += file.read_bytes()
    for word in ("zanzibar", "縞模様", "z" * 60):
        assert word.encode() not in everything
