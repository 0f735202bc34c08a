"""Storms at the funnel: forged senders get their small share and no more, real ones are put off and all answered."""

from __future__ import annotations

import asyncio
import gc
import random
import shutil
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from mailbot.config import Settings
from mailbot.config.load import load
from mailbot.delivery import suppression
from mailbot.intake.reception import Reception
from mailbot.mail import status
from mailbot.mail.address import parse_typed
from mailbot.mail.authentication import Authentication, Result, Source
from mailbot.mail.causes import Cause
from mailbot.mail.envelope import Envelope
from mailbot.mail.inbound import Inbound
from mailbot.mail.status import Status
from mailbot.registration import entry
from mailbot.registration.context import Context
from mailbot.store import open_store, tables
from mailbot.store.alarms import alarms
from mailbot.store.tables import budget, help_request, inbox, metadata, outbox
from tests.support.factory import HOUR, MINUTE, NETWORK, NOW, World, world

REGISTRATION, DESK = "touroku@yokokou.example", "helpdesk@hpe.example"
CARRIERS = ("docomo.ne.jp", "ezweb.ne.jp", "softbank.ne.jp", "gmail.com", "icloud.com")
SHARE = 60  # 20 % of the smallest cap, 300
CROWD = 500  # connections at a time, by default

Receive = Callable[[Envelope], Awaitable[Status]]


class Vouching:
    """Vouches for the carriers and for domains that call themselves real; nothing is known about others."""

    binding = True

    async def check(self, envelope: Envelope, inbound: Inbound) -> Authentication:
        domain = inbound.from_address.domain if inbound.from_address else ""
        real = domain in CARRIERS or domain.endswith(".real.example")
        return Authentication(dmarc=Result.PASS if real else Result.NONE)


class Proved(Vouching):
    """Vouches for everybody."""

    async def check(self, envelope: Envelope, inbound: Inbound) -> Authentication:
        return Authentication(dmarc=Result.PASS)


def mail(sender: str, at: int = NOW, *, to: str = REGISTRATION, peer: str = "", number: int = 0) -> Envelope:
    lines = f"From: {sender}\r\nTo: {to}\r\nMessage-ID: <{number}.{sender}>\r\n"
    lines += "Date: Fri, 20 Nov 2026 15:50:00 +0900\r\n\r\n"
    peer = peer or f"10.{random.Random(sender).randrange(256)}.7.9"
    return Envelope(
        parse_typed(sender), (parse_typed(to),), lines.encode(), at, peer, "mx.example", "smtp", len(lines)
    )


@asynccontextmanager
async def receiving(ctx: Context, vouching: Vouching | None = None) -> AsyncIterator[Receive]:
    made = Reception(ctx, 64, vouching or Vouching())
    running = asyncio.create_task(made.run())
    try:
        yield made.receive
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def crowd(receive: Receive, mails: Iterable[Envelope]) -> Counter[Status]:
    """As many at a time as connections are let in; the mails are made only when it is their turn."""
    answers: Counter[Status] = Counter()
    waiting = iter(mails)

    async def session() -> None:
        for one in waiting:
            answers[await receive(one)] += 1

    await asyncio.gather(*(session() for _ in range(CROWD)))
    return answers


async def answered(ctx: Context) -> Counter[str]:
    async with ctx.store.read() as tx:
        return Counter(await tx.scalars(select(outbox.c.recipient)))


async def raised(ctx: Context) -> dict[str, int]:
    async with ctx.store.read() as tx:
        return {row.kind: row.count for row in await alarms(tx)}


@pytest.fixture
async def lite(tmp_path: Path) -> AsyncIterator[World]:
    """SQLite in a file, as a small installation has it."""
    store = open_store(f"sqlite+aiosqlite:///{tmp_path / 'mailbot.sqlite3'}")
    async with store.begin() as tx:
        await tx.run_sync(metadata.create_all)
    made = world(store, tmp_path)
    yield made
    await made.ctx.passwords.close()
    await store.close()


