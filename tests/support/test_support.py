"""The helpers themselves: each really starts, does its work and goes away without a trace."""

import asyncio
import smtplib
from email.message import EmailMessage

import psycopg
import pytest
from playwright.async_api import Browser, expect

from tests.support.chromium import PHONE, page
from tests.support.postfix import Postfix, postfix
from tests.support.postgres import Postgres
from tests.support.servers import program
from tests.support.sink import CLOSE, Sink


def _mail(subject: str = "空メール") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "hanako@docomo.test", "touroku@example.test", subject
    mail.set_content(".点で始まる行\n..\n")
    return mail


def _submit(port: int, mail: EmailMessage) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.send_message(mail)


async def test_postfix_relays_to_the_sink_unchanged(postfix_relay: Postfix, smtp_sink: Sink) -> None:
    await asyncio.to_thread(_submit, postfix_relay.port, _mail())
    (taken,) = await smtp_sink.wait(to="touroku@example.test")
    assert taken.mail_from == "hanako@docomo.test"
    assert taken.message["Subject"] == "空メール"
    assert taken.message.get_content() == ".点で始まる行\r\n..\r\n"
    assert "status=sent" in await _log(postfix_relay, "status=sent")


async def test_postfix_keeps_what_the_sink_puts_off(postfix_relay: Postfix, smtp_sink: Sink) -> None:
    smtp_sink.answer("rcpt", "451 4.7.1 later")
    await asyncio.to_thread(_submit, postfix_relay.port, _mail())
    assert "status=deferred" in await _log(postfix_relay, "status=deferred")
    assert len(postfix_relay.queue()) == 1
    await asyncio.to_thread(postfix_relay.flush)
    await smtp_sink.wait(1)


async def _log(relay: Postfix, wanted: str) -> str:
    async with asyncio.timeout(20):
        while wanted not in relay.log():  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0.05)
    return relay.log()


def test_postfix_discards_and_leaves_nothing_running() -> None:
    with postfix() as relay:
        _submit(relay.port, _mail())
        directory = relay.directory
    assert not directory.exists()
    with pytest.raises(ConnectionRefusedError):
        _submit(relay.port, _mail())


async def test_sink_follows_its_script(smtp_sink: Sink) -> None:
    smtp_sink.answer("mail", "421 4.3.2 going down")
    smtp_sink.answer("dot", "554 5.7.1 no", CLOSE)
    with pytest.raises(smtplib.SMTPSenderRefused, match="going down"):
        await asyncio.to_thread(_submit, smtp_sink.port, _mail())
    with pytest.raises(smtplib.SMTPDataError, match="no"):
        await asyncio.to_thread(_submit, smtp_sink.port, _mail("refused"))
    with pytest.raises(smtplib.SMTPServerDisconnected):
        await asyncio.to_thread(_submit, smtp_sink.port, _mail("unknown end"))
    await asyncio.to_thread(_submit, smtp_sink.port, _mail("taken"))
    assert [mail.message["Subject"] for mail in await smtp_sink.wait(2)] == ["unknown end", "taken"]


def test_postgres_gives_each_test_its_own_database(postgres_server: Postgres) -> None:
    def build(url: str) -> None:
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            connection.execute("CREATE TABLE t (n int)")

    names = [postgres_server.create(postgres_server.template("selftest", build)) for _ in range(2)]
    counts = []
    for name in names:
        with psycopg.connect(postgres_server.url(name).replace("+psycopg", "")) as connection:
            connection.execute("INSERT INTO t VALUES (1)")
            counts.append(connection.execute("SELECT count(*) FROM t").fetchone())
        postgres_server.drop(name)
    assert counts == [(1,), (1,)]


@pytest.mark.parametrize(("js", "seen"), [(True, "動く"), (False, "静か")])
async def test_chromium_with_and_without_javascript(browser: Browser, js: bool, seen: str) -> None:
    async with page(browser, js=js, width=PHONE) as window:
        await window.set_content(
            "<meta name=viewport content='width=device-width'><p id=p>静か</p>"
            "<script>document.getElementById('p').textContent = '動く'</script>"
        )
        await expect(window.locator("#p")).to_have_text(seen)
        assert window.viewport_size is not None
        assert window.viewport_size["width"] == PHONE


def test_a_missing_program_is_named() -> None:
    with pytest.raises(pytest.skip.Exception, match="no-such-server"):
        program("no-such-server")
