"""What to do next, from what the mail of an address met."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailbot.config import load
from mailbot.office.nextstep import next_step
from mailbot.office.timeline import Moment

SOCIETIES = load(Path(__file__).parents[2] / "config", {}).societies
MAILED = "touroku@yokokou.example へもう一度空メールを送っていただきます。"
REMOVED = "本人を確かめてから `mailbot suppression remove` し、もう一度お申し込みいただきます。"
OURS = "こちらの都合で送れません。管理者に知らせます。"


def step(*newest_first: Moment, society: str = "yokokou") -> str:
    return next_step(SOCIETIES[society], newest_first)


def moment(event: str, reason: str = "", purpose: str = "") -> Moment:
    return Moment(0, event, "", reason, purpose)


FULL, DELIVERED, CANCELLED = (
    moment("mail-failed", "full"), moment("mail-delivered"), moment("mail-cancelled", "suppressed")
)  # fmt: skip
TOO_SOON = moment("mail-in", "over-budget", "registration")


@pytest.mark.parametrize(
    ("event", "reason", "words"),
    [
        ("mail-failed", "full", "要らないメールを消していただき"),
        ("mail-bounced", "disabled", "休止・解約されていないか"),
        ("mail-failed", "unknown-user", "アドレスを一字ずつ教えて"),
        ("mail-failed", "filtered", "受信設定で info@yokokou.example を"),
        ("mail-bounced", "policy", "受信設定で info@yokokou.example を"),
        ("mail-failed", "our-fault", OURS),
        ("mail-failed", "throttled", "しばらくたってから、"),
        ("mail-failed", "other", "別のアドレスから、"),
        ("mail-deferred", "our-fault", OURS),
        ("mail-deferred", "full", "要らないメールを消していただきます。あとでもう一度送ります"),
        ("mail-deferred", "", "しばらくお待ちいただきます"),
        ("address-full", "full", "要らないメールを消していただき"),
        ("address-disabled", "disabled", "休止・解約されていないか"),
        ("address-filtered", "filtered", "受信設定で info@yokokou.example を"),
        ("address-complaint", "complaint", "迷惑メールの指定を外して"),
        ("address-unknown-user", "unknown-user", "このアドレスには何も送りません。アドレスを一字ずつ"),
        ("address-unknown-user", "filtered", "このアドレスには何も送りません。受信設定で"),
        ("address-unknown-user", "staff", "止めた理由を確かめ"),
    ],
)
def test_each_cause_has_its_step(event: str, reason: str, words: str) -> None:
    found = step(moment(event, reason))
    assert words in found
    waits = event == "mail-deferred" or OURS in found or reason in ("complaint", "staff")
    assert found.endswith(MAILED) != waits


@pytest.mark.parametrize("cause", ["unknown-user", "filtered"])
def test_without_blank_mails_staff_open_the_address_again(cause: str) -> None:
    known = moment("address-unknown-user", cause)
    assert step(known, society="shochiku").endswith(REMOVED)
    assert step(CANCELLED, moment("mail-queued"), known, society="shochiku").endswith(REMOVED)
    assert not step(moment("mail-failed", cause), society="shochiku").endswith(REMOVED)


def test_a_mail_that_was_not_sent_because_of_its_address_says_what_the_address_says() -> None:
    full = moment("address-full", "full")
    assert step(CANCELLED, moment("mail-queued"), full) == step(full)
    assert step(moment("mail-cancelled", "address-unreachable"), full) == step(full)
    assert step(CANCELLED, moment("mail-queued")).startswith("このメールは送られません")
    assert step(moment("mail-cancelled", "link-used"), full).startswith("このメールは送られません")


def test_a_second_try_too_soon_leads_to_what_became_of_the_first() -> None:
    assert step(TOO_SOON, FULL) == step(FULL)
    assert step(TOO_SOON, TOO_SOON, DELIVERED, moment("mail-in", "accepted")) == step(DELIVERED)
    assert step(TOO_SOON).startswith("前の返信をご覧いただき")
    assert step(TOO_SOON, moment("mail-in", "sender-mismatch")) == step(TOO_SOON)


def test_an_answer_of_a_program_to_our_own_mail_says_nothing() -> None:
    assert step(moment("mail-in", "automatic-reply", "bounce"), DELIVERED) == step(DELIVERED)
    assert step(moment("mail-in", "automatic-reply", "registration"), DELIVERED) != step(DELIVERED)
