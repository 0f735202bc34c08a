"""A real Postfix takes the blank mails and hands them over by LMTP and SMTP, set up as docs/behind-postfix.md says."""

from __future__ import annotations

import asyncio
import re
import smtplib
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from tests.support.documents import REPOSITORY
from tests.support.member import Member, register
from tests.support.postfix import Postfix, postfix
from tests.support.robot import link_in
from tests.support.rows import PASSWORD, Stage, stage
from tests.support.servers import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")
ME, TO, DESK = "yokokou", "touroku@yokokou.example", "helpdesk@hpe.example"
TAGGED = [f"touroku+tag{n}@yokokou.example" for n in range(7)]
INVITED, DONE = "利用登録手続きのご案内", "利用登録完了のご案内"
REPORT = (REPOSITORY / "tests/corpus/bounces/01-postfix-unknown.eml").read_bytes()
DOC = (REPOSITORY / "docs/behind-postfix.md").read_text("utf-8")


def block(name: str) -> str:
    """A file of the document, by the comment above it."""
    found = re.search(rf"<!-- {name} -->\n```\w*\n(.*?)```", DOC, re.DOTALL)
    assert found, name
    return found[1]


@dataclass(frozen=True)
class Front:
    """A Postfix before the robot. `way`: lmtp or smtp."""

    way: str
    postfix: Postfix
    stage: Stage

    async def send(self, sender: str, *recipients: str, headers: str = "", number: str = "") -> dict[str, int]:
        """What a provider's server says -> the recipients refused, and how."""
        to = recipients or (TO,)
        lines = f"From: {sender or 'MAILER-DAEMON@phone.example'}\r\nTo: {to[0]}\r\n{headers}"
        lines += f"Message-ID: <{number or time.monotonic_ns()}@phone.example>\r\n"
        lines += "Date: Fri, 20 Nov 2026 12:00:00 +0900\r\n\r\n"
        return await self.post(sender, to, lines.encode())

    async def post(self, sender: str, recipients: tuple[str, ...], content: bytes) -> dict[str, int]:
        """Hands this mail to Postfix -> the recipients refused, and how."""
        return await asyncio.to_thread(self._post, sender, recipients, content)

    def _post(self, sender: str, recipients: tuple[str, ...], content: bytes) -> dict[str, int]:
        with smtplib.SMTP("127.0.0.1", self.postfix.port, timeout=60) as client:
            client.ehlo("phone.example")
            try:
                refused = client.sendmail(sender, recipients, content)
            except smtplib.SMTPRecipientsRefused as error:
                refused = error.recipients
        return {one: code for one, (code, _) in refused.items()}

    async def handed_over(self, sign: str, mails: int = 1, seconds: float = 20) -> list[str]:
        """Waits until so many mails with this sign (`from=<…>` or `message-id=<…>`) came and none is left in the queue
        -> the words of Postfix's log, one a recipient."""
        end = time.monotonic() + seconds
        while True:
            log = await asyncio.to_thread(self.postfix.log)
            ids = re.findall(rf"(\w+): {re.escape(sign)}", log)
            if len(set(ids)) >= mails and all(f"{one}: removed" in log for one in ids):
                return [line for line in log.splitlines() if any(f" {one}: to=<" in line for one in ids)]
            assert time.monotonic() < end, log[-3000:]
            await asyncio.sleep(0.02)

    async def reasons(self, sender: str) -> list[str]:
        """Why the mails of a sender ended as they did."""
        found = await self.stage.sql(
            "SELECT source, reason FROM inbox WHERE address = ? ORDER BY received_at", sender
        )
        assert {source for source, _ in found} <= {self.way}
        return [reason for _, reason in found]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    ours: Any = {"AUTHENTICATION_UPSTREAM_PEERS": '["127.0.0.1"]', "SMTP_TRUSTED_PEERS": '["127.0.0.1"]'}
    ours["SMTP_LMTP_LISTEN"] = f'["127.0.0.1:{free_port()}"]'
    async with stage(tmp_path_factory.mktemp("front"), {ME: []}, **ours) as running:
        yield running


@pytest.fixture(scope="module", params=["lmtp", "smtp"])
def front(at: Stage, request: pytest.FixtureRequest) -> Iterator[Front]:
    way = request.param
    (lmtp,) = re.findall(r"\d+", at.robot.overrides["SMTP_LMTP_LISTEN"].rpartition(":")[2])

    def ours(text: str) -> str:
        for said, meant in ((":2424", f":{lmtp}"), (":2525", f":{at.robot.smtp_port}")):
            text = text.replace(said, meant)
        return text.replace("/etc/postfix/", "$config_directory/")

    names = ("mailbot",) if way == "lmtp" else ("mailbot", "mailbot-addresses")
    lines = dict(re.findall(r"(?m)^(\w+) = (.*)$", ours(block(f"{way} main.cf"))))
    # The tests come from the loopback, too, and are strangers.
    settings = {**lines, "mynetworks": "127.0.0.2/32", "address_verify_poll_delay": "1s"}
    with postfix(settings=settings, files={name: ours(block(f"{way} {name}")) for name in names}) as running:
        with ThreadPoolExecutor() as pool:  # Postfix asks the robot once for each
            assert set(pool.map(partial(known, running.port), (TO, DESK, "info@yokokou.example", *TAGGED))) == {250}
        yield Front(way, running, at)