async def test_ten_thousand_forged_senders_get_their_share_and_real_ones_all(lite: World) -> None:
    ctx, forged, real = lite.ctx, 10_000, 100

    def storm(start: int, end: int) -> Iterable[Envelope]:
        for n in range(start, end):
            yield mail(f"victim{n}@d{n % 700}.example", NOW + n // 10, number=n)
            if n % (forged // real) == 0:
                yield mail(f"m{n}@{CARRIERS[n % 5]}", NOW + n // 10, number=n)

    async with receiving(ctx) as receive:
        answers = await crowd(receive, storm(0, forged - 1500))
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            answers += await crowd(receive, storm(forged - 1500, forged))
            gc.collect()
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert answers == {status.OK: forged + real}
    to = await answered(ctx)
    assert max(to.values()) == 1
    assert sum(not one.startswith("victim") for one in to) == real
    assert sum(one.startswith("victim") for one in to) == SHARE
    assert await raised(ctx) == {"budget-unproved": 1}, "one alarm an hour"
    assert peak - before < 32 * 2**20, "what waits is bounded by the connections"
    assert after - before < 2 * 2**20, "a mail that is done leaves nothing behind"


async def test_the_share_is_there_again_after_an_hour(here: World) -> None:
    async with receiving(here.ctx) as receive:
        for hour in range(2):
            sent = [mail(f"v{hour}.{n}@d{n}.example", NOW + hour * HOUR) for n in range(SHARE + 40)]
            assert await crowd(receive, sent) == {status.OK: SHARE + 40}
            assert len(await answered(here.ctx)) == (hour + 1) * SHARE
            assert await raised(here.ctx) == {"budget-unproved": hour + 1}


async def test_a_posting_day_loses_nobody_and_answers_nobody_twice(here: World) -> None:
    """A thousand proved senders within ten minutes; each server tries again after a time of its own."""
    dice, people = random.Random(20261120), 1000
    for _ in range(3):
        await here.join("yokokou")
    waiting = [
        (NOW + dice.randrange(10 * MINUTE), dice.randrange(5, 30) * MINUTE, f"m{n}@{CARRIERS[n % 5]}")
        for n in range(people)
    ]
    last, tries = 0, 0
    async with receiving(here.ctx) as receive:
        while waiting:
            step = min(due for due, _, _ in waiting) + 10 * MINUTE  # all of ten minutes together: it is a fake clock
            now = [one for one in waiting if one[0] < step]
            waiting = [one for one in waiting if one[0] >= step]
            answers = await asyncio.gather(*(receive(mail(sender, due)) for due, _, sender in sorted(now)))
            tries += len(now)
            for (due, patience, sender), answer in zip(sorted(now), answers, strict=True):
                assert answer in (status.OK, status.OVER_LIMIT)
                if answer is status.OK:
                    last = max(last, due)
                else:
                    waiting.append((due + patience, patience, sender))
        again = await crowd(receive, (mail(f"m{n}@{CARRIERS[n % 5]}", NOW + 5 * HOUR) for n in range(0, people, 10)))
    assert again == {status.OK: people // 10}, "a 250 that was lost on its way"
    to = await answered(here.ctx)
    assert len(to) == people
    assert set(to.values()) == {1}
    assert last - NOW <= 4 * HOUR
    assert tries > people
    assert set(await raised(here.ctx)) == {"budget-society"}


@pytest.mark.parametrize("sender", ["a{n}@evil.real.example", "a@s{n}.real.example", "a@s.s{n}.real.example"])
async def test_one_domain_of_a_stranger_uses_up_half_of_the_cap_at_most(here: World, sender: str) -> None:
    """With all names below it, which cost nothing."""
    async with receiving(here.ctx) as receive:
        attack = await crowd(receive, (mail(sender.format(n=n), NOW, number=n) for n in range(400)))
        people = await crowd(receive, (mail(f"m{n}@{CARRIERS[n % 5]}", NOW) for n in range(150)))
        assert attack == {status.OK: 150, status.OVER_LIMIT: 250}
        assert people == {status.OK: 150}
    assert set(await raised(here.ctx)) == {"budget-domain"}


async def test_one_network_of_a_stranger_uses_up_half_of_the_cap_at_most(here: World) -> None:
    """However many domains send from there; what a large provider sends from the same network is counted apart."""
    async with receiving(here.ctx, Proved()) as receive:
        attack = await crowd(receive, (mail(f"a@d{n}.example", NOW, peer="203.0.113.5") for n in range(400)))
        people = await crowd(receive, (mail(f"m{n}@gmail.com", NOW, peer="203.0.113.9") for n in range(150)))
        assert attack == {status.OK: 150, status.OVER_LIMIT: 250}
        assert people == {status.OK: 150}
    assert set(await raised(here.ctx)) == {"budget-network"}


async def test_a_large_provider_and_the_societys_own_domains_have_the_whole_cap(here: World) -> None:
    society = here.ctx.settings.societies["yokokou"]
    own = society.model_copy(update={"entry": society.entry.model_copy(update={"domains": ("kaisha.real.example",)})})
    societies = {**here.ctx.settings.societies, "yokokou": own}
    ctx = replace(here.ctx, settings=replace(here.ctx.settings, societies=societies))
    async with receiving(ctx) as receive:
        for hour, domain in enumerate(("docomo.ne.jp", "gmail.com", "kaisha.real.example", "a.kaisha.real.example")):
            sent = (mail(f"m{n}@{domain}", NOW + hour * HOUR) for n in range(300))
            assert await crowd(receive, sent) == {status.OK: 300}, domain


async def test_a_storm_at_the_help_desk_keeps_to_its_own_budgets(here: World) -> None:
    """Requests nobody vouches for wait beyond their share, words to their senders count with all such mail, and real
    members get through to the desk, to registration and to the web entry."""
    ctx = here.ctx
    async with receiving(ctx) as receive:
        storm = await crowd(receive, (mail(f"v{n}@d{n}.example", NOW + n, to=DESK, number=n) for n in range(400)))
        assert storm == {status.OK: SHARE, status.OVER_LIMIT: 400 - SHARE}
        assert len(await answered(ctx)) == SHARE
        more = await crowd(receive, (mail(f"w{n}@d{n}.example", NOW + n) for n in range(100)))
        assert more == {status.OK: 100}
        hpe = (mail(f"m{n}@{CARRIERS[n % 5]}", NOW, to=DESK) for n in range(50))
        assert await crowd(receive, hpe) == {status.OK: 50}
        blank = (mail(f"m{n}@{CARRIERS[n % 5]}", NOW) for n in range(300))
        assert await crowd(receive, blank) == {status.OK: 300}
    for n in range(20):
        typed = f"web{n}@docomo.ne.jp"
        assert await entry.request_invitation(ctx, here.society("yokokou"), typed, NETWORK, NOW) is None
    to = await answered(ctx)
    kinds = Counter("web" if one.startswith("web") else one[0] for one in to)
    # The two societies have a share for strangers each, and m0 to m49 wrote to both.
    assert kinds == {"v": SHARE, "w": SHARE, "web": 20, "m": 300}
    assert sum(to.values()) == 2 * SHARE + 20 + 50 + 300
    assert await here.count(help_request) == SHARE + 50
    assert set(await raised(ctx)) == {"budget-help-unproved", "budget-unproved"}


async def test_mail_through_a_server_of_ours_counts_for_no_network(here: World) -> None:
    """An LMTP peer or a mailbox is one address for everybody."""
    ctx = replace(here.ctx, settings=_with(here, network_per_hour=5))
    sent = [replace(mail(f"m{n}@docomo.ne.jp", peer="127.0.0.1"), origin="lmtp", direct=False) for n in range(20)]
    async with receiving(ctx) as receive:
        assert await crowd(receive, sent) == {status.OK: 20}
        straight = [mail(f"n{n}@docomo.ne.jp", peer="192.0.2.9") for n in range(20)]
        assert await crowd(receive, straight) == {status.OK: 5, status.OVER_LIMIT: 15}


async def test_strangers_do_not_use_up_what_a_network_or_domain_may(here: World) -> None:
    ctx = replace(here.ctx, settings=_with(here, network_per_hour=5, domain_per_hour=5))
    async with receiving(ctx) as receive:
        storm = [mail(f"v{n}@d{n}.example", peer="192.0.2.9") for n in range(50)]
        assert await crowd(receive, storm) == {status.OK: 50}
        people = [mail(f"m{n}@docomo.ne.jp", peer="192.0.2.9") for n in range(5)]
        assert await crowd(receive, people) == {status.OK: 5}


async def test_whom_nothing_vouches_for_is_answered_once_an_hour_and_twice_a_day(here: World) -> None:
    times = [NOW, NOW + 10 * MINUTE, NOW + HOUR, NOW + 3 * HOUR, NOW + 25 * HOUR]
    async with receiving(here.ctx) as receive:
        for number, at in enumerate(times):
            assert await receive(mail("taro@tiny.example", at, number=number)) == status.OK
    async with here.ctx.store.read() as tx:
        reasons = list(await tx.scalars(select(inbox.c.reason).order_by(inbox.c.received_at)))
    assert reasons == ["accepted", "over-budget", "accepted", "over-budget", "accepted"]


async def test_strangers_of_one_domain_or_network_leave_room_for_others(here: World) -> None:
    """A quarter of the strangers' share each; a large provider is no one domain."""
    async with receiving(here.ctx) as receive:
        domain = [mail(f"v{n}@s{n}.one.example", number=n, peer=f"10.1.{n}.1") for n in range(40)]
        network = [mail(f"v@d{n}.example", number=n, peer="192.0.2.9") for n in range(40)]
        others = [mail(f"w@e{n}.example", number=n, peer=f"10.2.{n}.1") for n in range(10)]
        large = [mail(f"x{n}@yahoo.co.jp", number=n, peer=f"10.3.{n}.1") for n in range(18)]
        assert await crowd(receive, [*domain, *network, *others, *large]) == {status.OK: 108}
    to = Counter(one[0] if "one.example" not in one else "one" for one in await answered(here.ctx))
    assert to == {"one": SHARE // 4, "v": SHARE // 4, "w": 10, "x": 18}


def _towns(here: World, number: int) -> Context:
    """An installation of more societies, each with the address `touroku@townN.example`."""
    settings = here.ctx.settings
    folder = here.ctx.settings.folder.parent / "towns"
    shutil.copytree(settings.folder, folder)
    base = (folder / "societies" / "yokokou.toml").read_text("utf-8")
    for n in range(number):
        text = base.replace("yokokou.example", f"town{n}.example")
        (folder / "societies" / f"town{n}.toml").write_text(text, "utf-8")
    made = load(folder)
    return replace(here.ctx, settings=replace(settings, societies=made.societies, directory=made.directory))


@pytest.mark.parametrize(("vouching", "hour", "day"), [(Vouching(), 1, 2), (Proved(), 6, 12)])
async def test_many_societies_do_not_add_up_in_one_mailbox(
    here: World, vouching: Vouching, hour: int, day: int
) -> None:
    ctx, sent = _towns(here, 8), 0
    async with receiving(ctx, vouching) as receive:
        for at in (0, 1, 2, 3):
            for minute in (1, 3, 5):
                for n in range(8):
                    sent += 1
                    when = NOW + at * HOUR + minute * MINUTE + n * 10_000
                    one = mail("victim@tiny.example", when, to=f"touroku@town{n}.example", number=sent)
                    assert await receive(one) == status.OK
            assert (await answered(ctx))["victim@tiny.example"] == min((at + 1) * hour, day)


async def test_a_finished_registration_gives_back_what_all_societies_counted(here: World) -> None:
    joined = await here.join("yokokou", nickname="はな")
    address = "hanako@phone.real.example"
    counted = select(budget.c.society, budget.c.scope).where(budget.c.subject == address)
    async with receiving(here.ctx) as receive:
        assert await receive(mail(address)) == status.OK
    async with here.ctx.store.read() as tx:
        assert set(await tx.execute(counted)) == {("", "address-all"), ("yokokou", "address")}
    await here.register(joined, "hanako-123x", address)
    async with here.ctx.store.read() as tx:
        assert set(await tx.execute(counted)) == set()


def _with(here: World, **budgets: int) -> Settings:
    settings = here.ctx.settings
    site = settings.site.model_copy(update={"budgets": settings.site.budgets.model_copy(update=budgets)})
    return replace(settings, site=site)


class Silent(Vouching):
    """A robot whose resolver is down."""

    async def check(self, envelope: Envelope, inbound: Inbound) -> Authentication:
        return Authentication(dmarc=Result.TEMPERROR, spf=Result.TEMPERROR)


async def test_a_resolver_that_is_down_is_told_once_one_broken_domain_is_not(here: World) -> None:
    made = Reception(here.ctx, 64, Silent())
    for number in range(2):
        assert await made.receive(mail(f"taro{number}@broken.example", number=number)) == status.LOOKUP_FAILED
    assert await raised(here.ctx) == {}
    for number, domain in enumerate(CARRIERS):
        assert await made.receive(mail(f"taro@{domain}", number=number)) == status.LOOKUP_FAILED
    assert await raised(here.ctx) == {"dns": 1}
    assert await made.receive(mail("jiro@gmail.com", NOW + HOUR)) == status.LOOKUP_FAILED
    assert await raised(here.ctx) == {"dns": 2}


async def test_a_resolver_that_is_down_is_told_where_one_domain_is_all_there_is(here: World) -> None:
    class Now(Vouching):
        async def check(self, envelope: Envelope, inbound: Inbound) -> Authentication:
            if "down" in envelope.helo:
                return Authentication(dmarc=Result.TEMPERROR)
            return Authentication(dmarc=Result.PASS, answered=True)

    async with receiving(here.ctx, Now()) as receive:
        for minute in range(5):
            at = NOW + minute * MINUTE
            down = replace(mail(f"m{minute}@docomo.ne.jp", at), helo="down.example")
            assert await receive(down) == status.LOOKUP_FAILED
            assert await receive(mail(f"n{minute}@docomo.ne.jp", at)) == status.OK
        assert await raised(here.ctx) == {}, "others had an answer meanwhile"
        for minute in range(5, 10):
            down = replace(mail(f"m{minute}@docomo.ne.jp", NOW + minute * MINUTE), helo="down.example")
            assert await receive(down) == status.LOOKUP_FAILED
    assert await raised(here.ctx) == {"dns": 1}


async def test_an_outage_of_the_resolver_drops_nobody(here: World) -> None:
    """After its tries a member's mail counts as a stranger's; over the strangers' share it still is not taken."""
    sent = [mail(f"m{n}@{CARRIERS[n % 5]}", number=n) for n in range(150)]
    async with receiving(here.ctx, Silent()) as receive:
        for number in range(2):
            again = [replace(one, received_at=NOW + number * MINUTE) for one in sent]
            assert await crowd(receive, again) == {status.LOOKUP_FAILED: 150}
        assert await crowd(receive, [replace(one, received_at=NOW + 9 * MINUTE) for one in sent]) == {
            status.OK: SHARE, status.OVER_LIMIT: 150 - SHARE,
        }  # fmt: skip
        assert len(await answered(here.ctx)) == SHARE
        async with here.ctx.store.read() as tx:
            assert set(await tx.scalars(select(inbox.c.reason))) == {"accepted"}
        assert set(await raised(here.ctx)) == {"dns"}
        one = next(iter(await answered(here.ctx)))
        for _ in range(2):
            assert await receive(mail(one, NOW + 10 * MINUTE, number=999)) == status.LOOKUP_FAILED
        assert await receive(mail(one, NOW + 10 * MINUTE, number=999)) == status.OK, "too often for one address"
    assert len(await answered(here.ctx)) == SHARE
    # When the resolver is there again, everybody is known.
    async with receiving(here.ctx) as receive:
        await crowd(receive, [replace(one, received_at=NOW + 20 * MINUTE) for one in sent])
    assert set((await answered(here.ctx)).values()) == {1}
    assert len(await answered(here.ctx)) == 150


async def test_tries_that_are_remembered_are_few(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over begins anew; a mail with no end of tries would cost memory for ever."""
    monkeypatch.setattr("mailbot.intake.reception.TRIES_KEPT", 2)
    async with receiving(here.ctx, Silent()) as receive:
        for number in (1, 1, 2, 3):  # the first is forgotten
            assert await receive(mail("taro@a.example", number=number)) == status.LOOKUP_FAILED
        for expected in (status.LOOKUP_FAILED, status.LOOKUP_FAILED, status.OK):
            assert await receive(mail("taro@a.example", number=1)) == expected


async def test_a_fault_of_ours_is_told_once(here: World) -> None:
    class Faulty(Vouching):
        async def check(self, envelope: Envelope, inbound: Inbound) -> Authentication:
            return Authentication(dmarc=Result.TEMPERROR, source=Source.FAULT)

    async with receiving(here.ctx, Faulty()) as receive:
        for n in range(5):
            assert await receive(mail(f"m{n}@d{n}.example")) == status.LOOKUP_FAILED
    assert await raised(here.ctx) == {"authentication": 1}


async def test_only_a_proved_sender_ends_a_suppression(here: World) -> None:
    """R5.15. Who only says that he is somebody has not read what was sent there."""
    gone = [suppression.Note("yokokou", parse_typed(f"m@{domain}"), Cause.UNKNOWN_USER, suppression.Source.REPORT, "")
            for domain in ("docomo.ne.jp", "tiny.example")]  # fmt: skip
    async with here.ctx.store.begin() as tx:
        await suppression.note(tx, gone, NOW)
    async with receiving(here.ctx) as receive:
        for domain in ("docomo.ne.jp", "tiny.example"):
            assert await receive(mail(f"m@{domain}", NOW + MINUTE)) == status.OK
    async with here.ctx.store.read() as tx:
        left = await tx.execute(select(tables.suppression.c.address_key, tables.suppression.c.cause))
    # a carrier that knew no such user, and then a mail from him: it was his refusal list
    assert set(map(tuple, left)) == {("m@tiny.example", "unknown-user"), ("m@docomo.ne.jp", "filtered")}
