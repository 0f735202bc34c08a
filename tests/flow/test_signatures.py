"""Every letter of every society, signed, through a real Postfix: what arrives verifies, by dkimpy and by OpenDKIM."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path

import dkim
import pytest

from mailbot.config.site import RelaySection
from mailbot.delivery.relays import open_relay
from mailbot.dkimkeys import read_key
from mailbot.letters import letters_of
from mailbot.mail.address import Address
from mailbot.mail.dkim import Key, Signer, generate_key, load_key
from mailbot.mail.status import OutcomeKind
from mailbot.office.dnscheck.records import Record, dkim_records
from mailbot.private import write_private
from tests.golden import update as golden
from tests.support.opendkim import opendkim, opendkim_testkey
from tests.support.postfix import postfix
from tests.support.resolver import resolver
from tests.support.sink import Taken, sink

KEYS = {"r1": load_key(generate_key()), "e1": load_key(generate_key(ed25519=True))}
ALGORITHMS = ("rsa-sha256", "ed25519-sha256")
GOOD = dict.fromkeys(ALGORITHMS, "pass")
TRACE = (
    b"Received: from a.example by b.example; Fri, 20 Nov 2026 15:42:07 +0900\r\n"
    b"Authentication-Results: mx.example; dkim=pass header.d=evil.example\r\n"
    b"X-Spam-Status: No\r\n"
)


@dataclass(frozen=True)
class Case:
    society: str
    letter: str
    sender: str


def cases() -> list[Case]:
    made = []
    for society, policy in golden.societies().items():
        for letter, kind in letters_of(policy).items():
            addresses = policy.addresses
            sender = addresses.help if kind.help_desk and addresses.help else addresses.robot
            made.append(Case(society, letter, sender))
    return made


def recipient(number: int) -> Address:
    return Address(f"m{number}", "mail.example")


@pytest.fixture(scope="module")
def arrived() -> list[bytes]:
    """What the sink got of each case, in their order."""

    async def send() -> list[Taken]:
        letters, societies, signer = (
            golden.letters(),
            golden.societies(),
            Signer([(s.encode(), k) for s, k in KEYS.items()]),
        )
        async with sink() as inbox:
            with postfix(relay_port=inbox.port) as relay_server:
                relay = open_relay(
                    RelaySection(url=f"smtp://127.0.0.1:{relay_server.port}", connections=4), golden.HOST
                )

                async def one(number: int, case: Case) -> None:
                    kind = letters_of(societies[case.society])[case.letter]
                    message = letters.render(
                        case.society,
                        case.letter,
                        golden.facts(case.society, case.letter),
                        recipient=recipient(number),
                        message_id=golden.MESSAGE_ID,
                        date_ms=golden.NOW,
                        in_reply_to=golden.INCOMING if kind.answer else None,
                    )
                    bounce = societies[case.society].addresses.bounce
                    outcome = await relay.send(bounce, recipient(number), signer.sign(message, golden.NOW), seconds=60)
                    assert outcome.kind is OutcomeKind.DELIVERED, outcome

                await asyncio.gather(*(one(number, case) for number, case in enumerate(cases())))
                await inbox.wait(len(cases()), seconds=120)
                await relay.close()
                return [inbox.to(f"m{number}@mail.example")[0] for number in range(len(cases()))]

    return [mail.content for mail in asyncio.run(send())]


def records(keys: Mapping[str, Key]) -> list[Record]:
    return [record for s, key in keys.items() for record in dkim_records(golden.societies().values(), s, key)]


def published(keys: Mapping[str, Key]) -> dict[str, str]:
    """As the lines that we print for administrators have it."""
    lines = [record.line().partition(". IN ") for record in records(keys)]
    return {name: value for name, _, value in lines}


@pytest.fixture(scope="module")
def dns() -> Iterator[str]:
    with resolver(published(KEYS)) as running:
        yield running.endpoint


def dkimpy(message: bytes) -> dict[str, str]:
    """Algorithm -> pass or fail."""
    asked = {record.name.encode(): record.value.encode() for record in records(KEYS)}
    verdicts = {}
    for number, algorithm in enumerate(ALGORITHMS):
        try:
            held = dkim.DKIM(message).verify(number, dnsfunc=lambda name, timeout=5: asked.get(name))
        except dkim.ValidationError:  # a body hash that does not fit
            held = False
        verdicts[algorithm] = "pass" if held else "fail"
    return verdicts


def fields(message: bytes) -> list[bytes]:
    """The header fields, each with its folding and line end."""
    found: list[bytes] = []
    for line in message.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            found[-1] += line + b"\r\n"
        else:
            found.append(line + b"\r\n")
    return found


def named(field: bytes) -> bytes:
    return field.partition(b":")[0].lower()


def test_every_letter_arrives_with_two_signatures_that_hold(arrived: list[bytes], dns: str) -> None:
    assert len(arrived) == len(cases()) > 60
    for message in arrived:
        assert named(message) == b"received"  # Postfix was there
        assert dkimpy(message) == GOOD
    assert opendkim(arrived, dns) == [GOOD] * len(arrived)


def test_the_signing_domain_is_that_of_the_sender(arrived: list[bytes]) -> None:
    for message, case in zip(arrived, cases(), strict=True):
        found = {named(field): field.partition(b":")[2].strip().decode() for field in fields(message)}
        assert parseaddr(found[b"from"])[1] == case.sender
        signatures = [field for field in fields(message) if named(field) == b"dkim-signature"]
        for signature in signatures:
            tags = dict(tag.strip().split("=", 1) for tag in signature.partition(b":")[2].decode().split(";"))
            assert tags["d"] == case.sender.rpartition("@")[2]
            assert tags.keys().isdisjoint({"l", "x"})
            assert tags["c"] == "relaxed/relaxed"


def test_headers_of_the_way_do_no_harm(arrived: list[bytes], dns: str) -> None:
    travelled = [TRACE + message for message in arrived]
    assert [dkimpy(message) for message in travelled] == [GOOD] * len(travelled)
    assert opendkim(travelled, dns) == [GOOD] * len(travelled)


PROTECTED = (
    b"from", b"to", b"subject", b"date", b"message-id", b"reply-to", b"cc", b"auto-submitted", b"mime-version",
    b"content-type", b"content-transfer-encoding", b"list-unsubscribe", b"in-reply-to", b"references",
)  # fmt: skip
"""Written out: the program's own list must not decide what is tested."""


