"""Every stage of a delivery, answered well, badly, and not at all, by a server on a real socket."""

from collections.abc import AsyncIterator, Callable

import pytest

from mailbot.config.relays import RelayUrl, Tls
from mailbot.config.site import RelaySection
from mailbot.delivery.relay import CaptureRelay, SmtpRelay
from mailbot.delivery.relays import open_relay
from mailbot.delivery.server import Server
from mailbot.mail.address import Address
from mailbot.mail.causes import Cause
from mailbot.mail.status import Effect, OutcomeKind
from tests.support.sink import CLOSE, HANG, Sink, Stage, sink

MEMBER = Address("hanako", "docomo.ne.jp")
MESSAGE = b"Subject: x\r\n\r\n.one dot\r\n..two\r\nend\r\n"
BOUNCE = "bounce@example.jp"
DELIVERED, DEFERRED, FAILED, UNKNOWN = OutcomeKind


def here(port: int) -> Server:
    return Server(RelayUrl(Tls.ABROAD, "127.0.0.1", port), "robot.test")


@pytest.fixture
async def relay(smtp_sink: Sink) -> AsyncIterator[SmtpRelay]:
    made = SmtpRelay(here(smtp_sink.port), 2, 0.3)
    yield made
    await made.close()


async def test_a_mail_arrives_byte_for_byte(relay: SmtpRelay, smtp_sink: Sink) -> None:
    outcome = await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)
    assert outcome.kind is DELIVERED
    assert str(outcome.status) == "250 2.0.0 taken"
    assert outcome.relay == f"127.0.0.1:{smtp_sink.port}"
    (taken,) = smtp_sink.mails
    assert (taken.mail_from, taken.rcpt_tos, taken.content) == (BOUNCE, ("hanako@docomo.ne.jp",), MESSAGE)


async def test_a_message_that_begins_with_a_dot(relay: SmtpRelay, smtp_sink: Sink) -> None:
    assert (await relay.send("", MEMBER, b".\r\n", seconds=5)).kind is DELIVERED
    assert (smtp_sink.mails[0].mail_from, smtp_sink.mails[0].content) == ("", b".\r\n")


@pytest.mark.parametrize("message", [b"a\nb\r\n", b"a\rb\r\n", b"no end", b""])
async def test_what_could_smuggle_a_second_mail_is_never_sent(
    relay: SmtpRelay, smtp_sink: Sink, message: bytes
) -> None:
    with pytest.raises(ValueError, match="CRLF"):
        await relay.send(BOUNCE, MEMBER, message, seconds=5)
    assert smtp_sink.sessions == 0


async def test_connections_are_kept(relay: SmtpRelay, smtp_sink: Sink) -> None:
    for _ in range(5):
        assert (await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)).kind is DELIVERED
    assert [mail.session for mail in smtp_sink.mails] == [1] * 5


@pytest.mark.parametrize(
    ("stage", "reply", "kind", "effect"),
    [
        ("connect", "421 4.3.2 busy", DEFERRED, Effect.OUR_FAULT),
        ("connect", "554 5.7.1 go away", DEFERRED, Effect.OUR_FAULT),
        ("ehlo", "421 4.3.2 busy", DEFERRED, Effect.OUR_FAULT),
        ("mail", "451 4.3.0 later", DEFERRED, Effect.SESSION),
        ("mail", "550 5.7.1 sender not allowed", DEFERRED, Effect.OUR_FAULT),
        ("rcpt", "450 4.2.0 greylisted", DEFERRED, Effect.NONE),
        ("rcpt", "452 4.2.2 mailbox full", DEFERRED, Effect.NONE),
        ("rcpt", "450 4.7.1 slower", DEFERRED, Effect.SLOW_DOMAIN),
        ("rcpt", "550 5.1.1 unknown user", FAILED, Effect.NONE),
        ("rcpt", "550 5.7.1 blocked", FAILED, Effect.NONE),
        ("data", "451 4.3.0 later", DEFERRED, Effect.SESSION),
        ("data", "554 5.5.1 no valid recipients", FAILED, Effect.NONE),
        ("dot", "451 4.3.0 later", DEFERRED, Effect.SESSION),
        ("dot", "554 5.7.1 looks like spam", FAILED, Effect.NONE),
        ("dot", "550 5.1.1 unknown user", FAILED, Effect.NONE),
    ],
)
async def test_a_refusal_at_each_stage(
    relay: SmtpRelay, smtp_sink: Sink, stage: Stage, reply: str, kind: OutcomeKind, effect: Effect
) -> None:
    smtp_sink.answer(stage, reply)
    outcome = await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)
    assert (outcome.kind, outcome.effect, str(outcome.status)) == (kind, effect, reply)
    assert smtp_sink.mails == []
    # the next mail goes out, whatever state the last one left the connection in
    assert (await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)).kind is DELIVERED
    assert len(smtp_sink.mails) == 1


