"""What a relay's words mean: the replies of real servers, with the stage they come at."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbot.mail.causes import Cause
from mailbot.mail.reports import read
from mailbot.mail.status import BEFORE_MAIL, Effect, OutcomeKind, Stage, relay_status
from mailbot.mail.verdict import cause_of, classify, lost

# stage, code, text as the relay sent it, kind, effect, cause
REPLIES = [
    # taken
    ("dot", 250, "2.0.0 Ok: queued as 4XhXcW0f3Bz4xQ", "delivered", "none", None),
    ("dot", 250, "OK 1732063265 d9443c01a7336-2129d0b5", "delivered", "none", None),
    ("dot", 250, "2.6.0 <x@y> [InternalId=1] Queued mail for delivery", "delivered", "none", None),
    # Gmail
    (
        "rcpt",
        550,
        "5.1.1 The email account that you tried to reach does not exist.",
        "failed",
        "none",
        "unknown-user",
    ),
    ("rcpt", 550, "5.2.1 The email account that you tried to reach is disabled.", "failed", "none", "disabled"),
    (
        "rcpt",
        450,
        "4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages",
        "deferred",
        "none",
        "throttled",
    ),
    ("rcpt", 452, "4.2.2 The recipient's inbox is out of storage space.", "deferred", "none", "full"),
    ("rcpt", 552, "5.2.2 The recipient's inbox is out of storage space and inactive.", "failed", "none", "full"),
    (
        "dot",
        550,
        "5.7.26 This mail has been blocked because the sender is unauthenticated.",
        "failed",
        "none",
        "policy",
    ),
    (
        "dot",
        550,
        "5.7.1 [192.0.2.1 12] Our system has detected that this message is likely unsolicited mail.",
        "failed",
        "none",
        "policy",
    ),
    (
        "dot",
        421,
        "4.7.28 Our system has detected an unusual rate of unsolicited mail",
        "deferred",
        "slow-domain",
        "throttled",
    ),
    (
        "dot",
        552,
        "5.7.0 This message was blocked because its content presents a potential security issue",
        "failed",
        "none",
        "policy",
    ),
    # Outlook.com and Microsoft 365
    (
        "rcpt",
        550,
        "5.5.0 Requested action not taken: mailbox unavailable (S2017062302).",
        "failed",
        "none",
        "unknown-user",
    ),
    (
        "rcpt",
        550,
        "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
        "failed",
        "none",
        "unknown-user",
    ),
    (
        "rcpt",
        550,
        "5.4.1 Recipient address rejected: Access denied. AS(201806281)",
        "failed",
        "none",
        "unknown-user",
    ),
    (
        "dot",
        550,
        "5.7.515 Access denied, sending domain does not meet the required authentication level",
        "failed",
        "none",
        "policy",
    ),
    (
        "rcpt",
        451,
        "4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)",
        "deferred",
        "slow-domain",
        "throttled",
    ),
    (
        "rcpt",
        451,
        "4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation.",
        "deferred",
        "slow-domain",
        "throttled",
    ),
    ("rcpt", 550, "5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. (S3150)", "failed", "none", "policy"),
    ("dot", 554, "5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException", "failed", "none", "full"),
    # iCloud
    ("rcpt", 550, "5.1.1 <x@icloud.com>: user does not exist", "failed", "none", "unknown-user"),
    ("rcpt", 552, "5.2.2 <x@icloud.com>: user is over quota", "failed", "none", "full"),
    (
        "dot",
        554,
        "5.7.1 [HM08] Message rejected due to local policy. Please visit https://support.apple.com/",
        "failed",
        "none",
        "policy",
    ),
    # Yahoo
    (
        "rcpt",
        554,
        "delivery error: dd This user doesn't have a yahoo.co.jp account (x@yahoo.co.jp) [-5]",
        "failed",
        "none",
        "unknown-user",
    ),
    (
        "mail",
        421,
        "4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints",
        "deferred",
        "session",
        None,
    ),
    (
        "dot",
        421,
        "4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints",
        "deferred",
        "slow-domain",
        "throttled",
    ),
    ("dot", 554, "5.7.9 Message not accepted for policy reasons.", "failed", "none", "policy"),
    # a relay's own limits, and a far server's words that it passed on
    ("rcpt", 550, "5.4.5 Daily user sending quota exceeded.", "deferred", "our-fault", "our-fault"),
    (
        "rcpt",
        550,
        "5.1.8 <x@e.jp>: Recipient address rejected: undeliverable address: host mx.e.jp said: 550 5.1.8 sender",
        "failed",
        "none",
        "other",
    ),
    # the carriers: a refusal list answers as an unknown user does
    ("rcpt", 550, "Unknown user taro@docomo.ne.jp", "failed", "none", "unknown-user"),
    ("rcpt", 550, "<taro@ezweb.ne.jp>: User unknown", "failed", "none", "unknown-user"),
    ("rcpt", 550, "<taro@au.com>: User unknown", "failed", "none", "unknown-user"),
    ("dot", 550, "Invalid recipient: <hanako@softbank.ne.jp>", "failed", "none", "unknown-user"),
    ("dot", 550, "Invalid recipient: <hanako@i.softbank.jp>", "failed", "none", "unknown-user"),
    ("rcpt", 550, "5.1.1 <taro@docomo.ne.jp>: User unknown", "failed", "none", "unknown-user"),
    (
        "rcpt",
        421,
        "mfsmax.docomo.ne.jp Service not available, closing transmission channel",
        "deferred",
        "slow-domain",
        "throttled",
    ),
    (
        "rcpt",
        452,
        "Requested action not taken: insufficient system storage (docomo.ne.jp)",
        "deferred",
        "none",
        "other",
    ),
    ("rcpt", 553, "<a..b.@docomo.ne.jp>... Malformed address", "failed", "none", "other"),
    ("connect", 421, "lsean.ezweb.ne.jp too many connections", "deferred", "our-fault", "our-fault"),
    # Postfix
    (
        "rcpt",
        550,
        "5.1.1 <x@e.jp>: Recipient address rejected: User unknown in virtual mailbox table",
        "failed",
        "none",
        "unknown-user",
    ),
    (
        "rcpt",
        550,
        "5.1.2 <x@nodomain.example>: Recipient address rejected: Domain not found",
        "failed",
        "none",
        "unknown-user",
    ),
    ("rcpt", 450, "4.1.2 <x@e.jp>: Recipient address rejected: Domain not found", "deferred", "none", "other"),
    (
        "rcpt",
        450,
        "4.7.1 <x@e.jp>: Recipient address rejected: Greylisted, see http://postgrey.example",
        "deferred",
        "none",
        "throttled",
    ),
    ("rcpt", 450, "4.2.0 <x@e.jp>: Recipient address rejected: Greylisting in effect", "deferred", "none", "throttled"),
    ("rcpt", 554, "5.7.1 <x@e.jp>: Relay access denied", "deferred", "our-fault", "our-fault"),
    (
        "mail",
        553,
        "5.1.8 <robot@e.jp>: Sender address rejected: Domain not found",
        "deferred",
        "our-fault",
        "our-fault",
    ),
    ("mail", 530, "5.7.0 Must issue a STARTTLS command first", "deferred", "our-fault", "our-fault"),
    ("mail", 452, "4.3.1 Insufficient system storage", "deferred", "session", None),
    ("mail", 451, "4.3.0 Temporary lookup failure", "deferred", "session", None),
    ("dot", 451, "4.3.0 Error: queue file write error", "deferred", "session", "other"),
    ("dot", 452, "4.3.1 Insufficient system storage", "deferred", "session", "other"),
    ("rcpt", 451, "4.3.5 Server configuration error", "deferred", "session", "other"),
    ("rcpt", 451, "4.3.0 <x@e.jp>: Temporary lookup failure", "deferred", "session", "other"),
    ("rcpt", 421, "4.3.2 Service shutting down", "deferred", "session", "other"),
    ("dot", 552, "5.3.4 Message size exceeds fixed limit", "failed", "none", "other"),
    ("data", 503, "5.5.1 Error: need RCPT command", "failed", "none", "other"),
    ("dot", 550, "5.7.1 blocked by recipient", "failed", "none", "filtered"),
    (
        "rcpt",
        554,
        "5.4.4 Host or domain name not found. Name service error for name=gone.example",
        "failed",
        "none",
        "unknown-user",
    ),
    # Exim, qmail and friends: no enhanced code, or one in brackets
    ("rcpt", 550, "Unrouteable address", "failed", "none", "unknown-user"),
    ("rcpt", 550, "No Such User Here", "failed", "none", "unknown-user"),
    ("rcpt", 550, "Administrative prohibition", "failed", "none", "policy"),
    ("rcpt", 451, "Temporary local problem - please try later", "deferred", "none", "other"),
    ("rcpt", 451, "Deferred: greylisted, please try again in 300 seconds", "deferred", "none", "throttled"),
    ("rcpt", 550, "relay not permitted", "deferred", "our-fault", "our-fault"),
    ("rcpt", 550, "sorry, no mailbox here by that name. (#5.1.1)", "failed", "none", "unknown-user"),
    ("rcpt", 452, "mailbox full", "deferred", "none", "full"),
    ("rcpt", 552, "Requested mail action aborted: exceeded storage allocation", "failed", "none", "full"),
    ("rcpt", 451, "too many messages from you, slow down", "deferred", "slow-domain", "throttled"),
    # paid relays
    ("auth", 535, "Authentication failed: Bad username / password", "deferred", "our-fault", "our-fault"),
    ("auth", 535, "5.7.8 Authentication credentials invalid", "deferred", "our-fault", "our-fault"),
    ("auth", 454, "4.7.0 Temporary authentication failure", "deferred", "our-fault", "our-fault"),
    ("mail", 550, "The from address does not match a verified Sender Identity.", "deferred", "our-fault", "our-fault"),
    ("dot", 554, "Message rejected: Email address is not verified.", "failed", "none", "policy"),
    ("dot", 454, "Throttling failure: Maximum sending rate exceeded.", "deferred", "slow-domain", "throttled"),
    ("dot", 451, "4.7.1 Maximum credits exceeded", "deferred", "slow-domain", "throttled"),
    ("connect", 554, "5.7.1 Blocked by zen.spamhaus.org", "deferred", "our-fault", "our-fault"),
    ("ehlo", 550, "5.7.0 Your HELO name is not acceptable", "deferred", "our-fault", "our-fault"),
    ("tls", 454, "4.7.0 TLS not available due to temporary reason", "deferred", "our-fault", "our-fault"),
    # relays that do not want us, told only after the recipient
    ("rcpt", 454, "4.7.1 <x@e.jp>: Relay access denied", "deferred", "our-fault", "our-fault"),
    (
        "rcpt",
        550,
        "5.7.1 <x@e.jp>... Relaying denied. Proper authentication required.",
        "deferred",
        "our-fault",
        "our-fault",
    ),
    (
        "rcpt",
        550,
        "5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
        "deferred",
        "our-fault",
        "our-fault",
    ),
    ("rcpt", 550, "5.7.64 TenantAttribution; Relay Access Denied", "deferred", "our-fault", "our-fault"),
    (
        "rcpt",
        553,
        "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
        "deferred",
        "our-fault",
        "our-fault",
    ),
    (
        "rcpt",
        554,
        "5.7.1 <robot.e.jp[192.0.2.1]>: Client host rejected: Access denied",
        "deferred",
        "our-fault",
        "our-fault",
    ),
    (
        "rcpt",
        450,
        "4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]",
        "deferred",
        "our-fault",
        "our-fault",
    ),
    (
        "rcpt",
        554,
        "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
        "deferred",
        "our-fault",
        "our-fault",
    ),
    (
        "rcpt",
        504,
        "5.5.2 <robot>: Helo command rejected: need fully-qualified hostname",
        "deferred",
        "our-fault",
        "our-fault",
    ),
    (
        "rcpt",
        553,
        "5.7.1 <bounce@e.jp>: Sender address rejected: not owned by user robot",
        "deferred",
        "our-fault",
        "our-fault",
    ),
    (
        "rcpt",
        450,
        "4.1.8 <bounce@e.jp>: Sender address rejected: Domain not found",
        "deferred",
        "our-fault",
        "our-fault",
    ),
    ("rcpt", 550, "5.1.7 <bounce@e.jp>: no such sender", "deferred", "our-fault", "our-fault"),
    ("rcpt", 530, "5.7.1 Authentication required", "deferred", "our-fault", "our-fault"),
    ("rcpt", 530, "5.5.1 Please log in first", "deferred", "our-fault", "our-fault"),
    (
        "dot",
        550,
        "5.7.60 SMTP; Client does not have permissions to send as this sender",
        "deferred",
        "our-fault",
        "our-fault",
    ),
    (
        "rcpt",
        550,
        "Verification failed for <bounce+x@e.jp>\nNo Such User Here\nSender verify failed",
        "deferred",
        "our-fault",
        "our-fault",
    ),
    # what a relay passes on from the recipient's server is about the recipient
    (
        "rcpt",
        550,
        "5.1.1 <x@e.jp>: Recipient address rejected: undeliverable address: host mx.e.jp said: 554 Relaying denied",
        "failed",
        "none",
        "unknown-user",
    ),
    # words that look like others
    ("dot", 554, "The user has blocked this sender", "failed", "none", "filtered"),
    ("rcpt", 550, "5.0.0 user x has blocked you", "failed", "none", "filtered"),
    ("rcpt", 550, "5.0.0 Unrouteable address", "failed", "none", "unknown-user"),
    ("dot", 552, "Message size exceeds maximum permitted", "failed", "none", "other"),
    ("dot", 554, "Message rejected as spam", "failed", "none", "policy"),
    (
        "rcpt",
        550,
        "5.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages",
        "failed",
        "none",
        "throttled",
    ),
    ("rcpt", 550, "account suspended, mail refused", "failed", "none", "disabled"),
    # spelling, and answers that say nothing
    ("rcpt", 553, "5.1.3 The recipient address is not a valid RFC 5321 address", "failed", "none", "other"),
    ("rcpt", 501, "Bad address syntax", "failed", "none", "other"),
    ("rcpt", 501, "5.5.4 Syntax: RCPT TO:<address>", "failed", "none", "other"),
    ("dot", 554, "Transaction failed", "failed", "none", "other"),
    ("dot", 550, "4.2.2 digits that do not agree are no enhanced code", "failed", "none", "other"),
    ("rcpt", 550, "\u5b9b\u5148\u304c\u3042\u308a\u307e\u305b\u3093", "failed", "none", "other"),
    ("rcpt", 550, "\udc88\udcb6\udc90\udce6 no such user", "failed", "none", "unknown-user"),
    ("rcpt", 250, "an answer out of place is no delivery", "deferred", "none", "other"),
    ("rcpt", 999, "no such code", "deferred", "none", "other"),
]


@pytest.mark.parametrize(("stage", "code", "text", "kind", "effect", "cause"), REPLIES)
def test_real_replies(stage: str, code: int, text: str, kind: str, effect: str, cause: str | None) -> None:
    reply = relay_status(code, text)
    verdict = classify(reply.code, reply.enhanced, Stage(stage), reply.text)
    assert (verdict.kind, verdict.effect, verdict.cause) == (kind, effect, cause)


@pytest.mark.parametrize(("code", "text", "cause"), [(row[1], row[2], row[5]) for row in REPLIES if row[3] == "failed"])
def test_a_report_that_tells_a_reply_means_the_same(code: int, text: str, cause: str) -> None:
    reply = relay_status(code, text)
    status = reply.enhanced or f"{code // 100}.0.0"  # as RFC 3464 has it where the other side gave none
    report = (
        "From: MAILER-DAEMON@relay.example\r\nContent-Type: multipart/report; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.example\r\n\r\n"
        f"Action: failed\r\nStatus: {status}\r\nDiagnostic-Code: smtp; {reply}\r\n\r\n--b--\r\n"
    )
    assert read(report.encode()).cause == cause


def test_what_another_server_says_of_the_sending_side_is_its_policy() -> None:
    assert cause_of("5.7.1", "<x@e.jp>: Relay access denied", 554) is Cause.POLICY
    assert cause_of("", "Verification failed for <bounce+x@e.jp>\nNo Such User Here\nSender verify failed", 550) is (
        Cause.POLICY
    )


@pytest.mark.parametrize("stage", Stage)
def test_a_lost_connection(stage: Stage) -> None:
    verdict = lost(stage)
    assert verdict.cause is None
    if stage is Stage.DOT:
        assert (verdict.kind, verdict.effect) == (OutcomeKind.UNKNOWN, Effect.NONE)
    else:
        assert verdict.kind is OutcomeKind.DEFERRED
        assert verdict.effect is (Effect.OUR_FAULT if stage in BEFORE_MAIL else Effect.SESSION)


@given(st.integers(200, 599), st.text(max_size=300), st.sampled_from(Stage))
def test_any_reply_has_a_meaning_and_prints_safely(code: int, text: str, stage: Stage) -> None:
    reply = relay_status(code, text)
    assert re.fullmatch(r"[ -~]*", str(reply))
    assert len(reply.text) <= 200
    verdict = classify(reply.code, reply.enhanced, stage, reply.text)
    # the first digit decides, except where the sending side is at fault
    if verdict.kind is OutcomeKind.FAILED:
        assert code >= 500
    if verdict.cause is Cause.UNKNOWN_USER:
        assert verdict.kind is OutcomeKind.FAILED
