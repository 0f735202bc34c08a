"""Reply codes: what we say, and what a relay's words mean."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbot.mail import status
from mailbot.mail.address import AddressProblem
from mailbot.mail.status import Effect, OutcomeKind, Stage, Status, bad_path, classify, lost, relay_status

OURS = {name: value for name, value in vars(status).items() if isinstance(value, Status)}


def test_reply_line() -> None:
    assert str(status.OK) == "250 2.0.0 OK"
    assert str(status.START_DATA) == "354 End data with <CR><LF>.<CR><LF>"


@pytest.mark.parametrize("name", OURS)
def test_our_replies_are_well_formed(name: str) -> None:
    reply = OURS[name]
    assert re.fullmatch(r"[2-5]\d\d( [245]\.\d\.\d)? [ -~]{2,80}", str(reply))
    assert not reply.enhanced or reply.enhanced[0] == str(reply.code)[0]
    assert reply.permanent is (reply.code >= 500)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("OUTAGE", "451 4.3.0"), ("OVER_LIMIT", "451 4.7.1"), ("TOO_MANY_RECIPIENTS", "452 4.5.3"),
        ("BAD_ARGUMENT", "501 5.5.4"), ("NO_SUCH_USER", "550 5.1.1"), ("RELAY_DENIED", "554 5.7.1"),
        ("TOO_LARGE", "552 5.3.4"), ("BAD_SENDER", "553 5.1.7"), ("NOT_ASCII", "553 5.6.7"),
        ("UNKNOWN_PARAMETER", "555 5.5.4"), ("LINE_TOO_LONG", "500 5.5.2"), ("CANNOT_VERIFY", "252 2.5.2"),
        ("REFUSED_SENDER", "550 5.7.1"), ("LOOKUP_FAILED", "451 4.4.3"),
    ],
)  # fmt: skip
def test_codes_are_kept(name: str, line: str) -> None:
    assert str(OURS[name]).startswith(line + " ")


def test_bad_path() -> None:
    assert bad_path(AddressProblem.NO_BRACKETS) == status.BAD_ARGUMENT
    assert bad_path(AddressProblem.NOT_ASCII) == status.NOT_ASCII
    for problem in set(AddressProblem) - {AddressProblem.NO_BRACKETS, AddressProblem.NOT_ASCII}:
        assert bad_path(problem) == status.BAD_SENDER
        assert bad_path(problem, recipient=True) == status.BAD_RECIPIENT


# Real replies: (stage, code, text as the relay sent it, kind, effect)
REPLIES = [
    ("dot", 250, "2.0.0 Ok: queued as 4XhXcW0f3Bz4xQ", "delivered", "none"),
    ("dot", 250, "OK 1732063265 d9443c01a7336-2129d0b5", "delivered", "none"),
    ("rcpt", 550, "5.1.1 <x@gmail.com>: Recipient address rejected: User unknown", "failed", "suppress"),
    ("rcpt", 550, "5.1.1 The email account that you tried to reach does not exist.", "failed", "suppress"),
    ("rcpt", 550, "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address", "failed", "suppress"),
    ("rcpt", 550, "5.1.2 <x@nodomain.example>: Domain not found", "failed", "suppress"),
    ("rcpt", 550, "Unknown user taro@docomo.ne.jp", "failed", "none"),
    ("rcpt", 550, "<taro@ezweb.ne.jp>: User unknown", "failed", "none"),
    ("dot", 550, "Invalid recipient: <hanako@softbank.ne.jp>", "failed", "none"),
    ("rcpt", 452, "4.2.2 The recipient's inbox is out of storage space.", "deferred", "soft"),
    ("rcpt", 552, "5.2.2 Mailbox full", "failed", "soft"),
    ("rcpt", 552, "Requested mail action aborted: exceeded storage allocation", "failed", "soft"),
    ("dot", 550, "5.7.26 This mail is unauthenticated", "failed", "policy"),
    ("dot", 550, "5.7.515 Access denied, sending domain does not meet the required level", "failed", "policy"),
    ("rcpt", 554, "5.7.1 <x@e.jp>: Relay access denied", "failed", "policy"),
    ("rcpt", 553, "5.1.3 The recipient address is not a valid RFC 5321 address", "failed", "syntax"),
    ("rcpt", 501, "Bad address syntax", "failed", "syntax"),
    ("rcpt", 501, "5.5.4 Syntax: RCPT TO:<address>", "failed", "syntax"),
    ("rcpt", 553, "Invalid address", "failed", "syntax"),
    ("connect", 421, "4.7.0 Too many connections, try again later", "deferred", "slow-domain"),
    ("rcpt", 450, "4.7.1 <x@e.jp>: Recipient address rejected: Greylisted", "deferred", "slow-domain"),
    ("dot", 421, "4.7.28 Our system has detected an unusual rate of unsolicited mail", "deferred", "slow-domain"),
    ("rcpt", 421, "Service not available", "deferred", "slow-domain"),
    ("dot", 451, "4.3.0 Temporary lookup failure", "deferred", "none"),
    ("mail", 452, "4.3.1 Insufficient system storage", "deferred", "none"),
    ("connect", 554, "5.7.1 Blocked by zen.spamhaus.org", "deferred", "our-fault"),
    ("ehlo", 550, "5.7.0 Your HELO name is not acceptable", "deferred", "our-fault"),
    ("auth", 535, "5.7.8 Authentication credentials invalid", "deferred", "our-fault"),
    ("mail", 553, "5.1.8 <robot@e.jp>: Sender address rejected: Domain not found", "deferred", "our-fault"),
    ("mail", 530, "5.7.0 Must issue a STARTTLS command first", "deferred", "our-fault"),
    ("dot", 554, "Transaction failed", "failed", "none"),
    ("data", 503, "5.5.1 No valid recipients", "failed", "none"),
    ("dot", 550, "4.2.2 digits that do not agree are no enhanced code", "failed", "none"),
    ("rcpt", 250, "an answer out of place is no delivery", "deferred", "none"),
    ("rcpt", 999, "no such code", "deferred", "none"),
]


@pytest.mark.parametrize(("stage", "code", "text", "kind", "effect"), REPLIES)
def test_classify(stage: str, code: int, text: str, kind: str, effect: str) -> None:
    reply = relay_status(code, text)
    diagnosis = classify(reply.code, reply.enhanced, Stage(stage))
    assert (diagnosis.kind, diagnosis.effect) == (kind, effect)
    assert classify(code, None, Stage(stage)).kind is diagnosis.kind


def test_lost_connection() -> None:
    for stage in set(Stage) - {Stage.DOT}:
        assert lost(stage).kind is OutcomeKind.DEFERRED
    assert lost(Stage.DOT).kind is OutcomeKind.UNKNOWN
    assert lost(Stage.DOT).effect is Effect.NONE


def test_relay_status_joins_lines() -> None:
    assert relay_status(550, "5.1.1 No such\n5.1.1 user\x1b[2J here") == Status(550, "5.1.1", "No such user [2J here")
    assert relay_status(550, "") == Status(550, "", "")
    assert relay_status(550, "5.1.1") == Status(550, "5.1.1", "")


@given(st.integers(200, 599), st.text(max_size=300), st.sampled_from(Stage))
def test_any_reply_has_a_meaning_and_prints_safely(code: int, text: str, stage: Stage) -> None:
    reply = relay_status(code, text)
    assert re.fullmatch(r"[ -~]*", str(reply))
    assert len(reply.text) <= 200
    assert classify(reply.code, reply.enhanced, stage).kind in OutcomeKind