@pytest.mark.parametrize("charset", ["utf-8", "shift_jis", "euc_jp", "iso2022_jp"])
async def test_an_answer_in_eight_bits(relay: SmtpRelay, smtp_sink: Sink, charset: str) -> None:
    words = "宛先が見つかりません".encode(charset).decode("utf-8", "surrogateescape")
    smtp_sink.answer("rcpt", f"550-5.1.1 {words}\r\n550 5.1.1 (a@x.jp)")
    outcome = await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)
    assert (outcome.kind, outcome.effect, outcome.cause) == (FAILED, Effect.NONE, Cause.UNKNOWN_USER)
    assert outcome.status.text.isascii()
    assert outcome.status.text.isprintable()
    assert outcome.status.text.endswith("(a@x.jp)")
    assert (await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)).kind is DELIVERED


async def test_a_refused_transaction_is_reset_on_the_kept_connection(relay: SmtpRelay, smtp_sink: Sink) -> None:
    asked: list[str] = []
    smtp_sink.rule = lambda stage, _: asked.append(stage)
    smtp_sink.answer("rcpt", "550 5.1.1 unknown user")
    await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)
    await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)
    assert asked == ["connect", "ehlo", "mail", "rset", "mail", "rcpt", "data", "dot"]
    assert smtp_sink.sessions == 1


async def test_a_relay_that_refuses_a_reset_is_left(relay: SmtpRelay, smtp_sink: Sink) -> None:
    smtp_sink.answer("rcpt", "550 5.1.1 unknown user")
    smtp_sink.answer("rset", "502 5.5.1 what?")
    await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)
    assert (await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)).kind is DELIVERED
    assert smtp_sink.sessions == 2


@pytest.mark.parametrize("answer", [CLOSE, HANG, "gibberish"])
@pytest.mark.parametrize(
    ("stage", "kind", "effect"),
    [
        ("connect", DEFERRED, Effect.OUR_FAULT),
        ("ehlo", DEFERRED, Effect.OUR_FAULT),
        ("mail", DEFERRED, Effect.SESSION),
        ("rcpt", DEFERRED, Effect.SESSION),
        ("data", DEFERRED, Effect.SESSION),
        ("dot", UNKNOWN, Effect.NONE),
    ],
)
async def test_a_relay_that_falls_silent(
    relay: SmtpRelay, smtp_sink: Sink, stage: Stage, kind: OutcomeKind, effect: Effect, answer: str
) -> None:
    smtp_sink.answer(stage, answer)
    outcome = await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=0.6)
    assert (outcome.kind, outcome.effect) == (kind, effect)
    assert f"connection lost at {stage}" in outcome.status.text
    assert (await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)).kind is DELIVERED
    await smtp_sink.wait(2 if stage == "dot" and answer != "gibberish" else 1)


async def test_nobody_listens(smtp_sink: Sink) -> None:
    async with sink() as gone:
        port = gone.port
    outcome = await SmtpRelay(here(port), 2, 1).send(BOUNCE, MEMBER, MESSAGE, seconds=5)
    assert (outcome.kind, outcome.effect) == (DEFERRED, Effect.OUR_FAULT)


@pytest.mark.parametrize("answer", ["421 4.4.2 idle for too long", CLOSE])
async def test_a_kept_connection_the_relay_ended_costs_nothing(relay: SmtpRelay, smtp_sink: Sink, answer: str) -> None:
    await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)
    smtp_sink.answer("mail", answer)
    assert (await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)).kind is DELIVERED
    assert smtp_sink.sessions == 2


async def test_a_relay_without_ehlo(relay: SmtpRelay, smtp_sink: Sink) -> None:
    smtp_sink.answer("ehlo", "502 5.5.1 what?")
    assert (await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)).kind is DELIVERED


async def test_the_content_is_not_begun_after_the_deadline(smtp_sink: Sink) -> None:
    now = 1000
    relay = SmtpRelay(here(smtp_sink.port), 2, 1, now=lambda: now)
    asked: list[str] = []
    smtp_sink.rule = lambda stage, _: asked.append(stage)
    outcome = await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5, deadline_ms=1000)
    assert outcome.kind is DEFERRED
    assert "deadline" in outcome.status.text
    assert not {"data", "dot"} & set(asked)
    assert (await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5, deadline_ms=1001)).kind is DELIVERED
    await relay.close()


