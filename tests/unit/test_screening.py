"""Verdicts: who is answered, and the one reason for every silence."""

from dataclasses import replace
from typing import Any

import pytest

from mailbot.intake.screening import EXPLANATIONS, Action, OwnAddresses, Reason, judge
from mailbot.mail.address import Address, parse_mailbox
from mailbot.mail.authentication import Authentication, Result
from mailbot.mail.envelope import Envelope, Purpose
from mailbot.mail.inbound import Inbound

TARO = parse_mailbox("taro@docomo.ne.jp")
ROBOT = parse_mailbox("toroku@kenpo.example")
OWN = OwnAddresses.of([ROBOT], {"robot.example"}, {"ids.example"})
ENVELOPE = Envelope(TARO, (ROBOT,), b"", 0, "192.0.2.1", "mx.example", "smtp", 0)
BLANK = Inbound(TARO, None)


def test_a_person_is_answered() -> None:
    verdict = judge(ENVELOPE, BLANK, Purpose.REGISTRATION, OWN, None)
    assert (verdict.action, verdict.reason, verdict.address) == (Action.ANSWER, Reason.ACCEPTED, TARO)
    assert str(verdict.status).startswith("250 2.0.0 ")


def test_a_person_is_answered_every_time() -> None:
    first = judge(ENVELOPE, BLANK, Purpose.REGISTRATION, OWN, None)
    assert judge(ENVELOPE, BLANK, Purpose.REGISTRATION, OWN, None) == first


@pytest.mark.parametrize("purpose", sorted(set(Purpose) - {Purpose.REGISTRATION, Purpose.HELP}))
def test_other_addresses_never_answer(purpose: Purpose) -> None:
    verdict = judge(ENVELOPE, BLANK, purpose, OWN, None)
    assert (verdict.action, verdict.reason, verdict.address) == (Action.DISCARD, Reason.NOT_FOR_ANSWER, None)
    assert verdict.status.code == 250


def sender(text: str) -> tuple[Envelope, Inbound]:
    address = parse_mailbox(text)
    return replace(ENVELOPE, reverse_path=address), replace(BLANK, from_address=address)


@pytest.mark.parametrize(
    ("envelope", "inbound", "reason"),
    [
        (replace(ENVELOPE, reverse_path=None), BLANK, "null-sender"),
        (ENVELOPE, Inbound(broken="too-many-fields"), "broken-headers"),
        (ENVELOPE, replace(BLANK, received_count=101), "too-many-received"),
        (ENVELOPE, replace(BLANK, received_count=100), "accepted"),
        (ENVELOPE, replace(BLANK, references_count=101), "loop"),
        (ENVELOPE, replace(BLANK, references_count=100), "accepted"),
        (ENVELOPE, replace(BLANK, robot=True), "loop"),
        (ENVELOPE, replace(BLANK, references=frozenset({"<1@ids.example>", "<2@IDS.example>"})), "loop"),
        (ENVELOPE, replace(BLANK, references=frozenset({"<1@ids.example>", "<2@e.jp>"})), "accepted"),
        (ENVELOPE, replace(BLANK, automatic="auto-submitted"), "automatic-reply"),
        (ENVELOPE, replace(BLANK, automatic="multipart/report"), "automatic-reply"),
        (ENVELOPE, replace(BLANK, automatic="precedence: auto_reply"), "automatic-reply"),
        (ENVELOPE, replace(BLANK, automatic="precedence: bulk"), "list-mail"),
        (ENVELOPE, replace(BLANK, automatic="list-*"), "list-mail"),
        (ENVELOPE, Inbound(), "no-from"),
        (*sender("toroku@kenpo.example"), "own-address"),
        (*sender("Toroku@KENPO.example"), "own-address"),
        (ENVELOPE, replace(BLANK, references=frozenset({"<1@ids.example>", "<2@robot.example>"})), "loop"),
        (*sender("Somebody@kenpo.example"), "accepted"),
        (*sender("somebody@robot.example"), "own-address"),
        (*sender("mailer-daemon@docomo.ne.jp"), "never-answer-address"),
        (ENVELOPE, replace(BLANK, from_address=Address("noreply", "docomo.ne.jp")), "never-answer-address"),
        (ENVELOPE, replace(BLANK, from_address=ROBOT), "own-address"),
        (ENVELOPE, replace(BLANK, from_address=Address("hanako", "docomo.ne.jp")), "sender-mismatch"),
        (ENVELOPE, replace(BLANK, from_address=Address("TARO", "docomo.ne.jp")), "accepted"),
    ],
)
@pytest.mark.parametrize("purpose", [Purpose.REGISTRATION, Purpose.HELP])
def test_reason(envelope: Envelope, inbound: Inbound, purpose: Purpose, reason: str) -> None:
    verdict = judge(envelope, inbound, purpose, OWN, None)
    assert verdict.reason == reason
    assert verdict.action is (Action.ANSWER if reason == "accepted" else Action.DISCARD)
    assert (verdict.address is None) is (reason != "accepted")


