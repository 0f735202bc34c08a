"""Whom the robot answers, from outside: mails over SMTP, a real resolver, the answer's envelope, the row that is kept.

The peer is always 127.0.0.1: senders whose SPF record names it are proved by it.
"""

from __future__ import annotations

import asyncio
import smtplib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import pytest

from mailbot.config.site import SmtpSection
from mailbot.intake.smtp import SmtpListener
from tests.support import signing
from tests.support.dialogue import DIRECTORY, HOST, Client, Inbox
from tests.support.resolver import Unbound, resolver
from tests.support.robot import Robot, robot
from tests.support.signing import signed, txt
from tests.support.sink import Sink

TO = "touroku@yokokou.example"
HERE, NOT_HERE = "v=spf1 ip4:127.0.0.1 -all", "v=spf1 ip4:192.0.2.1"
POLICY = txt("v=DMARC1; p=none")
RECORDS = {
    "proved.example": txt(HERE),
    "_dmarc.proved.example": POLICY,
    "s1._domainkey.proved.example": signing.record(),
    "disowned.example": txt(f"{NOT_HERE} -all"),
    "_dmarc.disowned.example": POLICY,
    "docomo.ne.jp": txt(f"{NOT_HERE} ~all"),
    "_dmarc.docomo.ne.jp": POLICY,
    "plain.example": txt(HERE),
    "s1._domainkey.plain.example": signing.record(),
    "elsewhere.example": txt(f"{NOT_HERE} -all"),
    "soft.example": txt(f"{NOT_HERE} ~all"),
    "neutral.example": txt(f"{NOT_HERE} ?all"),
    "broken-spf.example": txt("v=spf1 nonsense -all"),
    "list.example": txt(HERE),
}


@pytest.fixture(scope="module")
def unbound() -> Iterator[Unbound]:
    with resolver(RECORDS, failing=["servfail.example"]) as running:
        yield running


def settings(unbound: Unbound, mode: str = "enforce", **more: str) -> dict[str, str]:
    return {**unbound.environment, "AUTHENTICATION_MODE": f'"{mode}"', "AUTHENTICATION_PEERS": "[]", **more}


@asynccontextmanager
async def running(folder: Path, relay: Sink, overrides: dict[str, str]) -> AsyncIterator[Robot]:
    async with robot(folder, relay.port, overrides=overrides) as made:
        yield made


@dataclass(frozen=True)
class Case:
    """A mail and its end. `signer`: the domain that signs it. `tier` '' for no answer."""

    id: str
    author: str
    sender: str = ""
    signer: str = ""
    code: int = 250
    reason: str = "accepted"
    tier: str = "proved"
    known: str = ""
    extra: str = ""

    @property
    def mail_from(self) -> str:
        return self.sender or self.author

    @property
    def content(self) -> bytes:
        lines = f"{self.extra}From: {self.author}\r\nTo: {TO}\r\nReply-To: victim@proved.example\r\n"
        lines += f"Sender: victim@proved.example\r\nSubject: x\r\nMessage-ID: <{self.id}@phone.example>\r\n"
        content = f"{lines}Date: {formatdate()}\r\n\r\nvictim@proved.example\r\n".encode()
        return signed(content, self.signer) if self.signer else content


def refused(id_: str, author: str, sender: str = "", signer: str = "", known: str = "") -> Case:
    return Case(id_, author, sender, signer, 550, "authentication-failed", "", known)


def silent(id_: str, author: str, sender: str, signer: str = "", known: str = "") -> Case:
    return Case(id_, author, sender, signer, 250, "sender-mismatch", "", known)


def unproved(id_: str, author: str, known: str) -> Case:
    return Case(id_, author, tier="unproved", known=known)


