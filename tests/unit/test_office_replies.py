"""Relays' answers in plain words."""

import pytest

from mailbot.office.replies import cause_of, ended, plain


@pytest.mark.parametrize(
    ("outcome", "reply", "words"),
    [
        ("delivered", "relay:25: 250 2.0.0 queued as 4711", "メールサーバーが受け取りました"),
        (
            "deferred",
            "relay:25: 452 4.2.2 over quota",
            "あて先のメールボックスがいっぱいです。あとでもう一度送ります（452 4.2.2）",
        ),
        ("deferred", "relay:25: 421 busy", "相手側が混み合っています。あとでもう一度送ります（421）"),
        ("deferred", "451 4.4.2 (lost)", "メールサーバーにつながりませんでした。あとでもう一度送ります（451 4.4.2）"),
        (
            "deferred",
            "relay:25: 451 4.3.0 try later",
            "こちらのメールサーバーが受け取りません。あとでもう一度送ります（451 4.3.0）",
        ),
        ("deferred", "relay:25: 451 later", "いまは受け取られませんでした。あとでもう一度送ります（451）"),
        # refused at the login, before MAIL, and for its sender
        (
            "deferred",
            "relay:25: 535 5.7.8 bad password",
            "こちらのメールサーバーが受け取りません。あとでもう一度送ります（535 5.7.8）",
        ),
        (
            "deferred",
            "relay:25: 550 5.7.1 no",
            "こちらのメールサーバーが受け取りません。あとでもう一度送ります（550 5.7.1）",
        ),
        (
            "deferred",
            "relay:25: 454 4.7.1 <a@e.jp>: Relay access denied",
            "こちらのメールサーバーが受け取りません。あとでもう一度送ります（454 4.7.1）",
        ),
        ("failed", "relay:25: 550 5.1.1 no such user", "このあて先のメールアドレスはありません（550 5.1.1）"),
        ("failed", "relay:25: 552 5.2.2 full", "あて先のメールボックスがいっぱいです（552 5.2.2）"),
        ("failed", "relay:25: 550 5.7.1 spam", "相手側が受け取りを断りました（迷惑メール対策や受信設定）（550 5.7.1）"),
        (
            "failed",
            "relay:25: 550 Unknown user a@docomo.ne.jp",
            "受信拒否設定、または宛先不明です（550）",
        ),
        (
            "failed",
            "relay:25: 550 5.1.1 <a@docomo.ne.jp>: User unknown",
            "受信拒否設定、または宛先不明です（550 5.1.1）",
        ),
        (
            "failed",
            "relay:25: 550 5.2.1 closed",
            "あて先のメールボックスが止められています（休止・解約など）（550 5.2.1）",
        ),
        ("failed", "relay:25: 550 blocked by recipient", "受信拒否設定などで断られました（550）"),
        ("failed", "relay:25: 553 bad", "メールアドレスの書き方が相手側に受け入れられませんでした（553）"),
        ("failed", "relay:25: 554 no", "届けられませんでした（554）"),
        ("failed", "no code at all", "届けられませんでした"),
        (
            "unknown",
            "relay:2525: 451 4.4.2 (lost)",
            "メールサーバーに渡しましたが返事がなく、届いたかどうか分かりません（451 4.4.2）",
        ),
    ],
)
def test_an_answer_in_words(outcome: str, reply: str, words: str) -> None:
    recipient = "a@docomo.ne.jp" if "受信拒否設定、" in words else "a@private.example"
    assert plain(outcome, reply, recipient) == words


@pytest.mark.parametrize(
    ("outcome", "reply", "cause"),
    [
        ("delivered", "relay:25: 250 2.0.0 queued", ""),
        ("unknown", "relay:25: 451 4.4.2 (lost)", ""),
        ("deferred", "relay:25: 451 4.3.0 try later", "our-fault"),
        ("deferred", "relay:25: 535 5.7.8 bad password", "our-fault"),
        ("deferred", "relay:25: 452 4.2.2 over quota", "full"),
        ("deferred", "451 4.4.2 (lost)", ""),
        ("deferred", "relay:25: 451 later", ""),
        ("failed", "relay:25: 552 5.2.2 full", "full"),
        ("failed", "relay:25: 550 5.1.1 no such user", "filtered"),
        ("failed", "relay:25: 553 bad", "unknown-user"),
        ("failed", "no code at all", "other"),
        ("bounced", "report: disabled: 5.2.1", "disabled"),
        ("bounced", "report: unknown-user: 5.1.1", "filtered"),
        ("bounced", "else", "other"),
    ],
)
def test_what_keeps_a_mail_from_a_carrier(outcome: str, reply: str, cause: str) -> None:
    assert cause_of(outcome, reply, "a@docomo.ne.jp") == cause
    private = "unknown-user" if "5.1.1" in reply else cause
    assert cause_of(outcome, reply, "a@private.example") == private


def test_what_became_of_a_mail() -> None:
    assert ended("expired", "deadline", "a@e.jp") == "時間切れで送らなかった（リンクなどの期限までに渡せなかった）"
    assert ended("cancelled", "something-new", "a@e.jp") == "送らなかった"
    assert (
        ended("failed", "bounced-unknown-user", "a@e.jp")
        == "届けられなかった（このあて先のメールアドレスはありません）"
    )
    assert ended("failed", "bounced-unknown-user", "a@au.com") == "届けられなかった（受信拒否設定、または宛先不明です）"
