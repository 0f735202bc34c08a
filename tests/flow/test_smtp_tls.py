"""STARTTLS (RFC 3207): an offer that is never in the way of a mail."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
import uvloop

from tests.support.dialogue import HOST, Client, Inbox, listening


def _certificate(folder: Path, not_after: datetime | None = None) -> tuple[trustme.CA, dict[str, Path]]:
    ca = trustme.CA()
    issued = ca.issue_cert(HOST, not_after=not_after)
    chain, key = folder / "chain.pem", folder / "key.pem"
    issued.private_key_pem.write_to_path(key)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    return ca, {"tls_certificate": chain, "tls_key": key}


async def _mail(client: Client) -> None:
    for command in ("MAIL FROM:<a@e.jp>", "RCPT TO:<touroku@robot.example>", "DATA"):
        await client.ask(command)
    assert await client.ask("From: a@e.jp\r\n\r\n.") == "250 2.0.0 OK"


async def _conversation(ca: trustme.CA, files: dict[str, Path]) -> None:
    inbox = Inbox()
    context = ssl.create_default_context()
    ca.configure_trust(context)
    async with listening(inbox, **files) as listener:
        client = await Client.connect(listener.port)
        await client.line()
        await client.send("EHLO client.example\r\n")
        assert "250-STARTTLS" in await client.reply()
        assert await client.ask("STARTTLS now") == "501 5.5.4 Syntax error in parameters"
        # Case 16: what is sent ahead in plain text belongs to nobody.
        await client.send("STARTTLS\r\nMAIL FROM:<smuggler@e.jp>\r\nNOOP\r\n")
        assert await client.line() == "220 2.0.0 Ready to start TLS"
        await client.writer.start_tls(context, server_hostname=HOST)
        assert await client.ask("MAIL FROM:<a@e.jp>") == "503 5.5.1 Bad sequence of commands"
        await client.send("EHLO client.example\r\n")
        offered = await client.reply()
        assert "250-STARTTLS" not in offered
        assert offered[-1] == "250 ENHANCEDSTATUSCODES"
        assert await client.ask("STARTTLS") == "503 5.5.1 Bad sequence of commands"
        await _mail(client)
        assert await client.ask("QUIT") == "221 2.0.0 Bye"
        assert await client.closed()
        client.close()
    (envelope,) = inbox.envelopes
    assert envelope.reverse_path is not None
    assert envelope.reverse_path.text == "a@e.jp"


async def test_starttls(tmp_path: Path) -> None:
    await _conversation(*_certificate(tmp_path))


def test_starttls_on_uvloop(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_conversation(*_certificate(tmp_path)))


async def test_old_tls_is_refused(tmp_path: Path) -> None:
    ca, files = _certificate(tmp_path)
    context = ssl.create_default_context()
    ca.configure_trust(context)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with listening(Inbox(), **files) as listener:
        client = await Client.connect(listener.port)
        assert await client.begin("STARTTLS") == "220 2.0.0 Ready to start TLS"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await client.writer.start_tls(context, server_hostname=HOST)
        client.close()


async def test_an_expired_certificate_does_not_stop_a_plain_mail(tmp_path: Path) -> None:
    _, files = _certificate(tmp_path, not_after=datetime(2020, 1, 1, tzinfo=UTC))
    inbox = Inbox()
    async with listening(inbox, **files) as listener:
        client = await Client.connect(listener.port)
        await client.begin()
        await _mail(client)
        client.close()
    assert len(inbox.envelopes) == 1


async def test_a_broken_certificate_costs_the_offer_only(tmp_path: Path) -> None:
    broken = tmp_path / "chain.pem"
    broken.write_text("no certificate\n")
    inbox = Inbox()
    async with listening(inbox, tls_certificate=broken) as listener:
        client = await Client.connect(listener.port)
        await client.line()
        await client.send("EHLO client.example\r\n")
        assert "250-STARTTLS" not in await client.reply()
        await _mail(client)
        client.close()
    assert len(inbox.envelopes) == 1


@pytest.mark.parametrize("ending", ["garbage", "reset", "close", "silence", "stop"])
async def test_a_handshake_that_fails_leaves_nothing_behind(tmp_path: Path, ending: str) -> None:
    _, files = _certificate(tmp_path)
    async with listening(Inbox(), session_seconds=1, **files) as listener:
        client = await Client.connect(listener.port)
        assert await client.begin("STARTTLS") == "220 2.0.0 Ready to start TLS"
        assert listener.sessions == 1
        match ending:
            case "garbage":
                await client.send("MAIL FROM:<a@e.jp>\r\n")
            case "reset":
                client.reset()
            case "close":
                client.close()
            case "stop":
                await listener.stop(0.1)
        async with asyncio.timeout(10):
            while listener.sessions:  # noqa: ASYNC110  the listener has nothing to wait on
                await asyncio.sleep(0.01)
        client.close()
