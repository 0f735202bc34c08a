"""The robot is killed in the middle of its work, again and again, and still keeps its word: a 250 means an answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from aiosmtplib import SMTP, SMTPException
from sqlalchemy import create_engine, text

from tests.support.member import Member
from tests.support.robot import Robot, link_in
from tests.support.sink import Sink

MAILS, KILLS, SENDERS = 500, 10, 20
CONNECTIONS, BATCH = 4, 20
BOUND = CONNECTIONS + BATCH
"""Mails one kill may double, taken by the relay and not yet settled: one a relay connection and one settle batch."""
LEASE_MS = 131_000
"""Longer than the lease of one attempt."""
TO = "touroku@yokokou.example"
BUDGETS = {f"BUDGETS_{name}": "1000000" for name in ("DOMAIN_PER_HOUR", "NETWORK_PER_HOUR", "SOCIETY_PER_HOUR_MIN")}


@dataclass
class Traffic:
    """Mails that phones' providers deliver as MTAs do: until 250, always the same message."""

    robot: Robot
    accepted: list[str] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def deliver(self, number: int) -> None:
        sender = f"member{number}@phone{number % 7}.example"
        lines = [
            f"From: {sender}",
            f"To: {TO}",
            f"Message-ID: <{number}@phone.example>",
            "Date: Fri, 20 Nov 2026 12:00:00 +0900",
            *(["Auto-Submitted: auto-replied"] if automatic(number) else []),
        ]
        content = "\r\n".join([*lines, "", ""]).encode()
        while True:
            self.tries[sender] += 1
            client = SMTP(
                hostname="127.0.0.1",
                port=self.robot.smtp_port,
                timeout=20,
                start_tls=False,
                local_hostname="phone.example",
            )
            try:
                await client.connect()
                await client.sendmail(sender, [TO], content)
            except (SMTPException, OSError):
                client.close()
                await asyncio.sleep(0.05)
                continue
            with contextlib.suppress(SMTPException, OSError):
                await client.quit()
            client.close()
            self.accepted.append(sender)
            self.news.set()
            return

    async def run(self) -> None:
        waiting = iter(range(MAILS))

        async def sender() -> None:
            for number in waiting:
                await self.deliver(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(sender())

    async def reached(self, count: int) -> None:
        while len(self.accepted) < count:
            self.news.clear()
            await self.news.wait()


def automatic(number: int) -> bool:
    """Mails of programs are taken and never answered."""
    return number % 25 == 24


def leases_run_out(url: str) -> None:
    """What the passing of two minutes does to the mails whose courier was killed."""
    engine = create_engine(url)
    with engine.begin() as tx:
        tx.execute(text(f"UPDATE outbox SET next_attempt_at = next_attempt_at - {LEASE_MS} WHERE state = 'queued'"))
    engine.dispose()


def doubles(sink: Sink, kills: list[float]) -> list[int]:
    """Of each kill, how many mails came again because of it. A second copy without a kill before it is an error."""
    found = [0] * len(kills)
    copies: dict[str, list[float]] = {}
    for mail in sink.mails:
        copies.setdefault(str(mail.message["Message-ID"]), []).append(mail.at)
    for message_id, times in copies.items():
        for earlier, later in pairwise(times):
            between = [place for place, at in enumerate(kills) if earlier < at < later]
            assert between, f"{message_id} came twice though nothing was killed"
            found[between[0]] += 1
    return found


async def open_all(made: Robot, links: list[str]) -> None:
    waiting = iter(links)

    async def visitor() -> None:
        for link in waiting:
            async with Member(made.web) as member:
                page = await member.get(link)
                assert (page.status, page.heading) == (200, "新規利用登録"), link

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(visitor())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_every_mail_that_got_250_is_answered_through_ten_kills(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path, smtp_sink: Sink
) -> None:
    seed = int(os.environ.get("MAILBOT_TEST_SEED", "20261120"))
    dice = random.Random(f"{seed}/{engine}")
    url = f"sqlite:///{tmp_path / 'var' / 'mailbot.sqlite3'}"
    database = ""
    if engine == "postgresql":
        url = database = await asyncio.to_thread(request.getfixturevalue, "postgres_url")
    made = Robot(
        tmp_path,
        smtp_sink.port,
        database,
        overrides={
            **BUDGETS,
            "COURIER_BATCH": str(BATCH),
            "RELAY_CONNECTIONS": str(CONNECTIONS),
            "LOG_LEVEL": '"error"',
        },
    )
    smtp_sink.delays["dot"] = 0.01
    kills: list[float] = []
    traffic = Traffic(made)
    begun = time.monotonic()
    try:
        await made.start()
        async with asyncio.TaskGroup() as group:
            incoming = group.create_task(traffic.run())
            for count in sorted(dice.sample(range(10, MAILS - 10), KILLS)):
                await traffic.reached(count)
                await asyncio.sleep(dice.uniform(0, 0.1))
                await asyncio.to_thread(made.kill)
                await smtp_sink.idle()  # it may still read what the dead robot had sent
                kills.append(time.monotonic())
                await asyncio.to_thread(leases_run_out, url)
                await made.start()
            await incoming
        deserving = [f"member{n}@phone{n % 7}.example" for n in range(MAILS) if not automatic(n)]
        for address in deserving:
            await smtp_sink.wait(to=address, seconds=120)
        await open_all(made, [link_in(smtp_sink.to(address)[0]) for address in deserving])
        assert await made.stop() == 0
    finally:
        made.kill()

    counts = doubles(smtp_sink, kills)
    again = sum(tries - 1 for tries in traffic.tries.values())
    print(
        f"\n{engine}: seed {seed}, {MAILS} mails, {KILLS} kills, {time.monotonic() - begun:.0f} s; senders tried again "
        f"{again} times; {len(smtp_sink.mails)} answers for {len(deserving)} mails; doubles by kill {counts}, "
        f"bound {BOUND} each ({CONNECTIONS} relay connections + a settle batch of {BATCH})"
    )
    assert len(traffic.accepted) == MAILS
    assert {mail.rcpt_tos[0] for mail in smtp_sink.mails} == set(deserving)
    for address in deserving:
        assert len({str(mail.message["Message-ID"]) for mail in smtp_sink.to(address)}) == 1, address
        assert len({link_in(mail) for mail in smtp_sink.to(address)}) == 1, address
    assert max(counts) <= BOUND
    assert again > 0, "no kill met a sender"