def tampered(message: bytes) -> dict[str, bytes]:
    """Name -> the message with one thing changed that a signature protects."""
    head, _, body = message.partition(b"\r\n\r\n")
    whole = fields(message)
    signatures = [field for field in whole if named(field) == b"dkim-signature"]
    made = {
        "body-longer": message + b"eA==\r\n",
        "body-changed": head + b"\r\n\r\n" + (b"A" if body[:1] != b"A" else b"B") + body[1:],
        "body-gone": head + b"\r\n\r\n",
        "second-mail-below": message + b"\r\nFrom: x@evil.example\r\n",
    }
    for name in PROTECTED:
        added = name.title() + b": x@evil.example\r\n"
        made[f"{name.decode()}-prepended"] = added + message
        made[f"{name.decode()}-appended"] = head + b"\r\n" + added + b"\r\n" + body
        for at, field in enumerate(whole):
            if named(field) == name:
                rest = b"".join(whole[at + 1 :]) + b"\r\n" + body
                before = b"".join(whole[:at])
                made[f"{name.decode()}-changed"] = before + field.removesuffix(b"\r\n") + b"x\r\n" + rest
                made[f"{name.decode()}-removed"] = before + rest
                made[f"{name.decode()}-replaced"] = before + added + rest
    assert len(signatures) == 2
    return made


@pytest.mark.parametrize("society", golden.societies())
def test_nothing_that_is_signed_can_be_changed(arrived: list[bytes], society: str) -> None:
    message = next(
        message
        for message, case in zip(arrived, cases(), strict=True)
        if case.society == society and b"\nIn-Reply-To" in message
    )
    present = {named(field) for field in fields(message)} & set(PROTECTED)
    changes = tampered(message)
    assert len(changes) == 4 + 2 * len(PROTECTED) + 3 * len(present)
    assert len(present) >= 10
    for name, changed in changes.items():
        assert "pass" not in dkimpy(changed).values(), name
    known = {record.name: record.value for record in records(KEYS)}
    for name, verdicts in zip(changes, opendkim(list(changes.values()), known), strict=True):
        assert "pass" not in verdicts.values(), name


def test_a_key_of_somebody_else_does_not_verify(arrived: list[bytes]) -> None:
    foreign = {"r1": load_key(generate_key()), "e1": load_key(generate_key(ed25519=True))}
    with resolver(published(foreign)) as running:
        verdicts = opendkim(arrived[:5], running.endpoint)
    assert [set(verdict.values()) for verdict in verdicts] == [{"fail"}] * 5


def test_opendkim_finds_the_printed_record_and_the_key_file_to_be_one(tmp_path: Path) -> None:
    file = tmp_path / "dkim-r1.pem"
    write_private(file, generate_key())
    right, wrong = {"r1": read_key(file)}, {"r1": KEYS["r1"]}
    with resolver(published(right)) as running:
        assert opendkim_testkey("hpe.example", "r1", file, running.endpoint) == ""
        assert "not found" in opendkim_testkey("hpe.example", "r2", file, running.endpoint)
    with resolver(published(wrong)) as running:
        assert "keys do not match" in opendkim_testkey("hpe.example", "r1", file, running.endpoint)
