"""Why a mail got no answer, in words for the phone: what staff read, and what they say next."""

from __future__ import annotations

from typing import NamedTuple

from mailbot.intake.screening import Reason


class Words(NamedTuple):
    """`why` ends no sentence; `todo` is one."""

    why: str
    todo: str


_DIRECTLY = "転送や一斉配信を通さず、ご自分のアドレスから直接、新しい空メールを送っていただきます。"
_ANOTHER_WAY = "ほかのメールアプリから送っていただくか、登録の画面のある組合では、画面からお申し込みいただきます。"
_AFRESH = "返信や自動返信ではなく、新しい空メールを送っていただきます。"
_NOTHING = "することはありません。"

REASONS: dict[Reason, Words] = {
    Reason.ACCEPTED: Words("返信する", "返信のメールがどうなったかを見ます。"),
    Reason.NOT_FOR_ANSWER: Words("送信専用など、返信しないアドレスに届いた", "登録用のアドレスに送っていただきます。"),
    Reason.NULL_SENDER: Words("送信元のない自動のメール", _DIRECTLY),
    Reason.BROKEN_HEADERS: Words("メールのヘッダーがこわれているか、長すぎる", _ANOTHER_WAY),
    Reason.TOO_MANY_RECEIVED: Words("転送が何度も繰り返された", _DIRECTLY),
    Reason.LOOP: Words("自動のメールどうしのやりとりになっている", _AFRESH),
    Reason.AUTOMATIC_REPLY: Words("不在通知などの自動のメール", _AFRESH),
    Reason.LIST_MAIL: Words("メーリングリストや一斉配信を通ったメール", _DIRECTLY),
    Reason.NO_FROM: Words("差出人が書かれていない", _ANOTHER_WAY),
    Reason.SEVERAL_FROM: Words("差出人が二人以上書かれている", _ANOTHER_WAY),
    Reason.UNREADABLE_FROM: Words("差出人のアドレスが読み取れない", _ANOTHER_WAY),
    Reason.OWN_ADDRESS: Words("差出人が、組合やこのシステムのアドレスになっている", _DIRECTLY),
    Reason.NEVER_ANSWER_ADDRESS: Words("差出人が、noreply など人ではないアドレスになっている", _DIRECTLY),
    Reason.SENDER_MISMATCH: Words("差出人と実際の送信元が違い、ご本人のメールと確かめられない", _DIRECTLY),
    Reason.AUTHENTICATION_FAILED: Words("差出人のドメインから送られたものと確かめられない", _ANOTHER_WAY),
    Reason.LOOKUP_FAILED: Words("送信元をまだ調べられない（相手側が自動で送り直す）", "しばらくお待ちいただきます。"),
    Reason.SEEN_BEFORE: Words("同じメールがもう一度届いた", "はじめの返信を見ていただきます。"),
    Reason.OVER_BUDGET: Words(
        "短いあいだの数の上限を超えた", "前の返信をご覧いただき、なければ1時間ほどあとに、もう一度お送りいただきます。"
    ),
    Reason.ACKNOWLEDGED_BEFORE: Words(
        "問い合わせを受け付けた（受付の返信は1日に1回だけ）", "`mailbot help list` で問い合わせを読みます。"
    ),
    Reason.SOCIETY_PAUSED: Words("組合の受け付けを止めている", "再開してから、もう一度送っていただきます。"),
    Reason.DELIVERY_REPORT: Words("こちらのメールが届かなかったという知らせ", _NOTHING),
    Reason.DELAY_REPORT: Words("こちらのメールが遅れている、または届いたという知らせ", _NOTHING),
    Reason.COMPLAINT: Words("こちらのメールが迷惑メールとして報告された", "迷惑メールの指定を外していただきます。"),
    Reason.UNPROVED_REPORT: Words("こちらのメールについてのものと確かめられない知らせ", _NOTHING),
    Reason.LATE_REPORT: Words("古いメールについての知らせ", _NOTHING),
    Reason.UNREADABLE_REPORT: Words("内容を読み取れない知らせ", _NOTHING),
}


def why(reason: str) -> str:
    """The words for `inbox.reason`, whatever a former version wrote there."""
    return REASONS[Reason(reason)].why if reason in set(Reason) else reason
