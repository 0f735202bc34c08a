"""What reports say: the corpus of bounces, and whatever else may come."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbot.mail.causes import Cause, perhaps_refused
from mailbot.mail.reports import MAX_WORDS, Kind, Report, read
from mailbot.mail.verdict import cause_of

CORPUS = Path(__file__).parents[1] / "corpus" / "bounces"
VERDICTS = tomllib.loads((CORPUS / "verdicts.toml").read_text())


def test_every_file_has_a_verdict() -> None:
    assert {file.name for file in CORPUS.glob("*.eml")} == set(VERDICTS)
    assert len(VERDICTS) >= 40


@pytest.mark.parametrize("name", VERDICTS)
def test_a_report_is_read(name: str) -> None:
    report = read((CORPUS / name).read_bytes())
    assert {"kind": report.kind, "cause": report.cause, "status": report.status} == VERDICTS[name]
    assert len(report.words) <= MAX_WORDS
    assert report.words.isprintable()


@pytest.mark.parametrize("name", ["01-postfix-unknown.eml", "34-exim.eml", "54-complaint.eml"])
def test_a_report_cut_anywhere_is_still_no_error(name: str) -> None:
    content = (CORPUS / name).read_bytes()
    for end in range(0, len(content), 37):
        assert isinstance(read(content[:end]), Report)


def test_our_own_mail_below_the_text_says_nothing() -> None:
    content = b"From: MAILER-DAEMON@x.example\r\nSubject: failure notice\r\n\r\n<a@b.example>: mailbox full\r\n"
    content += b"--- Below this line is a copy of the message.\r\n\r\nno such user, 550 5.1.1 user unknown\r\n"
    assert read(content).cause is Cause.FULL


_PIECES = st.sampled_from(
    [
        b"From: MAILER-DAEMON@x.example\r\n", b"Subject: failure notice\r\n", b"Content-Type: multipart/report; ",
        b"boundary=b\r\n", b"\r\n", b"--b\r\n", b"--b--\r\n", b"Content-Type: message/delivery-status\r\n\r\n",
        b"Action: failed\r\n", b"Status: 5.1.1\r\n", b"Diagnostic-Code: smtp; 550 ", b"\x1b$B", b"\xe5\x8f\x97",
        b"Content-Transfer-Encoding: base64\r\n", b"user unknown", b"Content-Type: message/feedback-report\r\n\r\n",
        b"Content-Type: text/plain; charset=iso-2022-jp\r\n", b":" * 50, b" " * 200, b"a" * 999,
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(_PIECES, st.binary(max_size=40)), max_size=40))
def test_nothing_raises(pieces: list[bytes]) -> None:
    report = read(b"".join(pieces))
    assert isinstance(report.kind, Kind)
    assert len(report.words) <= MAX_WORDS
    assert report.words.isprintable()


@pytest.mark.parametrize(
    ("enhanced", "words", "cause"),
    [
        ("5.1.2", "mailbox full", Cause.UNKNOWN_USER),
        ("5.7.1", "user unknown", Cause.POLICY),
        ("", "Sender address rejected: domain not found", Cause.POLICY),
        ("4.1.1", "user unknown, try later", Cause.OTHER),
        ("5.0.0", "受信拒否", Cause.FILTERED),
        ("", "", Cause.OTHER),
    ],
)
def test_codes_come_before_words(enhanced: str, words: str, cause: Cause) -> None:
    assert cause_of(enhanced, words) is cause


def test_carriers_say_unknown_user_for_a_refusal_list_too() -> None:
    assert perhaps_refused(Cause.UNKNOWN_USER, "docomo.ne.jp")
    assert not perhaps_refused(Cause.UNKNOWN_USER, "gmail.com")
    assert not perhaps_refused(Cause.FULL, "docomo.ne.jp")
