"""Why a mail did not reach its mailbox: the same few causes, whether a relay, a report or a person says it.

The enhanced status code decides (RFC 3463); where it says nothing in particular, the words do.
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


# First match wins. Codes that fit no line are read by their words.
_BY_CODE: tuple[tuple[str, Cause], ...] = (
    (r"5\.1\.(1|2|6|10)", Cause.UNKNOWN_USER),
    (r"5\.2\.1", Cause.DISABLED),
    (r"[45]\.2\.2", Cause.FULL),
    (r"4\.7\.\d+", Cause.THROTTLED),
    (r"5\.7\.\d+", Cause.POLICY),
)
_BELIEVED = frozenset({Cause.FILTERED, Cause.FULL})
"""What words say in spite of a code of policy, which some servers give for everything."""

# First match wins; NFKC, lower case, blanks joined. No pattern has more than one bounded gap, so time stays linear.
_BY_WORDS: tuple[tuple[Cause, str], ...] = (
    (
        Cause.FULL,
        r"(mail ?box|inbox|quota|storage|account).{0,30}(full|exceeded|over)|over ?quota|insufficient storage"
        r"|(メールボックス|受信箱|容量|保存件数).{0,12}(いっぱい|一杯|満杯|超え|超過|オーバー|不足)",
    ),
    (
        Cause.DISABLED,
        r"(account|mailbox|user).{0,30}(disabled|suspended|inactive|temporarily limited|locked|deactivated)"
        r"|利用停止|(アカウント|契約).{0,12}(停止|休止)",
    ),
    (
        Cause.FILTERED,
        r"(refused|rejected|blocked) by (the |its )?(recipient|receiver|user|addressee)|(domain|mail|url) filter"
        r"|recipient.{0,20}(does not (want|accept)|refuses)|(受信|指定受信|ドメイン|url).{0,8}(拒否|制限|規制)"
        r"|迷惑メールフィルタ|なりすまし",
    ),
    (
        Cause.POLICY,
        r"(sender|from|client|helo)[ -]?(address|domain|host|name)|\b(spf|dkim|dmarc|rbl|ptr)\b|spam|reputation"
        r"|(black|block|deny)[ -]?list|relay(ing)? (access )?(denied|not permitted|prohibited)|policy|access denied",
    ),
    (
        Cause.UNKNOWN_USER,
        r"unknown.{0,10}(user|recipient|address|mailbox|account)|(user|recipient|address|mailbox).{0,15}unknown"
        r"|no such (user|recipient|mailbox|address|account|person|domain)|mailbox unavailable"
        r"|(user|recipient|mailbox|address|account|domain).{0,40}(not (found|exist|known|valid)|do(es)?n'?t exist)"
        r"|(user|recipient|mailbox|address|account).{0,20}(no longer|invalid)"
        r"|invalid (recipient|user|mailbox|address)|no mailbox here"
        r"|(宛先|あて先|アドレス|ユーザー?).{0,20}(不明|存在し|存在しな|見つか|誤り|ありません)",
    ),
    (Cause.THROTTLED, r"too many|rate limit|throttl|gr[ae]ylist|temporarily deferred|混み合"),
)
_CODES = [(re.compile(pattern), cause) for pattern, cause in _BY_CODE]
_WORDS = [(cause, re.compile(pattern)) for cause, pattern in _BY_WORDS]


def cause_of(enhanced: str, words: str) -> Cause:
    """The cause behind an enhanced code ("" where there is none) and the other server's words. Linear, never raises."""
    found = next((cause for pattern, cause in _CODES if pattern.fullmatch(enhanced)), None)
    if found is not None and found is not Cause.POLICY:
        return found
    spoken = by_words(words)
    if found is Cause.POLICY:
        return spoken if spoken in _BELIEVED else Cause.POLICY
    if enhanced == "5.4.1" and spoken is Cause.POLICY:  # Microsoft 365: "Recipient address rejected: Access denied"
        return Cause.UNKNOWN_USER
    if spoken is Cause.UNKNOWN_USER and enhanced.startswith("4"):
        return Cause.OTHER  # a look-up that failed for the moment says nothing about the mailbox
    return spoken


def by_words(words: str) -> Cause:
    """What words alone say."""
    plain = " ".join(unicodedata.normalize("NFKC", words[:LONGEST]).lower().split())
    return next((cause for cause, pattern in _WORDS if pattern.search(plain)), Cause.OTHER)
