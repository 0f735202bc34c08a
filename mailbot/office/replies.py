"""What a relay answered, in words that can be said on the phone."""

from __future__ import annotations

import re

from mailbot.delivery.outbox import BOUNCED
from mailbot.delivery.suppression import Source
from mailbot.mail.causes import Cause, perhaps_refused
from mailbot.mail.status import Effect, OutcomeKind, Stage
from mailbot.mail.verdict import classify

_CODES = re.compile(r"(?:^|: )(\d{3})(?: (\d\.\d{1,3}\.\d{1,3}))?(?= |$)")

_DONE = "メールサーバーが受け取りました"
_UNSURE = "メールサーバーに渡しましたが返事がなく、届いたかどうか分かりません"
_FAILED = {
    Effect.SUPPRESS: "このあて先のメールアドレスはありません",
    Effect.SOFT: "あて先のメールボックスがいっぱいで、届けられませんでした",
    Effect.POLICY: "相手側が受け取りを断りました（迷惑メール対策や受信設定）",
    Effect.SYNTAX: "メールアドレスの書き方が相手側に受け入れられませんでした",
}
_FILTERED = "あて先のメールアドレスがないか、受信拒否の設定で断られました"
_UNSAID = {(Effect.NONE, Cause.FILTERED), (Effect.NONE, Cause.UNKNOWN_USER)}
_DEFERRED = {
    Effect.SOFT: "あて先のメールボックスがいっぱいです。あとでもう一度送ります",
    Effect.SLOW_DOMAIN: "相手側が混み合っています。あとでもう一度送ります",
    Effect.OUR_FAULT: "こちらのメールサーバーが受け取りません。あとでもう一度送ります",
}
_LOST = "メールサーバーにつながりませんでした。あとでもう一度送ります"


_CAUSES = {
    Cause.UNKNOWN_USER: "このあて先のメールアドレスはありません",
    Cause.DISABLED: "あて先のメールボックスが止められています（休止・解約など）",
    Cause.FULL: "あて先のメールボックスがいっぱいです",
    Cause.FILTERED: "受信拒否設定などで断られました",
    Cause.THROTTLED: "相手側が混み合っていて、受け取られませんでした",
    Cause.POLICY: "相手側が受け取りを断りました（迷惑メール対策）",
    Cause.OUR_FAULT: "こちらのメールサーバーの設定のため、送れませんでした",
    Cause.COMPLAINT: "迷惑メールとして報告されました",
}
_NOT_REACHED = "届けられませんでした"
_REPORTED = re.compile(r"report: ([a-z-]+): ?((?:\d\.\d{1,3}\.\d{1,3}|\d{3}(?= |$))?)")


def cause_words(cause: str, address: str = "") -> str:
    """Why mail did not reach `address`. Carriers answer a member's refusal list as if there were no such mailbox."""
    found = next((one for one in Cause if one.value == cause), Cause.OTHER)
    if perhaps_refused(found, address.rpartition("@")[2]):
        return "受信拒否設定、または宛先不明です"
    return _CAUSES.get(found, _NOT_REACHED)


def known_words(cause: str, source: str, address: str) -> str:
    """Why an address gets no mail (a row of `suppression`)."""
    return "職員が送信を止めました" if source == Source.STAFF else cause_words(cause, address)


def reported(reply: str, recipient: str) -> str:
    """A report that came after the mail was taken (`relay_reply` of its `attempt`), as a Japanese sentence."""
    found = _REPORTED.match(reply)
    cause, status = (found[1], found[2]) if found else ("", "")
    codes = f"（{status}）" if status else ""
    return f"届かなかったという知らせが来ました。{cause_words(cause, recipient)}{codes}"


def plain(outcome: str, reply: str, recipient: str = "") -> str:
    """A row of `attempt` (`outcome`, `relay_reply`) as a Japanese sentence, with the reply's codes where it has any."""
    if outcome == BOUNCED:
        return reported(reply, recipient)
    found = _CODES.search(reply)
    code, enhanced = (int(found[1]), found[2] or "") if found else (0, "")
    words = _words(outcome, code, enhanced, reply[found.end() :].strip() if found else "")
    codes = f"{code} {enhanced}".strip() if code else ""
    return f"{words}（{codes}）" if codes and outcome != OutcomeKind.DELIVERED else words


def _words(outcome: str, code: int, enhanced: str, text: str) -> str:
    meaning = classify(code, enhanced, Stage.RCPT, text)
    match outcome:
        case OutcomeKind.DELIVERED:
            return _DONE
        case OutcomeKind.UNKNOWN:
            return _UNSURE
        case OutcomeKind.FAILED if (meaning.effect, meaning.cause) in _UNSAID:
            return _FILTERED
        case OutcomeKind.FAILED:
            return _FAILED.get(meaning.effect, "届けられませんでした")
        case _ if enhanced.startswith("4.4."):
            return _LOST
        case _:
            return _DEFERRED.get(meaning.effect, "いまは受け取られませんでした。あとでもう一度送ります")


_STATES = {
    "queued": "送信待ち",
    "held": "係員の確認待ち",
    "delivered": "送信済み",
    "failed": "届けられなかった",
    "expired": "時間切れで送らなかった",
    "cancelled": "送らなかった",
}
_REASONS = {
    "deadline": "リンクなどの期限までに渡せなかった",
    "unconfirmed": "届いたかどうか分からない",
    "staff": "係員が止めた",
    "address-removed": "メールアドレスが登録から外された",
    "address-unreachable": "前にメールが届かなかったアドレス",
    "suppressed": "前にメールが届かなかったアドレス",
    "member-gone": "登録がなくなった",
    "letter-gone": "仮パスワードが作り直された",
    "link-used": "リンクが使われた",
    "link-expired": "リンクの期限が過ぎた",
    "link-revoked": "リンクが新しいものに替わった",
    "not-due": "もう必要がなくなった",
}


def ended(state: str, reason: str | None) -> str:
    """What became of a mail (`state` and `reason` of its row)."""
    why = _REASONS.get(reason or "", "")
    if (reason or "").startswith(f"{BOUNCED}-"):
        why = cause_words((reason or "").removeprefix(f"{BOUNCED}-"))
    return _STATES.get(state, state) + (f"（{why}）" if why else "")
