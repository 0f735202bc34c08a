"""The ways of a blank mail over a connection that begins plain and goes on in TLS (RFC 3207), by SMTP and by LMTP."""

from __future__ import annotations

import asyncio
import re
import smtplib
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from tests.support.member import Member, register
from tests.support.postfix import postfix
from tests.support.robot import link_in
from tests.support.rows import PASSWORD, Stage, stage
from tests.support.servers import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")
ME, TO, DESK, HOST = "yokokou", "touroku@yokokou.example", "helpdesk@hpe.example", "mail.mailbot.example"
INVITED, DONE = "利用登録手続きのご案内", "利用登録完了のご案内"


@dataclass(frozen=True)
class Secure:
    """A robot that offers STARTTLS, and who vouches for its certificate."""

    stage: Stage
    authority: Path
    lmtp_port: int

    async def send(self, sender: str, to: str = TO, *, tls: bool = True, headers: str = "") -> tuple[int, str]:
        """A blank mail -> the reply to its end, and the version of TLS it went through."""
        return await asyncio.to_thread(self._send, sender, to, tls, headers)

    def _send(self, sender: str, to: str, tls: bool, headers: str) -> tuple[int, str]:
        lines = f"From: {sender or 'MAILER-DAEMON@phone.example'}\r\nTo: {to}\r\n{headers}"
        lines += f"Message-ID: <{time.monotonic_ns()}@phone.example>\r\nDate: Fri, 20 Nov 2026 12:00:00 +0900\r\n\r\n"
        with smtplib.SMTP("127.0.0.1", self.stage.robot.smtp_port, timeout=60) as client:
            client._host = HOST  # type: ignore[attr-defined]  # the name the certificate must have
            version = ""
            if tls:
                assert client.starttls(context=ssl.create_default_context(cafile=self.authority))[0] == 220
                assert isinstance(client.sock, ssl.SSLSocket)
                version = client.sock.version() or ""
            client.ehlo("phone.example")
            assert client.mail(sender)[0] == client.rcpt(to)[0] == 250
            return client.data(lines.encode())[0], version

    async def reasons(self, sender: str) -> list[str]:
        found = await self.stage.sql("SELECT reason FROM inbox WHERE address = ? ORDER BY received_at", sender)
        return [reason for (reason,) in found]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secure]:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert(HOST)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "robot.pem")
    lmtp, name = free_port(), str(folder / "robot.pem")
    tls = {"SMTP_TLS_CERTIFICATE": name, "SMTP_TLS_KEY": name, "SMTP_LMTP_LISTEN": f'["127.0.0.1:{lmtp}"]'}
    async with stage(folder, {ME: []}, None, **tls) as running:
        yield Secure(running, folder / "ca.pem", lmtp)


async def test_from_the_blank_mail_to_the_completion_and_a_family_member(at: Secure) -> None:
    box = at.stage.new_address()
    for number in (1, 2):
        assert await at.send(box) == (250, "TLSv1.3")
        letter, login_id = at.stage.letter(ME), at.stage.new_login_id()
        link = link_in((await at.stage.mails(box, INVITED, number))[-1])
        async with Member(at.stage.robot.web) as member:
            done = await register(member, link, letter.printed_id, letter.printed_password, login_id, PASSWORD)
            assert done.url.endswith("/done"), done.text
        await at.stage.mails(box, DONE, number)
    assert len(at.stage.sink.to(box)) == 4


async def test_a_help_desk_a_null_sender_and_an_automatic_mail(at: Secure) -> None:
    box, away = at.stage.new_address(), at.stage.new_address()
    assert (await at.send(box, DESK))[0] == 250
    assert (await at.send("", headers="X-Failed-Recipients: x\r\n"))[0] == 250
    assert (await at.send(away, headers="Auto-Submitted: auto-replied\r\n"))[0] == 250
    await at.stage.mails(box)
    assert await at.reasons(box) == ["accepted"]
    assert await at.reasons(away) == ["automatic-reply"]
    assert await at.stage.sql("SELECT reason FROM inbox WHERE address IS NULL") == [("null-sender",)]
    assert at.stage.sink.to(away) == []


async def test_who_speaks_no_tls_is_served_at_the_same_door(at: Secure) -> None:
    box = at.stage.new_address()
    assert await at.send(box, tls=False) == (250, "")
    await at.stage.mails(box, INVITED)


@pytest.mark.parametrize("way", ["smtp", "lmtp"])
async def test_a_postfix_that_insists_on_tls(at: Secure, way: str) -> None:
    """With the name checked, so that nobody else could be on the line."""
    port = at.lmtp_port if way == "lmtp" else at.stage.robot.smtp_port
    box = at.stage.new_address()
    settings = {
        "default_transport": f"{way}:{'inet:' if way == 'lmtp' else ''}[127.0.0.1]:{port}",
        f"{way}_tls_security_level": "verify",
        f"{way}_tls_verify_cert_match": HOST,
        f"{way}_tls_CAfile": "$config_directory/ca.pem",
        f"{way}_tls_loglevel": "1",
    }
    with postfix(settings=settings, files={"ca.pem": at.authority.read_text()}) as running:
        line = f"From: {box}\r\nTo: {TO}\r\nMessage-ID: <{way}@phone.example>\r\n\r\n".encode()

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", running.port, timeout=60) as client:
                client.sendmail(box, [TO], line)

        await asyncio.to_thread(send)
        end = time.monotonic() + 20
        while "status=" not in (log := await asyncio.to_thread(running.log)):
            assert time.monotonic() < end, log
            await asyncio.sleep(0.02)
    assert re.search(rf"postfix/{way}\[\d+\]: Verified TLS connection established to .*TLSv1.3", log), log
    await at.stage.mails(box, INVITED)
    assert await at.reasons(box) == ["accepted"]