def test_one_message_to_several_of_our_addresses_has_one_answer() -> None:
    envelope = replace(ENVELOPE, recipients=(ROBOT, parse_mailbox("saihakko@kenpo.example")))
    assert judge(envelope, BLANK, Purpose.REGISTRATION, OWN, None).address == TARO


PROVED, SIGNED = Authentication(dmarc=Result.PASS, path=True), Authentication(dmarc=Result.PASS, dkim=Result.PASS)
NOW = 1_795_176_000_000  # 20 November 2026, 12:00 UTC
WRITTEN = replace(BLANK, date="Fri, 20 Nov 2026 21:00:00 +0900", to=b"=?utf-8?b?44Kk?= <Toroku@kenpo.example>")


@pytest.mark.parametrize(
    ("path", "known", "reason"),
    [
        ("prvs=1234=taro@docomo.ne.jp", PROVED, "accepted"),
        ("prvs=1234=taro@docomo.ne.jp", Authentication(dkim=Result.PASS, spf=Result.FAIL), "accepted"),
        ("SRS0=ab=cd=docomo.ne.jp=taro@club.example", SIGNED, "accepted"),
        ("SRS1=ab=cd=docomo.ne.jp=taro@club.example", Authentication(dmarc=Result.TEMPERROR), "lookup-failed"),
        ("SRS0=ab=cd=docomo.ne.jp=taro@club.example", Authentication(spf=Result.PASS), "sender-mismatch"),
        ("SRS0=ab=cd=docomo.ne.jp=taro@club.example", Authentication(dmarc=Result.FAIL), "authentication-failed"),
        ("prvs=1234=taro@docomo.ne.jp", None, "sender-mismatch"),
        ("bounces+1-taro=e.jp@docomo.ne.jp", PROVED, "never-answer-address"),
        ("mailer-daemon@docomo.ne.jp", PROVED, "never-answer-address"),
    ],
)
def test_a_return_path_made_of_a_persons_own(path: str, known: Authentication | None, reason: str) -> None:
    """BATV and SRS: who is proved as the author is answered there, whatever became of MAIL FROM on its way."""
    verdict = judge(replace(ENVELOPE, reverse_path=parse_mailbox(path)), BLANK, Purpose.REGISTRATION, OWN, known)
    assert verdict.reason == reason
    assert verdict.address == (TARO if reason == "accepted" else None)
    author = replace(BLANK, from_address=parse_mailbox("prvs=1=taro@docomo.ne.jp"))
    assert judge(ENVELOPE, author, Purpose.REGISTRATION, OWN, PROVED).reason == "never-answer-address"


@pytest.mark.parametrize(
    ("facts", "known", "tier"),
    [
        ({}, SIGNED, "proved"),
        ({"date": "Tue, 17 Nov 2026 21:00:00 +0900"}, SIGNED, "proved"),
        ({"date": "Tue, 17 Nov 2026 20:59:59 +0900"}, SIGNED, "unproved"),
        ({"date": "Mon, 23 Nov 2026 21:00:01 +0900"}, SIGNED, "unproved"),
        ({"date": ""}, SIGNED, "unproved"),
        ({"date": "Fri, 20 Nov 99999 21:00:00 +0900"}, SIGNED, "unproved"),
        ({"to": b"hanako@evil.example"}, SIGNED, "unproved"),
        ({"to": b"xtoroku@kenpo.example"}, SIGNED, "unproved"),
        ({"to": b"toroku@kenpo.example.evil.example"}, SIGNED, "unproved"),
        ({"to": b"hanako@evil.example, toroku@KENPO.example"}, SIGNED, "proved"),
        ({"to": b""}, SIGNED, "unproved"),
        ({"to": b"", "date": ""}, PROVED, "proved"),
        ({"to": b"", "date": ""}, replace(SIGNED, path=True), "proved"),
        ({"to": b"", "date": ""}, Authentication(dmarc=Result.PASS), "proved"),
        ({"to": b""}, Authentication(dkim=Result.PASS), "unproved"),
    ],
)
def test_a_signature_alone_proves_mail_that_was_written_to_us_lately(
    facts: dict[str, Any], known: Authentication, tier: str
) -> None:
    """Who has a signed mail of somebody can send it to anybody, from anywhere and at any time."""
    envelope = replace(ENVELOPE, received_at=NOW, reverse_path=parse_mailbox("x@evil.example"))
    verdict = judge(envelope, replace(WRITTEN, **facts), Purpose.REGISTRATION, OWN, known)
    assert (verdict.reason, verdict.tier) == ("accepted", tier)


def test_every_reason_is_explained() -> None:
    assert set(EXPLANATIONS) == set(Reason)
    assert len(set(EXPLANATIONS.values())) == len(Reason)
    for reason in Reason:
        assert reason.explanation.endswith(".")
