"""The mail door on real sockets: what a text file cannot say about commits, limits, floods and its own end."""

import asyncio
import gc
import logging
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
from sqlalchemy.exc import OperationalError

from mailbot.mail.status import REFUSED_SENDER
from tests.dialogues.test_dialogues import ALL, play
from tests.support.dialogue import Client, Inbox, listening

MESSAGE = b"From: hanako@docomo.ne.jp\r\nSubject: x\r\n\r\n"
MAIL = ("MAIL FROM:<hanako@docomo.ne.jp>", "RCPT TO:<touroku@robot.example>", "DATA")


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  the listener has nothing to wait on
            await asyncio.sleep(0.01)


# 250 and the commit


async def test_an_envelope_says_what_came() -> None:
    inbox = Inbox()
    async with listening(inbox) as listener:
        client = await Client.connect(listener.port)
        await client.begin_data("a..b.@docomo.ne.jp")
        await client.send(MESSAGE + b"x" * 100_000 + b"\r\n..\r\n.\r\n")  # case 21: a line may be long, nobody reads it
        assert await client.line() == "250 2.0.0 OK"
        assert await client.ask("NOOP") == "250 2.0.0 OK"
        client.close()
    (envelope,) = inbox.envelopes
    assert envelope.reverse_path is not None
    assert envelope.reverse_path.text == "a..b.@docomo.ne.jp"
    assert [r.text for r in envelope.recipients] == ["touroku@robot.example"]
    assert envelope.content == MESSAGE
    assert envelope.size == len(MESSAGE) + 100_002 + 4
    assert (envelope.peer, envelope.helo, envelope.origin) == ("127.0.0.1", "client.example", "smtp")
    assert envelope.received_at == 1_763_600_000_000


async def test_no_250_before_the_commit() -> None:
    inbox = Inbox()
    inbox.gate.clear()
    async with listening(inbox) as listener:
        client = await Client.connect(listener.port)
        await client.begin_data()
        await client.send(MESSAGE + b".\r\nNOOP\r\n")
        await inbox.entered.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(answer := asyncio.ensure_future(client.line())), 0.2)
        inbox.gate.set()
        assert await answer == "250 2.0.0 OK"
        assert await client.line() == "250 2.0.0 OK"
        client.close()


async def test_the_commit_survives_a_client_that_hangs_up() -> None:
    """Case 23: the connection is reset after the final dot."""
    inbox = Inbox()
    inbox.gate.clear()
    async with listening(inbox) as listener:
        client = await Client.connect(listener.port)
        await client.begin_data()
        await client.send(MESSAGE + b".\r\n")
        await inbox.entered.wait()
        client.reset()
        await _until(lambda: listener.sessions == 0)
        assert inbox.finished == 0
        inbox.gate.set()
        await _until(lambda: inbox.finished == 1)


async def test_a_client_that_only_stops_sending_gets_its_answers() -> None:
    inbox = Inbox()
    inbox.gate.clear()
    async with listening(inbox) as listener:
        client = await Client.connect(listener.port)
        await client.begin_data()
        await client.send(MESSAGE + b".\r\nQUIT\r\n")
        client.writer.write_eof()
        await inbox.entered.wait()
        inbox.gate.set()
        assert await client.line() == "250 2.0.0 OK"
        assert await client.line() == "221 2.0.0 Bye"
        assert await client.closed()
        client.close()