@pytest.mark.parametrize("extensions", [("PIPELINING",), ()])
async def test_nor_where_the_relay_was_slow_to_answer(smtp_sink: Sink, extensions: tuple[str, ...]) -> None:
    times = [1000]
    smtp_sink.extensions = extensions
    smtp_sink.rule = lambda stage, _: times.append(2000) if stage == "rcpt" else None
    relay = SmtpRelay(here(smtp_sink.port), 2, 1, now=lambda: times[-1])
    outcome = await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5, deadline_ms=1500)
    assert (outcome.kind, outcome.status.enhanced) == (DEFERRED, "4.4.7")
    assert (await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)).kind is DELIVERED
    assert [mail.content for mail in smtp_sink.mails] == [MESSAGE]
    await relay.close()


async def test_a_kept_connection_ends_with_a_good_bye(relay: SmtpRelay, smtp_sink: Sink) -> None:
    asked: list[str] = []
    smtp_sink.rule = lambda stage, _: asked.append(stage)
    await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)
    await relay.close()
    await smtp_sink.idle()
    assert asked[-1] == "quit"


ODD = Address("a..b.", "docomo.ne.jp")
QUOTED, BARE = '"a..b."@docomo.ne.jp', "a..b.@docomo.ne.jp"


def only(spelling: str, refusal: str) -> Callable[[Stage, str], str | None]:
    return lambda stage, line: refusal if stage == "rcpt" and f"<{spelling}>" not in line else None


async def test_an_old_carrier_address_goes_out_in_quotes(relay: SmtpRelay, smtp_sink: Sink) -> None:
    smtp_sink.rule = only(QUOTED, "553 5.1.3 bad address")
    for _ in range(2):
        assert (await relay.send(BOUNCE, ODD, MESSAGE, seconds=5)).kind is DELIVERED
    assert [mail.rcpt_tos for mail in smtp_sink.mails] == [(QUOTED,)] * 2


@pytest.mark.parametrize("refusal", ["553 5.1.3 bad address", "501 5.5.4 syntax", "501 5.1.0 no", "553 5.0.0 no"])
async def test_a_carrier_that_wants_it_bare_is_remembered(relay: SmtpRelay, smtp_sink: Sink, refusal: str) -> None:
    asked: list[str] = []
    accept = only(BARE, refusal)

    def rule(stage: Stage, line: str) -> str | None:
        if stage == "rcpt":
            asked.append(line.partition("<")[2].rpartition(">")[0])
        return accept(stage, line)

    smtp_sink.rule = rule
    for _ in range(2):
        assert (await relay.send(BOUNCE, ODD, MESSAGE, seconds=5)).kind is DELIVERED
    assert asked == [QUOTED, BARE, BARE]
    accept = only(QUOTED, refusal)  # and the other way round, should the carrier change its mind
    for _ in range(2):
        assert (await relay.send(BOUNCE, ODD, MESSAGE, seconds=5)).kind is DELIVERED
    assert asked[3:] == [BARE, QUOTED, QUOTED]


async def test_both_spellings_refused_and_other_refusals(relay: SmtpRelay, smtp_sink: Sink) -> None:
    smtp_sink.answer("rcpt", "553 5.1.3 bad", "553 5.1.3 still bad")
    outcome = await relay.send(BOUNCE, ODD, MESSAGE, seconds=5)
    assert (outcome.kind, outcome.status.text) == (FAILED, "still bad")
    smtp_sink.answer("rcpt", "550 5.1.1 unknown")
    assert (await relay.send(BOUNCE, ODD, MESSAGE, seconds=5)).effect is Effect.NONE
    assert smtp_sink.mails == []


async def test_elsewhere_irregular_dots_are_always_quoted(relay: SmtpRelay, smtp_sink: Sink) -> None:
    smtp_sink.answer("rcpt", "553 5.1.3 bad address")
    assert (await relay.send(BOUNCE, Address("a..b", "example.org"), MESSAGE, seconds=5)).kind is FAILED


async def test_the_captured_mails() -> None:
    relay = open_relay(RelaySection(url="capture:"), "robot.test", now=lambda: 5)
    assert isinstance(relay, CaptureRelay)
    assert (await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)).kind is DELIVERED
    (kept,) = await relay.wait(1)
    assert (kept.sender, kept.recipient, kept.message, kept.at) == (BOUNCE, MEMBER, MESSAGE, 5)
    with pytest.raises(TimeoutError):
        await relay.wait(2, seconds=0.01)


async def test_a_relay_by_its_url(smtp_sink: Sink) -> None:
    relay = open_relay(RelaySection(url=f"smtp://127.0.0.1:{smtp_sink.port}"), "robot.test")
    assert (await relay.send(BOUNCE, MEMBER, MESSAGE, seconds=5)).kind is DELIVERED
    await relay.close()