def known(port: int, address: str) -> int:
    """Postfix's reply to RCPT."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo("phone.example")
        client.mail("hanako@phone.example")
        return client.rcpt(address)[0]


async def test_from_the_blank_mail_to_the_completion_and_a_family_member(front: Front) -> None:
    at = front.stage
    box = at.new_address()
    for number in (1, 2):
        assert await front.send(box) == {}
        letter, login_id = at.letter(ME), at.new_login_id()
        link = link_in((await at.mails(box, INVITED, number))[-1])
        async with Member(at.robot.web) as member:
            done = await register(member, link, letter.printed_id, letter.printed_password, login_id, PASSWORD)
            assert done.url.endswith("/done"), done.text
        await at.mails(box, DONE, number)
    assert len(at.sink.to(box)) == 4
    assert await front.reasons(box) == ["accepted", "accepted"]


async def test_a_mail_that_is_delivered_twice_is_answered_once(front: Front) -> None:
    box = front.stage.new_address()
    for _ in range(3):
        assert await front.send(box, number=f"same.{box}") == {}
    assert len(await front.handed_over(f"from=<{box}>", mails=3)) == 3
    await front.stage.mails(box, INVITED)
    assert await front.reasons(box) == ["accepted"]


@pytest.mark.parametrize("others", [("info@yokokou.example", DESK), (TAGGED[0], TAGGED[1])])
async def test_several_recipients_one_reply_each_and_one_answer(front: Front, others: tuple[str, ...]) -> None:
    box = front.stage.new_address()
    assert await front.send(box, others[0], TO, *others[1:]) == {}
    said = await front.handed_over(f"from=<{box}>")
    assert len(said) == 3
    assert all("status=sent (250 2.0.0 OK" in line for line in said), said
    assert [str(mail.message["Subject"]) for mail in await front.stage.mails(box)] == [INVITED]
    assert await front.reasons(box) == ["accepted"]


async def test_more_recipients_than_one_transaction_takes(front: Front) -> None:
    box = front.stage.new_address()
    assert await front.send(box, *TAGGED) == {}
    said = await front.handed_over(f"from=<{box}>")
    assert len(said) == 7
    assert all("status=sent (250 2.0.0 OK" in line for line in said), said
    await front.stage.mails(box, INVITED)
    assert await front.reasons(box) == ["accepted"]


async def test_a_help_desk_hears_it_and_says_so_once(front: Front) -> None:
    box = front.stage.new_address()
    assert await front.send(box, DESK) == {}
    await front.handed_over(f"from=<{box}>")
    await front.stage.mails(box)
    assert await front.reasons(box) == ["accepted"]
    assert await front.stage.sql("SELECT state FROM help_request WHERE address = ?", box) == [("open",)]


async def test_a_null_sender_an_automatic_mail_and_a_list_get_nothing(front: Front) -> None:
    number = f"null.{front.way}"
    assert await front.send("", number=number) == {}
    away, many = front.stage.new_address(), front.stage.new_address()
    assert await front.send(away, headers="Auto-Submitted: auto-replied\r\n") == {}
    assert await front.send(many, headers="List-Id: <x.phone.example>\r\n") == {}
    for sender, reason in ((away, "automatic-reply"), (many, "list-mail")):
        await front.handed_over(f"from=<{sender}>")
        assert await front.reasons(sender) == [reason]
        assert front.stage.sink.to(sender) == []
    await front.handed_over(f"message-id=<{number}@phone.example>")
    nobody = "SELECT reason FROM inbox WHERE address IS NULL AND purpose = 'registration' AND source = ?"
    assert await front.stage.sql(nobody, front.way) == [("null-sender",)]


async def test_a_report_to_the_envelope_sender_of_a_mail_suppresses_its_address(front: Front) -> None:
    box, number = front.stage.new_address(), f"report.{front.way}@relay.kenpo.example"
    assert await front.send(box) == {}
    (mail,) = await front.stage.mails(box, INVITED)
    content = re.sub(b"(?m)^Message-ID: <[^>]+>", f"Message-ID: <{number}>".encode(), REPORT, count=1)
    assert await front.post("", (mail.mail_from,), content) == {}
    (said,) = await front.handed_over(f"message-id=<{number}>")
    assert "status=sent (250 2.0.0 OK" in said
    reports = "SELECT reason FROM inbox WHERE purpose = 'bounce' AND source = ?"
    assert await front.stage.sql(reports, front.way) == [("delivery-report",)]
    known = "SELECT cause, source FROM suppression WHERE address = ?"
    assert await front.stage.sql(known, box) == [("unknown-user", "report")]


async def test_an_unknown_recipient_is_refused_before_the_mail_is_taken(front: Front) -> None:
    box = front.stage.new_address()
    assert await front.send(box, "nobody@yokokou.example") == {"nobody@yokokou.example": 550}
    assert await front.send(box, "hanako@elsewhere.example") == {"hanako@elsewhere.example": 554}
    assert await front.send(box, "nobody@yokokou.example", TO) == {"nobody@yokokou.example": 550}
    await front.stage.mails(box, INVITED)
    assert await front.reasons(box) == ["accepted"]


@pytest.mark.parametrize("front", ["lmtp"], indirect=True)
async def test_a_robot_that_is_stopped_finds_its_mails_again(front: Front) -> None:
    at, box = front.stage, front.stage.new_address()
    assert await front.send(at.new_address()) == {}  # so that Postfix knows the address, whoever is asked
    assert await at.robot.stop() == 0
    try:
        assert await front.send(box) == {}
        end = time.monotonic() + 20
        while "status=deferred" not in await asyncio.to_thread(front.postfix.log):
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
    finally:
        await at.robot.start()
    await asyncio.to_thread(front.postfix.flush)
    assert len(await front.handed_over(f"from=<{box}>")) >= 1
    await at.mails(box, INVITED)
    assert await front.reasons(box) == ["accepted"]
