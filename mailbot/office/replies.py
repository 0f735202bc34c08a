"""What a relay answered, in words that can be said on the phone."""

from __future__ import annotations

import re

from mailbot.delivery.outbox import BOUNCED, REFUSED
from mailbot.delivery.suppression import Source
from mailbot.mail.causes import Cause, perhaps_refused
from mailbot.mail.status import Effect, OutcomeKind, Stage
from mailbot.mail.verdict import classify, misspelt

_CODES = re.compile(r"(?:^|: )(\d{3})(?: (\d\.\d{1,3}\.\d{1,3}))?(?= |$)")

_DONE = "メールサーバーが受け取りました"
_UNSURE = "メールサーバーに渡しましたが返事がなく、届いたかどうか分かりません"
_MISSPELT = "メールアドレスの書き方が相手側に受け入れられませんでした"
_LATER = "あとでもう一度送ります"
_OURS = "こちらのメールサーバーが受け取りません"
_LOST = "メールサーバーにつながりませんでした"
_BUSY = "相手側が混み合っています"
_NOT_NOW = "いまは受け取られませんでした"


_CAUSES = {
    Cause.UNKNOWN_USER: "このあて先のメールアドレスはありません",
    Cause.DISABLED: "あて先のメールボックスが止められています（休止・解約など）",
    Cause.FULL: "あて先のメールボックスがいっぱいです",
    Cause.FILTERED: "受信拒否設定などで断られました",
    Cause.THROTTLED: "相手側が混み合っていて、受け取られませんでした",
    Cause.POLICY: "相手側が受け取りを断りました（迷惑メール対策や受信設定）",
    Cause.OUR_FAULT: "こちらのメールサーバーの設定のため、送れませんでした",
    Cause.COMPLAINT: "迷惑メールとして報告されました",
}
_NOT_REACHED = "届けられませんでした"
_REPORTED = re.compile(r"report: ([a-z-]+): ?((?:\d\.\d{1,3}\.\d{1,3}|\d{3}(?= |$))?)")


def cause_words(cause: str, address: str) -> str:
    """Why mail did not reach `address`. Carriers answer a member's refusal list as if there were no such mailbox."""
    if seems(cause, address) != (known := _known(cause)):
        return "受信拒否設定、または宛先不明です"
    return _CAUSES.get(known, _NOT_REACHED)


def seems(cause: str, address: str) -> Cause:
    """The cause to act by: what may as well be the member's refusal list is taken for it."""
    known = _known(cause)
    return Cause.FILTERED if perhaps_refused(known, address.rpartition("@")[2]) else known


def _known(cause: str) -> Cause:
    return next((one for one in Cause if one.value == cause), Cause.OTHER)


def known_words(cause: str, source: str, address: str) -> str:
    """Why an address gets no mail (a row of `suppression`)."""
    return "職員が送信を止めました" if source == Source.STAFF else cause_words(cause, address)


def reported(reply: str, recipient: str) -> str:
    """A report that came after the mail was taken (`relay_reply` of its `attempt`), as a Japanese sentence."""
    found = _REPORTED.match(reply)
    cause, status = (found[1], found[2]) if found else ("", "")
    codes = f"（{status}）" if status else ""
    return f"届かなかったという知らせが来ました。{cause_words(cause, recipient)}{codes}"


def plain(outcome: str, reply: str, recipient: str) -> str:
    """A row of `attempt` (`outcome`, `relay_reply`) as a Japanese sentence, with the reply's codes where it has any."""
    if outcome == BOUNCED:
        return reported(reply, recipient)
    code, enhanced, text = _parts(reply)
    words = _words(outcome, code, enhanced, text, recipient)
    codes = f"{code} {enhanced}".strip() if code else ""
    return f"{words}（{codes}）" if codes and outcome != OutcomeKind.DELIVERED else words


def cause_of(outcome: str, reply: str, recipient: str) -> str:
    """What keeps the mail of such a row, as `seems`; empty where it is on its way, or nobody knows."""
    if outcome == BOUNCED:
        found = _REPORTED.match(reply)
        return seems(found[1] if found else "", recipient)
    code, enhanced, text = _parts(reply)
    if outcome == OutcomeKind.DEFERRED:
        return _put_off(code, enhanced, text)[1]
    if outcome != OutcomeKind.FAILED:
        return ""
    cause = classify(code, enhanced, Stage.RCPT, text).cause or Cause.OTHER
    return Cause.UNKNOWN_USER if cause is Cause.OTHER and misspelt(code, enhanced) else seems(cause, recipient)


def _parts(reply: str) -> tuple[int, str, str]:
    """Code, enhanced code and words."""
    found = _CODES.search(reply)
    return (int(found[1]), found[2] or "", reply[found.end() :].strip()) if found else (0, "", "")


def _words(outcome: str, code: int, enhanced: str, text: str, recipient: str) -> str:
    match outcome:
        case OutcomeKind.DELIVERED:
            return _DONE
        case OutcomeKind.UNKNOWN:
            return _UNSURE
        case OutcomeKind.FAILED:
            cause = classify(code, enhanced, Stage.RCPT, text).cause or Cause.OTHER
            return _MISSPELT if cause is Cause.OTHER and misspelt(code, enhanced) else cause_words(cause, recipient)
        case _:
            return f"{_put_off(code, enhanced, text)[0]}。{_LATER}"


def _put_off(code: int, enhanced: str, text: str) -> tuple[str, str]:
    """Words, and the cause where somebody can do something about it."""
    meaning = classify(code, enhanced, Stage.RCPT, text)
    if enhanced.startswith("4.4."):
        return _LOST, ""
    # a mail that waits after a 5xx was refused before its recipient was named
    if code >= 500 or meaning.effect in (Effect.OUR_FAULT, Effect.SESSION):
        return _OURS, Cause.OUR_FAULT
    if meaning.effect is Effect.SLOW_DOMAIN:
        return _BUSY, ""
    return (_CAUSES[Cause.FULL], Cause.FULL) if meaning.cause is Cause.FULL else (_NOT_NOW, "")


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


def ended(state: str, reason: str | None, recipient: str) -> str:
    """What became of a mail (`state`, `reason` and `recipient` of its row)."""
    why = _REASONS.get(reason or "", "")
    kind, _, cause = (reason or "").partition("-")
    if kind in (BOUNCED, REFUSED):
        why = cause_words(cause, recipient)
    return _STATES.get(state, state) + (f"（{why}）" if why else "")