CASES = (
    # DMARC passes: the From address is answered, whatever MAIL FROM is
    Case("by-spf", "a1@proved.example", known="spf=pass (proved.example) dkim=none dmarc=pass (proved.example)"),
    Case("by-dkim", "a2@proved.example", "x@list.example", "proved.example", known="dkim=pass dmarc=pass"),
    Case("by-dkim-against-spf", "a3@proved.example", "x@elsewhere.example", "proved.example", known="spf=fail"),
    Case("by-spf-of-another-box", "a4@proved.example", "desk@proved.example", known="dmarc=pass"),
    # no policy, and a signature of the author's domain
    Case("dkim-alone", "b1@plain.example", "x@list.example", "plain.example", known="dkim=pass dmarc=none"),
    Case("dkim-alone-equal", "b2@plain.example", signer="plain.example", known="dkim=pass dmarc=none"),
    # no policy, SPF passes
    Case("spf-equal", "c1@plain.example", known="spf=pass (plain.example) dkim=none dmarc=none"),
    Case("spf-equal-domain-in-capitals", "c2@PLAIN.example", "c2@plain.EXAMPLE", known="spf=pass"),
    silent("send-as", "c3@neutral.example", "c3@plain.example", known="spf=pass (plain.example)"),
    silent("forwarder", "c4@nobody.example", "x@list.example", known="spf=pass (list.example)"),
    silent("signed-by-another", "c5@nobody.example", "x@list.example", "plain.example", known="dkim=none dmarc=none"),
    # nothing is known
    unproved("nothing", "d1@nobody.example", "spf=none (nobody.example) dkim=none dmarc=none"),
    unproved("neutral", "d2@neutral.example", "spf=neutral"),
    unproved("broken-spf", "d3@broken-spf.example", "spf=permerror"),
    silent("nothing-and-another", "d4@nobody.example", "x@neutral.example", known="spf=neutral"),
    # disowned
    refused("dmarc-fail", "e1@disowned.example"),
    refused("dmarc-softfail", "e2@docomo.ne.jp"),
    refused("dmarc-fail-spf-of-another", "e3@disowned.example", "x@list.example"),
    refused("dmarc-fail-signed-by-another", "e4@disowned.example", "x@list.example", "plain.example"),
    refused("spf-fail", "e5@elsewhere.example"),
    refused("spf-softfail", "e6@soft.example"),
    refused("spf-fail-of-another", "e7@nobody.example", "x@elsewhere.example"),
)


def deliver(made: Robot, case: Case) -> tuple[int, str]:
    """-> the answer to the end of DATA."""
    with smtplib.SMTP("127.0.0.1", made.smtp_port, timeout=60) as client:
        client.ehlo("phone.example")
        assert client.docmd("MAIL", f"FROM:<{case.mail_from}>")[0] == 250
        assert client.docmd("RCPT", f"TO:<{TO}>")[0] == 250
        code, text = client.data(case.content)
        return code, text.decode()


def rows(made: Robot) -> dict[str, tuple[str, str, str | None, str | None]]:
    """From address -> action, reason, tier, what was known."""
    with closing(sqlite3.connect(made.folder / "var" / "mailbot.sqlite3")) as database:
        found = database.execute("SELECT from_address, action, reason, tier, authentication FROM inbox").fetchall()
    return {author: tuple(rest) for author, *rest in found}


SERVFAIL = Case("servfail", "a@servfail.example", tier="unproved")


async def patience(made: Robot) -> None:
    """SERVFAIL: 451 4.4.3 twice; then the mail is one whose sender nobody knows."""
    for _ in range(2):
        later = (451, "4.4.3 Temporary directory failure, try again later")
        assert await asyncio.to_thread(deliver, made, SERVFAIL) == later
    assert rows(made) == {}
    assert await asyncio.to_thread(deliver, made, SERVFAIL) == (250, "2.0.0 OK")
    assert rows(made)[SERVFAIL.author][3] == (
        "spf=temperror (servfail.example) dkim=none dmarc=temperror (servfail.example)"
    )


async def test_whom_the_robot_answers(unbound: Unbound, smtp_sink: Sink, tmp_path: Path) -> None:
    """The whole table, row by row, and nobody else: not Reply-To, not Sender, nobody named in the text."""
    async with running(tmp_path, smtp_sink, settings(unbound)) as made:
        await patience(made)
        answers = {case.id: await asyncio.to_thread(deliver, made, case) for case in CASES}
        answered = {case.author.lower() for case in CASES if case.tier}
        assert {case.id: answers[case.id][0] for case in CASES} == {case.id: case.code for case in CASES}
        assert {text for code, text in answers.values() if code == 550} == {"5.7.1 Sender not accepted"}
        stored = rows(made)
        assert stored.pop(SERVFAIL.author)[:3] == ("answer", "accepted", "unproved")
        assert {author for author, row in stored.items() if row[0] == "answer"} == answered
        await smtp_sink.wait(len(answered) + 1)
        mails = [mail for mail in smtp_sink.mails if SERVFAIL.author not in mail.rcpt_tos]
        assert sorted(one for mail in mails for one in mail.rcpt_tos) == sorted(answered)
        assert {mail.message["To"].addresses[0].addr_spec for mail in mails} == answered
    taken = [case for case in CASES if case.code == 250]
    assert set(stored) == {case.author.lower() for case in taken}
    for case in taken:
        action, reason, tier, known = stored[case.author.lower()]
        assert (action, reason, tier or "") == ("answer" if case.tier else "discard", case.reason, case.tier), case.id
        assert known is not None
        assert case.known in known, case.id


