"""Two robots that write to each other, and a robot among vacation notes, lists and bounces: one mail each at the most.

A post office of the test carries every mail that leaves a robot to whoever its envelope names, until nothing moves.
"""

from __future__ import annotations

import asyncio
import smtplib
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.robot import Robot, robot
from tests.support.sink import Sink, Taken, sink

pytestmark = pytest.mark.asyncio(loop_scope="module")
OURS, THEIRS = "yokokou.example", "minato.example"
ROUNDS = 8  # of an exchange that does not end

Send = Callable[[str, str, bytes], Awaitable[None]]
Answer = Callable[[Taken, Send], Awaitable[None]]


def blank(sender: str, to: str, headers: str = "", text: str = "") -> bytes:
    lines = f"From: {sender}\r\nTo: {to}\r\nMessage-ID: <{time.monotonic_ns()}@{sender.rpartition('@')[2]}>\r\n"
    return f"{lines}Date: Fri, 20 Nov 2026 12:00:00 +0900\r\n{headers}\r\n{text}".encode()


@dataclass
class Town:
    """Robots by mail domain, each with the relay it hands its mails to."""

    robots: dict[str, tuple[Robot, Sink]]
    people: dict[str, Answer] = field(default_factory=dict)
    """Address -> what is done there with a mail."""
    carried: dict[str, int] = field(default_factory=Counter)
    change: Callable[[Taken], Taken] | None = None
    """What happens to mails between the robots."""

    async def send(self, sender: str, to: str, content: bytes) -> None:
        """Hands a mail to the robot of the recipient's domain."""
        made, _ = self.robots[to.rpartition("@")[2]]

        def work() -> None:
            with smtplib.SMTP("127.0.0.1", made.smtp_port, timeout=60) as client:
                client.sendmail(sender, [to], content)

        await asyncio.to_thread(work)

    async def settle(self) -> dict[str, int]:
        """Carries until nothing is on its way -> how many mails each robot sent since the last time."""
        sent: Counter[str] = Counter()
        for _ in range(ROUNDS):
            await self._all_left()
            moved = 0
            for domain, (_, relay) in self.robots.items():
                fresh = relay.mails[self.carried.get(domain, 0) :]
                self.carried[domain] = len(relay.mails)
                sent[domain] += len(fresh)
                moved += len(fresh)
                for mail in fresh:
                    await self._deliver(self.change(mail) if self.change else mail)
            if not moved:
                return {domain: count for domain, count in sent.items() if count}
        raise AssertionError(f"it goes on and on: {sent}")

    async def _deliver(self, mail: Taken) -> None:
        (to,) = mail.rcpt_tos
        if to in self.people:
            await self.people[to](mail, self.send)
        elif to.rpartition("@")[2] in self.robots:
            await self.send(mail.mail_from, to, mail.content)

    async def _all_left(self) -> None:
        """A reply of 250 means that the answer stands in the outbox, if there is one."""
        end = time.monotonic() + 30
        while any([await self.sql(domain, "SELECT id FROM outbox WHERE state = 'queued'") for domain in self.robots]):
            assert time.monotonic() < end, "a mail does not leave"
            await asyncio.sleep(0.02)

    async def sql(self, domain: str, statement: str) -> list[tuple[object, ...]]:
        file = self.robots[domain][0].folder / "var" / "mailbot.sqlite3"

        def work() -> list[tuple[object, ...]]:
            connection = sqlite3.connect(file, timeout=30)
            try:
                return connection.execute(statement).fetchall()
            finally:
                connection.close()

        return await asyncio.to_thread(work)

    async def reasons(self, domain: str, sender: str) -> list[object]:
        """Why the mails with this author ended as they did, in order."""
        rows = await self.sql(domain, f"SELECT reason FROM inbox WHERE from_address = '{sender}' ORDER BY received_at")
        return [reason for (reason,) in rows]

    async def alarms(self, domain: str) -> set[object]:
        return {kind for (kind,) in await self.sql(domain, "SELECT kind FROM alarm")}


def settlement(folder: Path, relay: Sink, domain: str) -> Robot:
    """A robot whose one society has addresses in this domain."""
    made = Robot(folder, relay.port)
    societies = folder / "config" / "societies"
    text = (societies / "yokokou.toml").read_text("utf-8").replace(OURS, domain)
    for file in societies.glob("*.toml"):
        file.unlink()
    (societies / f"{domain.partition('.')[0]}.toml").write_text(text, "utf-8")
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, tuple[Robot, Sink]]]:
    async with AsyncExitStack() as stack:
        robots = {}
        for domain in (OURS, THEIRS):
            relay = await stack.enter_async_context(sink())
            folder = tmp_path_factory.mktemp(domain.partition(".")[0])
            settlement(folder, relay, domain)
            robots[domain] = (folder, relay)
        started = await asyncio.gather(
            *(
                stack.enter_async_context(
                    robot(folder, relay.port, overrides={"COURIER_POLL_MS": "100", "SITE_HOST": f'"mail.{domain}"'})
                )
                for domain, (folder, relay) in robots.items()
            )
        )
        yield {domain: (made, robots[domain][1]) for domain, made in zip(robots, started, strict=True)}


