"""Why a mail did not reach its mailbox: the same few causes, whether a relay, a report or a person says it.

What codes say is in `mailbot.mail.verdict`; here is what words say.
"""

import re
import unicodedata
from enum import StrEnum

LONGEST = 4000
"""Characters of a server's words that are looked at."""


class Cause(StrEnum):
    """Stable: stored, counted and documented."""

    UNKNOWN_USER = "unknown-user"  # there is no such mailbox (any more)
    DISABLED = "disabled"  # the mailbox takes no mail at the moment: closed, locked, not paid for
    FULL = "full"
    FILTERED = "filtered"  # the member's own filter, such as a carrier's refusal list
    THROTTLED = "throttled"  # the receiving side wants less mail at the moment
    POLICY = "policy"  # content or reputation, never the address's fault
    OUR_FAULT = "our-fault"  # the sending side is misconfigured
    COMPLAINT = "complaint"  # the member called our mail spam
    OTHER = "other"


REFUSAL_LISTS = frozenset(
    {
        "docomo.ne.jp", "ezweb.ne.jp", "au.com", "softbank.ne.jp", "i.softbank.jp", "ymobile.ne.jp", "ymail.ne.jp",
        "uqmobile.jp", "rakumail.jp",
    }
)  # fmt: skip
"""Domains of carriers that answer "Unknown user" for a member's refusal list as well."""


def perhaps_refused(cause: Cause, domain: str) -> bool:
    """Whether `cause` may as well be the member's own refusal list."""
    return cause is Cause.UNKNOWN_USER and domain.lower() in REFUSAL_LISTS


# First match wins; NFKC, lower case, blanks joined. No pattern has more than one bounded gap, so time stays linear.
_BY_WORDS: tuple[tuple[Cause, str], ...] = (
    (
        Cause.FULL,
        r"(mail ?box|inbox|quota|storage|account).{0,30}(full|exceeded|over)|over ?quota|insufficient storage"
        r"|out of storage|exceed\w* (the )?(storage|quota)"
        r"|(メールボックス|受信箱|容量|保存件数).{0,12}(いっぱい|一杯|満杯|超え|超過|オーバー|不足)",
    ),
    (
        Cause.DISABLED,
        r"(account|mailbox|user).{0,30}\b(disabled|suspended|inactive|temporarily limited|locked|deactivated)"
        r"|利用停止|(アカウント|契約).{0,12}(停止|休止)",
    ),
    (
        Cause.FILTERED,
        r"(refused|rejected|blocked) by (the |its )?(recipient|receiver|user|addressee)|(domain|mail|url) filter"
        r"|has blocked (you|this sender|the sender)"
        r"|recipient.{0,20}(does not (want|accept)|refuses)|(受信|指定受信|ドメイン|url).{0,8}(拒否|制限|規制)"
        r"|迷惑メールフィルタ|なりすまし",
    ),
    (
        Cause.POLICY,
        r"(sender|from|client|helo)[ -]?(address|domain|host|name)|sender verify|verification failed for"
        r"|\b(spf|dkim|dmarc|rbl|ptr)\b|spam|reputation"
        r"|(black|block|deny)[ -]?list|relay(ing)? (access )?(denied|not permitted|prohibited)|policy|access denied",
    ),
    (
        Cause.UNKNOWN_USER,
        r"unknown.{0,10}(user|recipient|address|mailbox|account)|(user|recipient|address|mailbox).{0,15}unknown"
        r"|no such (user|recipient|mailbox|address|account|person|domain)|mailbox unavailable"
        r"|(user|recipient|mailbox|address|account|domain).{0,40}(not (found|exist|known|valid)|do(es)?n'?t exist)"
        r"|(user|recipient) does ?n[o']t have an?\b|unroute?able|nxdomain|addressee unknown"
        r"|(user|recipient|mailbox|address|account).{0,20}(no longer|invalid)"
        r"|invalid (recipient|user|mailbox|address)|no mailbox here"
        r"|(宛先|あて先|アドレス|ユーザー?).{0,20}(不明|存在し|存在しな|見つか|誤り|ありません)",
    ),
    (Cause.THROTTLED, r"too many|rate limit|throttl|gr[ae]ylist|temporarily deferred|混み合"),
)
_WORDS = [(cause, re.compile(pattern)) for cause, pattern in _BY_WORDS]


def plain(words: str) -> str:
    """As patterns for words want them: NFKC, lower case, blanks joined."""
    return " ".join(unicodedata.normalize("NFKC", words[:LONGEST]).lower().split())


def by_words(words: str) -> Cause:
    """What words alone say."""
    text = plain(words)
    return next((cause for cause, pattern in _WORDS if pattern.search(text)), Cause.OTHER)