async def test_observing_changes_nothing_and_tells(unbound: Unbound, smtp_sink: Sink, tmp_path: Path) -> None:
    """MAIL FROM that is From is answered, as it always was; the log and the row say what enforcing would have done."""
    forged, mismatch, good = CASES[15], CASES[1], CASES[0]
    async with running(tmp_path, smtp_sink, settings(unbound, "observe")) as made:
        for case in (forged, mismatch, good):
            assert (await asyncio.to_thread(deliver, made, case))[0] == 250
        await smtp_sink.wait(2)
        assert [mail.rcpt_tos for mail in smtp_sink.mails] == [(forged.author,), (good.author,)]
        stored = rows(made)
        assert stored[forged.author][:3] == ("answer", "accepted", "proved")
        assert "dmarc=fail" in (stored[forged.author][3] or "")
        assert stored[mismatch.author][:2] == ("discard", "sender-mismatch")
        observed = [line for line in made.log.splitlines() if "mail.observed" in line]
        assert len(observed) == 2
        assert "authentication-failed" in observed[0]
        assert "accepted" in observed[1]


async def test_behind_a_server_of_ours(unbound: Unbound, smtp_sink: Sink, tmp_path: Path) -> None:
    """Its word counts, nobody else's; SPF of its own address, which would pass here, is not asked."""
    front = "mx.front.example"
    handed = f"Received: from a.example (a.example [192.0.2.7]) by {front} (Postfix) with ESMTP id 1\r\n"

    def case(id_: str, author: str, said: str, tier: str, reason: str = "accepted", by: str = front) -> Case:
        extra = f"Authentication-Results: {by}; {said}\r\n{handed}" if said else handed
        return Case(id_, author, tier=tier, reason=reason, extra=extra)

    cases = (
        case("good", "f1@disowned.example", "dmarc=pass header.from=disowned.example", "proved"),
        case("forged", "f2@proved.example", "dmarc=fail header.from=proved.example", "", "authentication-failed"),
        case("wrong-id", "f3@nobody.example", "dmarc=pass header.from=nobody.example", "unproved", by="mx.evil"),
        case("no-id", "f4@nobody.example", "", "unproved"),
        case("silent", "f5@proved.example", "", "unproved"),
    )
    overrides = settings(
        unbound, AUTHENTICATION_UPSTREAM_PEERS='["127.0.0.1"]', AUTHENTICATION_AUTHSERV_ID=f'"{front}"'
    )
    async with running(tmp_path, smtp_sink, overrides) as made:
        for one in cases:  # a forged one is dropped: a refusal would make our own server send a bounce
            assert (await asyncio.to_thread(deliver, made, one))[0] == 250, one.id
        await smtp_sink.wait(4)
        stored = rows(made)
        for one in cases:
            assert (stored[one.author][1], stored[one.author][2] or "") == (one.reason, one.tier), one.id
        assert {mail.rcpt_tos[0] for mail in smtp_sink.mails} == {one.author for one in cases if one.tier}


# -- memory ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(inbox: Inbox, kept_bytes: int) -> AsyncIterator[SmtpListener]:
    section = SmtpSection(listen=("127.0.0.1:0",))
    made = SmtpListener(section, HOST, DIRECTORY, inbox.receive, lambda: 0, kept_bytes=kept_bytes)
    await made.start()
    try:
        yield made
    finally:
        await made.stop(5)


SIGNED = b"DKIM-Signature: v=1\r\nFrom: a@b.example\r\n\r\n"
BODY = (b"x" * 76 + b"\r\n") * 500
FULL = "452 4.3.1 Too much mail at the moment, try again later"


async def test_signed_mails_share_their_memory() -> None:
    """One that finds no room in its network's quarter is asked to come again; what it took is given back, and others
    are not touched."""
    inbox = Inbox()
    async with listening(inbox, 240_000) as listener:
        first, second = await Client.connect(listener.port), await Client.connect(listener.port)
        await first.begin_data()
        await first.send(SIGNED + BODY)
        await second.begin_data()
        await second.send(SIGNED + BODY + b".\r\n")
        assert await second.line() == FULL
        plain = await Client.connect(listener.port)
        await plain.begin_data()
        await plain.send(b"From: a@b.example\r\n\r\n" + BODY + b".\r\n")
        assert await plain.line() == "250 2.0.0 OK"
        await first.send(b".\r\n")
        assert await first.line() == "250 2.0.0 OK"
        again = await Client.connect(listener.port)
        await again.begin_data()
        await again.send(SIGNED + BODY + b".\r\n")
        assert await again.line() == "250 2.0.0 OK"
        for client in (first, second, plain, again):
            client.close()
    whole = [envelope.content for envelope in inbox.envelopes if envelope.content.startswith(b"DKIM")]
    assert whole == [SIGNED + BODY] * 2


async def test_who_hangs_up_gives_back_the_memory() -> None:
    inbox = Inbox()
    async with listening(inbox, 240_000) as listener:
        for _ in range(3):
            client = await Client.connect(listener.port)
            await client.begin_data()
            await client.send(SIGNED + BODY)
            client.close()
        async with asyncio.timeout(10):
            while listener.sessions:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.01)
        last = await Client.connect(listener.port)
        await last.begin_data()
        await last.send(SIGNED + BODY + b".\r\n")
        assert await last.line() == "250 2.0.0 OK"
        last.close()
