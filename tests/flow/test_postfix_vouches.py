"""A Postfix with OpenDKIM in front, by LMTP: the robot believes what that server wrote, and nothing that only says so.

The key of the signatures is known to OpenDKIM alone: what the robot knows of them, it was told.
"""

from __future__ import annotations

import asyncio
import smtplib
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import dkim
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.flow.test_postfix_in_front import block
from tests.support.postfix import Postfix, postfix
from tests.support.resolver import resolver
from tests.support.rows import Stage, stage
from tests.support.servers import free_port, program, wait_for_port

pytestmark = pytest.mark.asyncio(loop_scope="module")
TO, NAME = "touroku@yokokou.example", "mx.yokokou.example"
RECORDS = {
    "phone.example": 'TXT "v=spf1 ip4:192.0.2.1 -all"',
    "_dmarc.phone.example": 'TXT "v=DMARC1; p=reject"',
    "silent.example": "A 192.0.2.3",
}
FOUND = f"/^X-Found: (.*)/ REPLACE Authentication-Results: {NAME}; $1\n"
"""Stands for OpenDMARC, which writes what it found of SPF and of DMARC into a field each."""


@dataclass(frozen=True)
class Vouched:
    stage: Stage
    postfix: Postfix
    key: bytes

    async def send(
        self, author: str, *, sign: bool = False, sender: str = "", headers: str = "", body: str = ""
    ) -> str:
        """A blank mail through Postfix -> its inbox row, as `action tier reason`, and what staff read of its checks."""
        sender = sender or author
        lines = f"From: {author}\r\nTo: {TO}\r\nMessage-ID: <{time.monotonic_ns()}@phone.example>\r\n"
        mail = f"{headers}{lines}Date: {formatdate()}\r\nSubject: \r\n\r\n{body}".encode()
        if sign:
            mail = dkim.sign(mail, b"s1", b"phone.example", self.key, include_headers=[b"from", b"to", b"date"]) + mail

        def work() -> None:
            with smtplib.SMTP("127.0.0.1", self.postfix.port, timeout=60) as client:
                client.ehlo("phone.example")
                client.sendmail(sender, [TO], mail)

        await asyncio.to_thread(work)
        end = time.monotonic() + 20
        statement = "SELECT action, tier, reason, authentication, source FROM inbox WHERE from_address = ?"
        while not (found := await self.stage.sql(statement, author)):
            assert time.monotonic() < end, self.postfix.log()[-3000:]
            await asyncio.sleep(0.02)
        action, tier, reason, words, source = found[0]
        assert source == "lmtp"
        return f"{action} {tier} {reason} / {words}"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def milter(key: rsa.RSAPrivateKey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """OpenDKIM as docs/behind-postfix.md has it -> its port."""
    folder, port = tmp_path_factory.mktemp("opendkim"), free_port()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    value = "".join(public.decode().splitlines()[1:-1])
    (folder / "keys").write_text(f"s1._domainkey.phone.example v=DKIM1; k=rsa; p={value}\n")
    lines = {"Mode": "v", "Socket": f"inet:{port}@127.0.0.1", "AuthservID": NAME}
    lines |= {"TestPublicKeys": str(folder / "keys"), "InternalHosts": "192.0.2.255", "UserID": "root"}
    (folder / "conf").write_text("".join(f"{name} {said}\n" for name, said in lines.items()))
    process = subprocess.Popen([program("opendkim"), "-f", "-x", str(folder / "conf")], stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield port
    finally:
        process.kill()
        process.wait(10)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(
    milter: int, key: rsa.RSAPrivateKey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Vouched]:
    lmtp = free_port()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    settings = {
        "myhostname": NAME,
        "default_transport": f"lmtp:inet:[127.0.0.1]:{lmtp}",
        "smtpd_milters": f"inet:127.0.0.1:{milter}",
        "milter_default_action": "tempfail",
        "header_checks": "regexp:$config_directory/mailbot-headers",
        "nested_header_checks": "",
        "lmtp_header_checks": "regexp:$config_directory/found",
    }
    with (
        resolver(RECORDS) as names,
        postfix(settings=settings, files={"mailbot-headers": block("headers"), "found": FOUND}) as front,
    ):
        ours: Any = {
            **names.environment,
            "AUTHENTICATION_MODE": '"enforce"',
            "AUTHENTICATION_PEERS": "",
            "AUTHENTICATION_AUTHSERV_ID": f'"{NAME}"',
            "SMTP_LMTP_LISTEN": f'["127.0.0.1:{lmtp}"]',
        }
        async with stage(tmp_path_factory.mktemp("vouched"), {}, **ours) as running:
            yield Vouched(running, front, pem)


async def test_what_the_server_in_front_found_is_believed(at: Vouched) -> None:
    found = await at.send("hanako@phone.example", sign=True)
    assert found.startswith("answer proved accepted / ")
    assert "dmarc=pass (phone.example)" in found
    assert found.endswith(f" by {NAME}")
    await at.stage.mails("hanako@phone.example")


async def test_a_signed_mail_is_answered_at_its_author_whoever_sent_it_on(at: Vouched) -> None:
    found = await at.send("taro@phone.example", sign=True, sender="sent-on@forwarder.example")
    assert found.startswith("answer proved accepted / ")
    await at.stage.mails("taro@phone.example")
    assert at.stage.sink.to("sent-on@forwarder.example") == []


@pytest.mark.parametrize("name", [NAME, NAME.upper(), f" {NAME} 1", f"(x) {NAME}", f"\"{NAME}\""])
async def test_what_a_sender_writes_in_the_servers_name_is_taken_out(at: Vouched, name: str) -> None:
    said = "dmarc=pass header.from=phone.example; spf=pass smtp.mailfrom=phone.example"
    said += "; dkim=pass header.d=phone.example"
    author = f"forged{name.encode().hex()[:12]}@phone.example"
    found = await at.send(author, headers=f"Authentication-Results: {name};\r\n\t{said}\r\n")
    assert found.startswith("answer unproved accepted / "), "as if it had written nothing"
    assert "=pass" not in found
    other = await at.send(f"to{author}", sender="x@evil.example", headers=f"Authentication-Results: {name}; {said}\r\n")
    assert other.startswith("discard None sender-mismatch / ")


async def test_a_forwarded_mail_inside_keeps_its_lines_and_the_signature_holds(at: Vouched) -> None:
    within = f"Authentication-Results: {NAME}; spf=pass\r\nFrom: a@b.example\r\n\r\nx\r\n"
    body = f"--b\r\nContent-Type: message/rfc822\r\n\r\n{within}--b--\r\n"
    kind = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
    found = await at.send("attached@phone.example", sign=True, headers=kind, body=body)
    assert found.startswith("answer proved accepted / ")


async def test_who_says_nothing_about_himself_is_a_stranger(at: Vouched) -> None:
    assert (await at.send("jiro@silent.example")).startswith("answer unproved accepted / ")
    found = await at.send("kumi@silent.example", sender="other@silent.example")
    assert found.startswith("discard None sender-mismatch / ")


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("word", "expected"), [
    ("pass", "answer proved accepted"), ("fail", "discard None authentication-failed"),
])  # fmt: skip
async def test_what_milters_write_into_a_field_each_counts(
    at: Vouched, word: str, expected: str, together: bool
) -> None:
    dmarc, spf = "dmarc=none (p=none dis=none) header.from=small.example", f"spf={word} smtp.mailfrom=small.example"
    headers = f"X-Found: {dmarc}; {spf}\r\n" if together else f"X-Found: {dmarc}\r\nX-Found: {spf}\r\n"
    found = await at.send(f"{word}{together:d}@small.example", headers=headers)
    assert found.startswith(f"{expected} / spf={word} (small.example)")
