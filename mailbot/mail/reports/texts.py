"""Bounces without a format: who writes them, where the original begins, and how Japanese carriers put it.

Every pattern is bounded, so a text costs time about linear in its length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from mailbot.mail.causes import Cause

_MAILERS = re.compile(
    r"mailer.?daemon|mail.?daemon|mdaemon|postmaster|mail delivery|mail system|microsoftexchange|system administrator"
    r"|mail-?(error|return)|メール配信|メールシステム"
)
_SUBJECTS = re.compile(
    r"undeliver|returned mail|return(ed)? to sender|failure notice|mail system error|non.?delivery"
    r"|could not be delivered|delivery (status|failure|error|has failed|problem|report)|mail delivery|delivery of"
    r"|error (report|mail)|不達|配信(不能|エラー|できません)|配送(不能|エラー)"
    r"|送信(エラー|できません)|エラー通知|お届けできません"
)
_ANSWERS = re.compile(r"(re|aw|fwd?|返信|転送) ?[::]")
_FAILS = re.compile(r"undeliver|fail|returned|error|could not|non.?delivery|不達|不能|エラー|できません")
_TRYING = re.compile(
    r"still (be(ing)? )?(retried|trying|in the queue)|will (keep|continue) (trying|to try|retrying)"
    r"|warning message only|do not need to (re)?send|has not (yet )?been delivered|delayed \d|遅延"
    r"|再送(します|を試み|しています)"
)
_LATE_SUBJECT = re.compile(r"delay|warning|遅延|still (being )?retried")
_OVER = re.compile(r"(has been|was) (returned|given up)|giving up|gave up|permanent|あきらめ|中止")
_AWAY = re.compile(r"auto(matic)?.?(reply|response)|out of (the )?office|不在|自動(応答|返信|送信)|vacation|休暇")
_ORIGINAL = re.compile(
    r"^[ \t>]{0,10}(-{2,}.{0,40}(original|copy|returned message|headers|元のメッセージ|送信された).{0,60}$"
    r"|(received|return-path|message-id|mime-version):)",
    re.MULTILINE | re.IGNORECASE,
)

CARRIERS: tuple[tuple[str, tuple[tuple[str, Cause], ...]], ...] = (
    (
        r"ezweb\.ne\.jp|au\.com|kddi|dion\.ne\.jp|auone",
        (
            (r"temporarily over quota|as their mailbox is full|mailbox is full", Cause.FULL),
            (r"account is (disabled|temporarily limited|suspended)", Cause.DISABLED),
            (r"rejected by a remote mail server|転送先|refused by the (user|recipient)'?s? setting", Cause.FILTERED),
            (r"as the remote domain does ?n[o']?t exist", Cause.UNKNOWN_USER),
        ),
    ),
    (
        r"docomo\.ne\.jp|spmode",
        (
            (r"容量.{0,20}(超|不足)|保存.{0,12}上限", Cause.FULL),
            (r"受信(拒否|設定)|拒否設定|指定受信", Cause.FILTERED),
            (r"unknown user|(宛先|あて先).{0,30}(誤り|不明|ありません|存在)", Cause.UNKNOWN_USER),
        ),
    ),
    (
        r"softbank|vodafone|ymobile|disney",
        (
            (r"mail ?box (is )?full|exceeded.{0,20}storage|メールボックス.{0,20}(空き|いっぱい|容量)", Cause.FULL),
            (r"refused by the receiver|受信(許可|拒否)|迷惑メール(ブロック|フィルタ)", Cause.FILTERED),
            (r"invalid recipient|no such (user|mailbox)|[宛あて]先.{0,30}(不明|見つか|存在|誤り)", Cause.UNKNOWN_USER),
        ),
    ),
)
"""(whose mail system, by From; ((what it says, what that means), …)); texts without codes that nobody else understands.

First match wins. NFKC, lower case, blanks joined.
"""
_CARRIERS = [
    (re.compile(author), [(re.compile(pattern), cause) for pattern, cause in rules]) for author, rules in CARRIERS
]


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text[:8000]).lower().split())


def from_a_mailer(author: str, subject: str) -> bool:
    """Whether a program that delivers mail wrote this: by From, else by its subject."""
    title = _plain(subject)
    if _MAILERS.search(_plain(author)):
        return not _AWAY.search(title)
    return bool(_SUBJECTS.search(title)) and not _ANSWERS.match(title) and not _AWAY.search(title)


def automatic(fields: Mapping[bytes, bytes], subject: str) -> bool:
    """Whether a mailbox answered by itself (RFC 3834 section 5, and those who do not know it)."""
    said = fields.get(b"auto-submitted", b"no").strip().lower()
    signs = (b"x-autoreply", b"x-autorespond", b"x-auto-response-suppress")
    return not said.startswith(b"no") or any(name in fields for name in signs) or bool(_AWAY.search(_plain(subject)))


def failed(subject: str) -> bool:
    """Whether the subject alone tells a failure."""
    return bool(_FAILS.search(_plain(subject)))


def still_trying(text: str, subject: str) -> bool:
    """Whether the mail is only late."""
    plain = _plain(text)
    return bool(_TRYING.search(plain) or _LATE_SUBJECT.search(_plain(subject))) and not _OVER.search(plain)


def before_the_original(text: str) -> str:
    """What the mailer wrote, without our own mail below it."""
    found = _ORIGINAL.search(text)
    return text[: found.start()] if found else text


def carrier(author: str, text: str) -> Cause | None:
    """What a Japanese carrier's own text means; None where it is none, or says nothing we know."""
    who, plain = _plain(author), _plain(text)
    for name, rules in _CARRIERS:
        if name.search(who):
            return next((cause for pattern, cause in rules if pattern.search(plain)), None)
    return None


_TELLING = re.compile(
    r"\b[45]\d\d\b|[45]\.\d+\.\d+|user|recipient|mailbox|full|refus|reject|宛先|あて先|受信|容量|いっぱい"
)


def gist(text: str) -> str:
    """The lines that say why, on one line."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    told = [line for line in lines if _TELLING.search(line.lower())]
    return " / ".join((told or lines)[:4])
