"""One relay stands in for another, and nothing goes out twice by it; what is asked of relays that offer more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mailbot.config.relays import RelayUrl, Tls, relay_url
from mailbot.config.site import RelaySection
from mailbot.delivery import relays as module
from mailbot.delivery.relay import Relay
from mailbot.delivery.relays import RelayProblem, Relays, open_relay
from mailbot.delivery.server import at_home
from mailbot.mail.address import Address
from mailbot.mail.status import Effect, Outcome, OutcomeKind
from tests.support.sink import CLOSE, Sink, Stage, sink

MEMBER = Address("hanako", "docomo.ne.jp")
MESSAGE = b"Subject: x\r\n\r\nend\r\n"
BOUNCE = "bounce@example.jp"
DELIVERED, DEFERRED, FAILED, UNKNOWN = OutcomeKind


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Sink, Sink, Relay]]:
    async with sink() as first, sink() as second:
        urls = [f"smtp://127.0.0.1:{server.port}" for server in (first, second)]
        relay = open_relay(RelaySection(url=urls[0], fallback=(urls[1],), connections=4), "robot.test")
        assert isinstance(relay, Relays)
        yield first, second, relay
        await relay.close()


async def send(relay: Relay, seconds: float = 5) -> Outcome:
    return await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=seconds)


def counts(*sinks: Sink) -> list[int]:
    return [len(one.mails) for one in sinks]


@pytest.mark.parametrize(
    ("stage", "answer"),
    [
        ("connect", "421 4.3.2 busy"),
        ("connect", "554 5.7.1 go away"),
        ("connect", CLOSE),
        ("ehlo", "421 4.3.2 busy"),
        ("ehlo", CLOSE),
        ("mail", "550 5.7.1 sender not allowed"),
        ("rcpt", "554 5.7.1 <hanako@docomo.ne.jp>: Relay access denied"),
    ],
)
async def test_the_next_relay_takes_the_same_mail(stage: Stage, answer: str) -> None:
    async with two() as (first, second, relay):
        first.answer(stage, answer)
        outcome = await send(relay)
        assert (outcome.kind, outcome.relay) == (DELIVERED, f"127.0.0.1:{second.port}")
        assert outcome.trouble.startswith(f"127.0.0.1:{first.port}: ")
        assert "hanako" not in outcome.trouble
        assert counts(first, second) == [0, 1]
        sessions = first.sessions
        assert (await send(relay)).trouble == ""
        assert first.sessions == sessions  # it has its rest


async def test_a_failed_relay_is_asked_again_after_a_growing_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[object] = []
    monkeypatch.setattr(module, "emit", lambda event, **facts: pauses.append(facts.get("seconds", event)))
    async with two() as (first, second, relay):
        assert isinstance(relay, Relays)
        post = relay._posts[0]
        for _ in range(10):
            first.answer("connect", "554 5.7.1 go away")
            await send(relay)
            post.rest_until = 0.0
        assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
        asked = first.sessions
        first.delays["connect"] = 0.2
        await asyncio.gather(*(send(relay) for _ in range(4)))  # one of them finds out that it is back
        assert first.sessions == asked + 1
        assert pauses[-1] == "relay.back"
        assert counts(first, second) == [1, 13]
        assert (await send(relay)).relay == f"127.0.0.1:{first.port}"


@pytest.mark.parametrize(
    ("stage", "answer"),
    [
        ("mail", "451 4.3.0 queue is full"),
        ("rcpt", "451 4.3.5 Server configuration error"),
        ("rcpt", "421 4.3.2 Service shutting down"),
        ("dot", "452 4.3.1 Insufficient system storage"),
    ],
)
async def test_one_broken_session_is_no_reason_and_three_are(stage: Stage, answer: str) -> None:
    async with two() as (first, second, relay):
        for _ in range(2):
            first.answer(stage, answer)
            assert (await send(relay)).kind is DEFERRED
        await send(relay)  # it works: what was before counts no more
        first.mails.clear()
        for number in range(3):
            first.answer(stage, answer)
            outcome = await send(relay)
            assert outcome.kind is (DELIVERED if number == 2 else DEFERRED)
        assert counts(first, second) == [0, 1]
        assert outcome.relay == f"127.0.0.1:{second.port}"


@pytest.mark.parametrize("answer", [CLOSE, "gibberish"])
async def test_after_the_final_dot_nobody_else_gets_it(answer: str) -> None:
    async with two() as (first, second, relay):
        first.answer("dot", answer)
        outcome = await send(relay)
        assert (outcome.kind, outcome.relay) == (UNKNOWN, f"127.0.0.1:{first.port}")
        assert second.sessions == 0


@pytest.mark.parametrize("answer", ["550 5.1.1 no such user", "450 4.2.0 greylisted", "452 4.2.2 full"])
async def test_an_answer_about_the_recipient_is_final(answer: str) -> None:
    async with two() as (first, second, relay):
        first.answer("rcpt", answer)
        assert str((await send(relay)).status) == answer
        assert second.sessions == 0


async def test_a_far_servers_words_make_no_relay_a_failed_one() -> None:
    denied = "550 5.7.1 <hanako@docomo.ne.jp>: Relaying denied"
    async with two() as (first, second, relay):
        for _ in range(2):
            first.answer("rcpt", denied)
            assert (await send(relay)).kind is DELIVERED
        assert counts(first, second) == [0, 2]
        assert (await send(relay)).relay == f"127.0.0.1:{first.port}"
        for _ in range(module.STRIKES):
            first.answer("rcpt", denied)
            await send(relay)
        await send(relay)  # again and again, and nothing taken: it is left alone
        assert counts(first, second) == [1, 2 + module.STRIKES + 1]


async def test_where_none_works_the_mail_waits_and_each_gets_its_chance() -> None:
    async with two() as (first, second, relay):
        for _ in range(2):
            first.answer("connect", "421 busy")
            second.answer("connect", "421 busy")
            outcome = await send(relay)
            assert (outcome.kind, outcome.effect) == (DEFERRED, Effect.OUR_FAULT)
            assert outcome.trouble.count("421 busy") == 2
        assert (await send(relay)).kind is DELIVERED
        assert counts(first, second) == [1, 0]


async def test_each_relay_remembers_the_spelling_that_its_way_wants() -> None:
    odd, quoted, bare = Address("a..b.", "docomo.ne.jp"), '"a..b."@docomo.ne.jp', "a..b.@docomo.ne.jp"
    asked: list[str] = []

    def only(spelling: str) -> object:
        def rule(stage: Stage, line: str) -> str | None:
            if stage != "rcpt":
                return None
            asked.append(line.partition("<")[2].rpartition(">")[0])
            return None if f"<{spelling}>" in line else "553 5.1.3 bad address"

        return rule

    async with two() as (first, second, relay):
        first.rule, second.rule = only(bare), only(quoted)  # type: ignore[assignment]  # rules of fakes
        for _ in range(2):
            assert (await relay.send(BOUNCE, odd, MESSAGE, seconds=5)).kind is DELIVERED
        first.kill()
        await first.idle()
        for _ in range(2):
            assert (await relay.send(BOUNCE, odd, MESSAGE, seconds=5)).kind is DELIVERED
        assert asked == [quoted, bare, bare, quoted, quoted]


# What a relay offers.


async def wishes(*extensions: str, now: int, deadline_ms: int | None) -> list[str]:
    said: list[str] = []
    async with sink() as server:
        server.extensions = extensions
        server.rule = lambda stage, line: said.append(line) if stage in ("mail", "rcpt") else None
        relay = open_relay(RelaySection(url=f"smtp://127.0.0.1:{server.port}"), "robot.test", now=lambda: now)
        mail = relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5, deadline_ms=deadline_ms, envelope_id="abc2")
        assert (await mail).kind is DELIVERED
        await relay.close()
    return said


MAIL, RCPT = f"MAIL FROM:<{BOUNCE}>", "RCPT TO:<hanako@docomo.ne.jp>"


@pytest.mark.parametrize("pipelining", [("PIPELINING",), ()])
async def test_dsn(pipelining: tuple[str, ...]) -> None:
    assert await wishes(*pipelining, now=0, deadline_ms=9000) == [MAIL, RCPT]
    asked = [f"{MAIL} RET=HDRS ENVID=abc2", f"{RCPT} NOTIFY=FAILURE"]
    assert await wishes("DSN", *pipelining, now=0, deadline_ms=9000) == asked


@pytest.mark.parametrize(
    ("offer", "now", "deadline_ms", "by"),
    [
        ("DELIVERBY", 1_000_000, 1_360_999, " BY=360;R"),
        ("DELIVERBY 240", 1_000_000, 1_360_999, " BY=360;R"),
        ("DELIVERBY 240", 1_000_000, 1_010_000, " BY=240;R"),  # less it does not promise
        ("DELIVERBY", 1_000_000, 1_000_001, " BY=1;R"),  # by-time 0 is not allowed with R
        ("DELIVERBY", 1_000_000, None, ""),
        ("DELIVERBY ÿ", 1_000_000, 1_360_999, " BY=360;R"),
        ("DELIVERBY", 0, 10**15, " BY=999999999;R"),
    ],
)
async def test_a_promise_to_deliver_in_time(offer: str, now: int, deadline_ms: int | None, by: str) -> None:
    assert await wishes(offer, "PIPELINING", now=now, deadline_ms=deadline_ms) == [MAIL + by, RCPT]


@pytest.mark.parametrize(
    ("address", "home"),
    [
        ("127.0.0.1", True), ("10.1.2.3", True), ("192.168.0.9", True), ("::1", True), ("fd00::1", True),
        ("fe80::1%eth0", True), ("::ffff:10.0.0.1", True),
        ("8.8.8.8", False), ("2001:4860:4860::8888", False), ("::ffff:8.8.8.8", False), ("100.64.0.1", False),
    ],
)  # fmt: skip
def test_what_is_at_home(address: str, home: bool) -> None:
    assert at_home(address) is home


# How relays are named.


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("smtp://127.0.0.1:25", RelayUrl(Tls.ABROAD, "127.0.0.1", 25)),
        ("smtp://[::1]:25", RelayUrl(Tls.ABROAD, "::1", 25)),
        ("smtps://relay.example:465", RelayUrl(Tls.IMPLICIT, "relay.example", 465)),
        ("smtp+starttls://robot@relay.example:587", RelayUrl(Tls.STARTTLS, "relay.example", 587, "robot")),
        ("smtps://robot@e.jp@relay.example:465", RelayUrl(Tls.IMPLICIT, "relay.example", 465, "robot@e.jp")),
        ("smtps://robot%40e.jp@relay.example:465", RelayUrl(Tls.IMPLICIT, "relay.example", 465, "robot@e.jp")),
    ],
)
def test_a_url(text: str, url: RelayUrl) -> None:
    assert relay_url(text) == url


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("relay.example:25", "expected smtp://"),
        ("http://relay.example:25", "expected smtp://"),
        ("smtp://relay.example", "expected a port"),
        ("smtp://relay.example:0", "expected a port"),
        ("smtp://relay.example:99999", "expected a port"),
        ("smtp://relay.example:２５", "expected a port"),
        ("smtp://relay.example/x:25", "without a path"),
        ("smtp://リレー:25", "host's name"),
        ("smtp://robot@relay.example:25", "over TLS only"),
        ("smtps://robot:secret@relay.example:465", "no password"),
        ("smtps://@relay.example:465", "login name"),
        ("smtps://ro%0Abot@relay.example:465", "login name"),
    ],
)
def test_a_url_that_is_none(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        relay_url(text)


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (None, 0o600, "cannot be read"),
        ("machine relay.example login robot password x\n", 0o640, "chmod 600"),
        ("machine relay.example login other password x\n", 0o600, "has no line"),
        ("machine other.example login robot password x\n", 0o600, "has no line"),
        ("machine relay.example login robot\n", 0o600, "has no line"),
        ("nonsense here\n", 0o600, "no netrc"),
    ],
)
def test_a_password_that_is_not_there(tmp_path: Path, content: str | None, mode: int, words: str) -> None:
    file = tmp_path / "netrc"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    with pytest.raises(RelayProblem, match=words):
        open_relay(RelaySection(url="smtps://robot@relay.example:465", netrc=file), "robot.test")
    with pytest.raises(RelayProblem, match=r"relay\.netrc"):
        open_relay(RelaySection(url="smtps://robot@relay.example:465"), "robot.test")


def test_an_authority_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nobody")
    with pytest.raises(RelayProblem, match=r"ca\.pem"):
        open_relay(RelaySection(url="smtps://relay.example:465", ca_file=tmp_path / "ca.pem"), "robot.test")