@pytest.fixture
def town(running: dict[str, tuple[Robot, Sink]]) -> Town:
    return Town(running, carried={domain: len(relay.mails) for domain, (_, relay) in running.items()})


@pytest.mark.parametrize(("one", "other"), [(OURS, THEIRS), (THEIRS, OURS)])
async def test_two_robots_say_one_word_and_are_silent(town: Town, one: str, other: str) -> None:
    """Somebody forges the other robot's registration address, and everything reaches everybody unchanged."""
    me, you = f"touroku@{one}", f"touroku@{other}"
    await town.send(you, me, blank(you, me))
    assert await town.settle() == {one: 1}
    assert (await town.reasons(one, you))[-1] == "accepted"
    assert (await town.reasons(other, f"info@{one}"))[-1] == "loop"
    assert "mail-loop" in await town.alarms(other)


async def test_even_a_gateway_that_takes_every_sign_away_gets_one_mail_each(town: Town) -> None:
    """It writes both senders anew and drops all headers that tell a robot: only the budgets are left."""
    first, second = f"touroku+x@{OURS}", f"touroku+x@{THEIRS}"

    def change(mail: Taken) -> Taken:
        (to,) = mail.rcpt_tos
        me = second if to == first else first
        return Taken(me, mail.rcpt_tos, blank(me, to), mail.session, mail.at)

    town.change = change
    await town.send(first, second, blank(first, second))
    assert await town.settle() == {OURS: 1, THEIRS: 1}
    assert await town.reasons(THEIRS, first) == ["accepted", "over-budget"]
    assert await town.reasons(OURS, second) == ["accepted"]


def reply(mail: Taken, me: str, to: str, **headers: str) -> bytes:
    """What a mail program makes of 'reply'."""
    made = EmailMessage()
    made["From"], made["To"] = me, to
    made["Subject"] = f"Re: {mail.message['Subject']}"
    made["Message-ID"] = f"<{time.monotonic_ns()}@phone.example>"
    made["In-Reply-To"] = made["References"] = str(mail.message["Message-ID"])
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_content("ただいま休暇中です。\n")
    return made.as_bytes(policy=made.policy.clone(linesep="\r\n", cte_type="7bit"))


async def test_vacation_notes_good_and_bad(town: Town) -> None:
    """The good one answers the envelope sender and says what it is, the bad one answers From, the worst everybody."""
    to = f"touroku@{OURS}"

    async def good(mail: Taken, send: Send) -> None:
        await send("", mail.mail_from, reply(mail, "good@phone.example", mail.mail_from, Auto_Submitted="auto-replied"))

    async def bad(mail: Taken, send: Send) -> None:
        await send("bad@phone.example", f"info@{OURS}", reply(mail, "bad@phone.example", f"info@{OURS}"))

    async def worst(mail: Taken, send: Send) -> None:
        for address in (mail.mail_from, f"info@{OURS}", to):
            await send("worst@phone.example", address, reply(mail, "worst@phone.example", address))

    for name, answer in (("good", good), ("bad", bad), ("worst", worst)):
        box = f"{name}@phone.example"
        town.people[box] = answer
        await town.send(box, to, blank(box, to))
        assert await town.settle() == {OURS: 1}, name
    assert (await town.reasons(OURS, "worst@phone.example"))[-1] == "over-budget"


async def test_a_mailing_list_that_brings_our_own_mail_back(town: Town) -> None:
    """Our address is on the list, and the list's address has sent us a blank mail."""
    to, box = f"touroku@{OURS}", "kaiin@lists.example"
    heard = []

    async def distribute(mail: Taken, send: Send) -> None:
        heard.append(mail)
        await send("kaiin-return@lists.example", to, b"List-Id: <kaiin.lists.example>\r\n" + mail.content)
        await send(box, to, mail.content)  # and one list that marks nothing

    town.people[box] = distribute
    await town.send(box, to, blank(box, to))
    assert await town.settle() == {OURS: 1}
    assert len(heard) == 1
    assert await town.reasons(OURS, f"info@{OURS}") == ["loop", "loop"]
    assert "mail-loop" in await town.alarms(OURS)


async def test_an_address_that_bounces_rightly_and_wrongly(town: Town) -> None:
    to, box = f"touroku@{OURS}", "gone@phone.example"
    report = (
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n",
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.phone.example\r\n\r\n"
        f"Final-Recipient: rfc822; {box}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n",
    )

    async def bounce(mail: Taken, send: Send) -> None:
        await send("", mail.mail_from, blank("mailer-daemon@phone.example", mail.mail_from, *report))
        for address in (f"info@{OURS}", to):  # as no server should
            await send("postmaster@phone.example", address, blank("postmaster@phone.example", address))
            await send("", address, blank(box, address))

    town.people[box] = bounce
    await town.send(box, to, blank(box, to))
    assert await town.settle() == {OURS: 1}
    assert (await town.reasons(OURS, box)).count("accepted") == 1