async def test_a_message_without_its_end_is_none() -> None:
    inbox = Inbox()
    async with listening(inbox) as listener:
        client = await Client.connect(listener.port)
        await client.begin_data()
        await client.send(MESSAGE + b"and then")
        client.writer.write_eof()
        assert await client.closed()
        client.close()
    assert inbox.envelopes == []


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("db password=hunter2"),
        OperationalError("INSERT INTO inbox", {"a": "hanako"}, Exception("connection refused")),  # case 25
        ConnectionRefusedError("no database"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_any_failure_is_451_and_says_nothing(failure: Exception) -> None:
    inbox = Inbox(failure=failure)
    async with listening(inbox) as listener:
        client = await Client.connect(listener.port)
        await client.begin_data()
        await client.send(MESSAGE + b".\r\n")
        assert await client.line() == "451 4.3.0 Temporary failure, try again later"
        inbox.failure = None
        for command in MAIL:
            await client.ask(command)
        assert await client.ask("\r\n.") == "250 2.0.0 OK"
        client.close()


async def test_a_bug_in_a_command_is_451_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr("mailbot.intake.smtp_dialogue.parse_path", broken)
    async with listening(Inbox()) as listener:
        client = await Client.connect(listener.port)
        assert await client.begin("MAIL FROM:<a@e.jp>") == "451 4.3.0 Temporary failure, try again later"
        assert await client.ask("NOOP") == "250 2.0.0 OK"
        client.close()


async def test_a_refusal_passes_through_and_counts_go_on() -> None:
    inbox = Inbox(answer=REFUSED_SENDER)
    async with listening(inbox, max_commands=2) as listener:
        client = await Client.connect(listener.port)
        await client.begin()
        for _ in range(2):
            for command in MAIL:
                await client.ask(command)
            assert await client.ask("\r\n.") == str(REFUSED_SENDER)
        assert await client.ask(MAIL[0]) == "421 4.7.0 Too many commands"
        assert await client.closed()
        client.close()


async def test_a_kept_connection_sends_as_many_good_mails_as_it_likes() -> None:
    inbox = Inbox()
    async with listening(inbox, max_commands=2) as listener:
        client = await Client.connect(listener.port)
        await client.begin()
        for _ in range(50):
            for command in MAIL:
                await client.ask(command)
            assert await client.ask("\r\n.") == "250 2.0.0 OK"
        client.close()
    assert len(inbox.envelopes) == 50


# Size and memory


async def test_forty_megabytes_are_refused_and_not_kept() -> None:
    """Case 20."""
    inbox = Inbox()
    chunk = (b"x" * 76 + b"\r\n") * 800
    async with listening(inbox) as listener:
        client = await Client.connect(listener.port)
        await client.begin_data()
        await client.send(MESSAGE)
        for _ in range(20):
            await client.send(chunk)
        gc.collect()
        before = peak = psutil.Process().memory_info().rss
        for _ in range(40_000_000 // len(chunk)):
            await client.send(chunk)
            peak = max(peak, psutil.Process().memory_info().rss)
        await client.send(b".\r\n")
        assert await client.line() == "552 5.3.4 Message too large"
        assert peak - before < 5_000_000
        assert await client.ask("NOOP") == "250 2.0.0 OK"
        client.close()
    assert inbox.envelopes == []


@pytest.mark.parametrize(("extra", "answer"), [(0, "250 2.0.0 OK"), (1, "552 5.3.4 Message too large")])
async def test_the_limit_is_exact(extra: int, answer: str) -> None:
    async with listening(Inbox(), max_message_bytes=1000) as listener:
        client = await Client.connect(listener.port)
        await client.begin_data()
        await client.send(MESSAGE + b"x" * (998 - len(MESSAGE) + extra) + b"\r\n.\r\n")
        assert await client.line() == answer
        client.close()


# Slow clients: case 19, with a tenth of the time a slow machine may take


@pytest.mark.parametrize(
    ("limits", "begin", "drip"),
    [
        ({"greeting_timeout_seconds": 1}, (), b""),
        ({"greeting_timeout_seconds": 1, "max_commands": 10_000}, (), b"NOOP\r\n"),
        ({"command_timeout_seconds": 1}, ("NOOP",), b""),
        ({"command_timeout_seconds": 1}, ("NOOP",), b"N"),
        ({"session_seconds": 1, "max_commands": 10_000}, ("NOOP",), b"NOOP\r\n"),
        ({"session_seconds": 1}, MAIL, b"x"),
        ({"command_timeout_seconds": 1}, MAIL, b""),
        ({"command_timeout_seconds": 1, "min_bytes_per_second": 1000}, MAIL, b"x"),
    ],
    ids=["mute", "no-helo", "idle", "drip-command", "noop-forever", "drip-data", "idle-data", "slow-data"],
)
async def test_a_slow_client_is_cut(limits: dict[str, Any], begin: tuple[str, ...], drip: bytes) -> None:
    inbox = Inbox()
    async with listening(inbox, **limits) as listener:
        client = await Client.connect(listener.port)
        if begin:
            await client.begin(*begin)
        else:
            await client.line()
        last = ""

        async def dripping() -> None:
            while True:
                await client.send(drip)
                await asyncio.sleep(0.02)

        drops = asyncio.create_task(dripping())
        async with asyncio.timeout(10):
            while line := await client.line():
                last = line
        drops.cancel()
        await asyncio.gather(drops, return_exceptions=True)
        assert last == "421 4.4.2 Timeout"
        await _until(lambda: listener.sessions == 0)
        client.close()
    assert inbox.envelopes == []


async def test_a_slow_commit_is_not_the_clients_fault() -> None:
    inbox = Inbox()
    inbox.gate.clear()
    limits: dict[str, Any] = {"command_timeout_seconds": 1, "session_seconds": 1, "greeting_timeout_seconds": 1}
    async with listening(inbox, **limits) as listener:
        client = await Client.connect(listener.port)
        await client.begin_data()
        await client.send(MESSAGE + b".\r\n")
        await inbox.entered.wait()
        await asyncio.sleep(1.5)
        inbox.gate.set()
        assert await client.line() == "250 2.0.0 OK"
        client.close()


async def test_a_trusted_peer_may_stay() -> None:
    limits: dict[str, Any] = {"session_seconds": 1, "max_commands": 3, "max_errors": 1, "max_connections": 1}
    async with listening(Inbox(), trusted_peers=("127.0.0.0/8",), **limits) as listener:
        clients = [await Client.connect(listener.port) for _ in range(3)]
        for client in clients:
            await client.begin()
        for _ in range(10):
            assert await clients[0].ask("NOOP") == "250 2.0.0 OK"
            assert await clients[0].ask("BDAT") == "500 5.5.2 Command not recognized"
        await asyncio.sleep(1.5)
        for client in clients:
            assert await client.ask("NOOP") == "250 2.0.0 OK"
            client.close()


async def test_a_peer_that_does_not_read_is_dropped() -> None:
    limits: dict[str, Any] = {"command_timeout_seconds": 1, "max_commands": 10_000_000}
    async with listening(Inbox(), **limits) as listener:
        client = await Client.connect(listener.port)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # TCP
        for _ in range(300):
            client.writer.write(b"EHLO a\r\n" * 5000)
        await _until(lambda: listener.sessions == 0)
        client.writer.transport.abort()


# Many clients


async def test_a_thousand_connections_from_one_network() -> None:
    """Case 28."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    async with listening(Inbox(), max_connections_per_network=50) as listener:
        flood = await asyncio.gather(*(Client.connect(listener.port, f"127.0.0.{1 + n % 250}") for n in range(1000)))
        greetings = await asyncio.gather(*(client.line() for client in flood))
        assert greetings.count("220 mx.robot.example ESMTP") == 50
        assert greetings.count("421 4.7.0 Too many connections from your network, try again later") == 950
        other = await Client.connect(listener.port, "127.0.1.1")
        await other.begin_data()
        await other.send(MESSAGE + b".\r\n")
        assert await other.line() == "250 2.0.0 OK"
        other.close()
        for client in flood:
            client.close()
        await _until(lambda: listener.sessions == 0)
        again = await Client.connect(listener.port)
        assert await again.begin("NOOP") == "250 2.0.0 OK"
        again.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_full_house_says_so() -> None:
    async with listening(Inbox(), max_connections=2) as listener:
        clients = [await Client.connect(listener.port, f"127.0.{n}.1") for n in range(3)]
        assert [await client.line() for client in clients] == [
            "220 mx.robot.example ESMTP",
            "220 mx.robot.example ESMTP",
            "421 4.3.2 Too many connections, try again later",
        ]
        assert await clients[2].closed()
        for client in clients:
            client.close()


# The end


async def test_stopping_lets_a_message_end() -> None:
    inbox = Inbox()
    async with listening(inbox) as listener:
        port = listener.port
        idle, busy = await Client.connect(port), await Client.connect(port)
        await idle.begin("MAIL FROM:<a@e.jp>")
        await busy.begin_data()
        stopping = asyncio.create_task(listener.stop(20))
        assert await idle.line() == "421 4.3.2 Service is closing, try again later"
        assert await idle.closed()
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(port)
        assert not stopping.done()
        await busy.send(MESSAGE + b".\r\n")
        assert await busy.line() == "250 2.0.0 OK"
        assert await busy.line() == "421 4.3.2 Service is closing, try again later"
        assert await busy.closed()
        await asyncio.wait_for(stopping, 10)
        idle.close()
        busy.close()
    assert len(inbox.envelopes) == 1


async def test_stopping_waits_for_a_commit_whose_client_is_gone() -> None:
    inbox = Inbox()
    inbox.gate.clear()
    async with listening(inbox) as listener:
        client = await Client.connect(listener.port)
        await client.begin_data()
        await client.send(MESSAGE + b".\r\n")
        await inbox.entered.wait()
        client.reset()
        await _until(lambda: listener.sessions == 0)
        stopping = asyncio.create_task(listener.stop(20))
        await asyncio.sleep(0.1)
        assert not stopping.done()
        inbox.gate.set()
        await asyncio.wait_for(stopping, 10)
        assert inbox.finished == 1


async def test_stopping_does_not_wait_for_ever() -> None:
    inbox = Inbox()
    inbox.gate.clear()
    async with listening(inbox) as listener:
        reading, committing = await Client.connect(listener.port), await Client.connect(listener.port)
        await reading.begin_data()
        await committing.begin_data()
        await committing.send(MESSAGE + b".\r\n")
        await inbox.entered.wait()
        await asyncio.wait_for(listener.stop(0.1), 10)
        assert await reading.closed()
        assert await committing.closed()
        assert listener.sessions == 0
        reading.close()
        committing.close()


# Behind a proxy


async def test_a_listed_proxy_names_the_client() -> None:
    inbox = Inbox()
    async with listening(inbox, proxy_peers=("127.0.0.1",), max_connections_per_network=1) as listener:
        first = await Client.connect(listener.port)
        await first.send("PROXY TCP4 203.0.113.9 192.0.2.1 4711 25\r\n")
        await first.begin_data()
        await first.send(MESSAGE + b".\r\n")
        assert await first.line() == "250 2.0.0 OK"
        second = await Client.connect(listener.port)
        await second.send("PROXY TCP4 203.0.113.10 192.0.2.1 4712 25\r\n")
        assert (await second.line()).startswith("421 4.7.0 ")
        third = await Client.connect(listener.port)
        await third.send("PROXY TCP6 2001:db8::1 2001:db8::2 4713 25\r\n")
        assert await third.line() == "220 mx.robot.example ESMTP"
        for client in (first, second, third):
            client.close()
    assert [envelope.peer for envelope in inbox.envelopes] == ["203.0.113.9"]


@pytest.mark.parametrize("header", ["EHLO client.example\r\n", "PROXY TCP4 x y 1 2\r\n", "PROXY TCP4\r\n"])
async def test_a_listed_proxy_must_say_whom_it_brings(header: str) -> None:
    async with listening(Inbox(), proxy_peers=("127.0.0.1",)) as listener:
        client = await Client.connect(listener.port)
        await client.send(header)
        assert await client.closed()
        client.close()


# Logs, and the other event loop


async def test_no_address_reaches_the_log(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    async with listening(Inbox()) as listener:
        client = await Client.connect(listener.port)
        with caplog.at_level(logging.INFO):
            await client.begin_data()
            await client.send(MESSAGE + b".\r\n")
            await client.line()
            await client.ask("MAIL FROM:<taro..@gmail.com>")
            await client.ask("HELO \x1b[2J\rforged log line")
        client.close()
    out, err = capfd.readouterr()
    everything = caplog.text + out + err
    assert "hanako" not in everything
    assert "taro" not in everything
    assert "\x1b[2J" not in everything


def _on_uvloop(main: Callable[[], Any]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_the_same_conversations_on_uvloop(tmp_path: Path) -> None:
    async def main() -> None:
        for conversation in ALL:
            await play(conversation, tmp_path)

    _on_uvloop(main)


@pytest.mark.parametrize(
    "test",
    [
        test_the_commit_survives_a_client_that_hangs_up,
        test_a_client_that_only_stops_sending_gets_its_answers,
        test_a_peer_that_does_not_read_is_dropped,
        test_stopping_lets_a_message_end,
        test_stopping_does_not_wait_for_ever,
        test_a_thousand_connections_from_one_network,
    ],
)
def test_the_same_on_uvloop(test: Callable[[], Any]) -> None:
    _on_uvloop(test)
