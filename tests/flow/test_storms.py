"""Storms from outside: forged and real senders at the SMTP door of a robot that asks a real resolver about them."""

from __future__ import annotations

import asyncio
import smtplib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.member import Member
from tests.support.resolver import Unbound, resolver
from tests.support.rows import Stage, stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
TO, DESK = "touroku@yokokou.example", "helpdesk@hpe.example"
HERE = 'TXT "v=spf1 ip4:127.0.0.0/8 -all"'
STRANGERS = 30  # domains that exist and say nothing about their senders
CAP, SHARE = 100, 20  # of a society, and the part of it that strangers have
SESSIONS = 8
Mail = tuple[str, str, int]
"""Sender, recipient, number."""


@pytest.fixture(scope="module")
def names() -> Iterator[Unbound]:
    records: dict[str, list[str] | str] = {"strict.example": 'TXT "v=spf1 ip4:192.0.2.1 -all"'}
    for name in ("docomo.ne.jp", "ezweb.ne.jp", "softbank.ne.jp"):
        records[name] = [HERE, "MX 10 mx.carrier.example."]
        records[f"_dmarc.{name}"] = 'TXT "v=DMARC1; p=none"'
    records["evil.example"] = HERE
    records |= {f"d{number}.example": f"A 192.0.2.{number + 1}" for number in range(STRANGERS)}
    with resolver(records) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def at(names: Unbound, tmp_path: Path) -> AsyncIterator[Stage]:
    """A robot for each test, for a storm uses up what the next one needs."""
    numbers: Any = {
        **names.environment,
        "AUTHENTICATION_MODE": '"enforce"',
        "AUTHENTICATION_PEERS": "",
        "BUDGETS_ADDRESS_PER_MINUTE": "1",
        "BUDGETS_ADDRESS_PER_HOUR": "3",
        "BUDGETS_SOCIETY_PER_HOUR_MIN": str(CAP),
        "SMTP_TRUSTED_PEERS": '["127.0.0.0/16"]',
    }
    async with stage(tmp_path, {}, **numbers) as running:
        yield running


async def storm(at: Stage, mails: Iterable[Mail]) -> Counter[int]:
    """Sends them over some connections at once -> the replies."""
    waiting = iter(list(mails))

    def session(number: int) -> Counter[int]:
        codes: Counter[int] = Counter()
        source = (f"127.0.{number}.1", 0)  # each from a network of its own
        with smtplib.SMTP("127.0.0.1", at.robot.smtp_port, timeout=90, source_address=source) as client:
            client.ehlo("mx.carrier.example")
            for sender, to, number in waiting:  # a list's iterator is shared safely
                client.mail(sender)
                client.rcpt(to)
                lines = f"From: {sender}\r\nTo: {to}\r\nMessage-ID: <{number}.{sender}>\r\n"
                codes[client.data(f"{lines}Date: Fri, 20 Nov 2026 12:00:00 +0900\r\n\r\n".encode())[0]] += 1
        return codes

    def work() -> Counter[int]:
        with ThreadPoolExecutor(SESSIONS) as pool:
            return sum(pool.map(session, range(SESSIONS)), Counter())

    return await asyncio.to_thread(work)


async def sent(at: Stage) -> Counter[str]:
    """Whom the robot wrote to, once nothing is left in its queue."""
    end = time.monotonic() + 60
    while await at.sql("SELECT id FROM outbox WHERE state = 'queued'"):
        assert time.monotonic() < end, "mails stay"
        await asyncio.sleep(0.05)
    return Counter(mail.rcpt_tos[0] for mail in at.sink.mails)


async def alarms(at: Stage) -> dict[str, int]:
    return {str(kind): int(count) for kind, count in await at.sql("SELECT kind, count FROM alarm")}


async def test_fifty_mails_from_one_address_are_one_answer(at: Stage) -> None:
    one = "sameday@docomo.ne.jp"
    assert await storm(at, ((one, TO, number) for number in range(50))) == {250: 50}
    assert (await sent(at))[one] == 1


async def test_forged_senders_get_their_share_and_all_real_ones_an_answer(at: Stage) -> None:
    """In the same minute: strangers by the hundred, senders that their domain disowns, members, and the web entry."""
    forged = [(f"victim{n}@d{n % STRANGERS}.example", TO, n) for n in range(300)]
    disowned = [(f"forged{n}@strict.example", TO, n) for n in range(30)]
    carriers = ("docomo.ne.jp", "ezweb.ne.jp", "softbank.ne.jp")
    real = [(f"member{n}@{carriers[n % 3]}", TO, n) for n in range(45)]
    mixed = list(chain.from_iterable(zip(*[iter(forged)] * 6, strict=True)))
    for place, mail in enumerate([*disowned, *real]):
        mixed.insert(place * 5, mail)
    async with Member(at.robot.web) as member:
        storming = asyncio.create_task(storm(at, mixed))
        page = await member.submit(await member.get("/yokokou/entry"), {"address": "web@docomo.ne.jp"})
        assert page.heading == "メールをご覧ください", page.text
        codes = await storming
    assert codes == {250: len(forged) + len(real), 550: len(disowned)}
    kinds = Counter(address.rstrip("0123456789") for address in (one.partition("@")[0] for one in await sent(at)))
    assert (kinds["victim"], kinds["forged"], kinds["member"], kinds["web"]) == (SHARE, 0, len(real), 1)
    assert (await alarms(at))["budget-unproved"] == 1


async def test_one_strange_domain_that_proves_itself_gets_half_and_then_members_are_put_off(at: Stage) -> None:
    codes = await storm(at, ((f"a{n}@evil.example", TO, n) for n in range(70)))
    assert codes == {250: CAP // 2, 451: 70 - CAP // 2}
    assert "budget-domain" in await alarms(at)
    assert "budget-society" not in await alarms(at)
    left = CAP - CAP // 2
    assert await storm(at, ((f"late{n}@ezweb.ne.jp", TO, n) for n in range(left))) == {250: left}
    assert await storm(at, [("toolate@docomo.ne.jp", TO, 1)]) == {451: 1}
    assert (await alarms(at))["budget-society"] == 1
    assert sum(address.startswith("late") for address in await sent(at)) == left
    assert await at.sql("SELECT reason FROM inbox WHERE address = 'toolate@docomo.ne.jp'") == []


async def test_a_storm_at_the_help_desk_lets_members_through(at: Stage) -> None:
    codes = await storm(at, ((f"stranger{n}@d{n % STRANGERS}.example", DESK, n) for n in range(60)))
    assert codes == {250: SHARE, 451: 60 - SHARE}
    assert await storm(at, ((f"asks{n}@docomo.ne.jp", DESK, n) for n in range(20))) == {250: 20}
    to = await sent(at)
    assert sum(address.startswith("stranger") for address in to) == SHARE
    assert sum(address.startswith("asks") for address in to) == 20
    assert "budget-help-unproved" in await alarms(at)
