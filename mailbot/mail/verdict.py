"""What a relay's reply means: by its first digit, then the stage, then the enhanced code, and only last by its words.

Words count where the enhanced code is missing, or where a large provider is known to give a misleading one. What no row
names is judged by its first digit alone, and nobody's address suffers for it.
Standards: RFC 5321 section 4.2, RFC 3463, RFC 1047.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mailbot.mail.causes import Cause
from mailbot.mail.status import BEFORE_MAIL, Diagnosis, Effect, OutcomeKind, Stage


class _Row(NamedTuple):
    """First match wins. `enhanced` is matched whole, `words` are searched in any case."""

    effect: Effect
    cause: Cause
    enhanced: str = ".*"
    words: str = ""
    code: int | None = None


_Table = tuple[tuple[_Row, re.Pattern[str], re.Pattern[str]], ...]


def _compiled(*rows: _Row) -> _Table:
    return tuple((row, re.compile(row.enhanced), re.compile(row.words, re.IGNORECASE)) for row in rows)


_FULL = (
    r"mailbox (is )?full|inbox is full|over ?quota|quota (is )?exceeded|exceed\w* (the )?(storage|quota)|out of storage"
)
_UNKNOWN = (
    r"user unknown|unknown (user|recipient|address|local)|(no|not a) (such|known|valid) (user|mailbox|recipient|addr)"
    r"|does ?n[o']t (exist|have an?)|does not exist|invalid (recipient|mailbox)|no longer (available|valid|in use)"
    r"|mailbox (is )?(unavailable|not found|disabled)|unrout(e)?able|recipient (not found|unknown)|addressee unknown"
)
_CARRIERS = (
    r"@(docomo|ezweb|softbank|\w\.vodafone|disney|ymobile|uqmobile|\w+\.biz\.ezweb)\.ne\.jp\b|@i\.softbank\.jp|@au\.com"
)
_RELAYING = r"^(<[^>]*>:? *)*(relay(ing)? (access )?(is )?(denied|prohibited|not (permitted|allowed))|unable to relay)"
_LESS = r"too (many|much|fast)|rate.?limit|throttl|unusual rate|slow down|try .*less often|excessive"
_POLICY = (
    r"spam|block|black ?list|polic(y|ies)|reputation|\b(spf|dkim|dmarc)\b|unauthenticated|prohibit|content|denied"
    r"|rejected|refused|not accept"
)

_TEMPORARY = _compiled(
    # Greylisting wants this mail later, not fewer mails: RFC 6647 section 4.3.
    _Row(Effect.NONE, Cause.THROTTLED, words=r"gr[ae]y.?list"),
    _Row(Effect.NONE, Cause.THROTTLED, r"4\.2\.1", r"receiving mail (at a rate|too quickly)"),  # one mailbox, not all
    _Row(Effect.SOFT, Cause.FULL, r"4\.2\.2"),
    _Row(Effect.SLOW_DOMAIN, Cause.THROTTLED, r"4\.7\.\d+"),
    _Row(Effect.SLOW_DOMAIN, Cause.THROTTLED, code=421),
    _Row(Effect.SOFT, Cause.FULL, "", _FULL),
    _Row(Effect.SLOW_DOMAIN, Cause.THROTTLED, "", _LESS),
)
_PERMANENT = _compiled(
    # Misleading codes first. Our own relay refuses to relay: every mail would fail one after the other.
    _Row(Effect.OUR_FAULT, Cause.OUR_FAULT, r"(5\.7\.\d+)?", _RELAYING),
    _Row(Effect.SUPPRESS, Cause.UNKNOWN_USER, r"5\.5\.0", r"mailbox unavailable"),  # Outlook.com
    _Row(Effect.SUPPRESS, Cause.UNKNOWN_USER, r"5\.4\.1", r"address rejected: access denied"),  # Microsoft 365
    _Row(Effect.NONE, Cause.THROTTLED, r"5\.2\.1", r"receiving mail (at a rate|too quickly)"),  # Gmail
    _Row(Effect.SUPPRESS, Cause.UNKNOWN_USER, r"5\.4\.4", r"domain.* not found|nxdomain"),  # Postfix
    _Row(Effect.SOFT, Cause.FULL, r"5\.[17]\.1|5\.2\.[01]|5\.3\.0", _FULL),
    _Row(Effect.NONE, Cause.FILTERED, words=r"(blocked|refused|rejected) by (the )?(recipient|addressee|user)"),
    # Enhanced codes.
    _Row(Effect.SUPPRESS, Cause.UNKNOWN_USER, r"5\.1\.(1|2|6|10)"),
    _Row(Effect.NONE, Cause.DISABLED, r"5\.2\.1"),
    _Row(Effect.SOFT, Cause.FULL, r"5\.2\.2"),
    _Row(Effect.POLICY, Cause.POLICY, r"5\.7\.\d+"),
    _Row(Effect.SYNTAX, Cause.OTHER, r"5\.1\.3"),
    _Row(Effect.SYNTAX, Cause.OTHER, r"5\.5\.\d+", code=501),
    # No enhanced code. The carriers answer a member's refusal list in the words for a mailbox that does not exist.
    _Row(Effect.NONE, Cause.UNKNOWN_USER, "", rf"^(?=.*({_UNKNOWN})).*({_CARRIERS})"),
    _Row(Effect.SUPPRESS, Cause.UNKNOWN_USER, "", _UNKNOWN),
    _Row(Effect.SOFT, Cause.FULL, "", _FULL),
    _Row(Effect.SOFT, Cause.FULL, "", code=552),  # RFC 5321 section 4.5.3.1.10: bare, it is no verdict on the address
    _Row(Effect.SYNTAX, Cause.OTHER, "", code=501),
    _Row(Effect.SYNTAX, Cause.OTHER, "", code=553),
    _Row(Effect.POLICY, Cause.POLICY, "", _POLICY),
)
_QMAIL = re.compile(r"\(#([45]\.\d{1,3}\.\d{1,3})\)")


def _find(table: _Table, code: int, enhanced: str, text: str) -> tuple[Effect, Cause]:
    for row, pattern, words in table:
        if row.code in (None, code) and pattern.fullmatch(enhanced) and words.search(text):
            return row.effect, row.cause
    return Effect.NONE, Cause.OTHER


def classify(code: int, enhanced: str | None, stage: Stage, text: str = "") -> Diagnosis:
    """The verdict on a reply: `enhanced` is empty or None where it has none, `text` is what follows, on one line."""
    digit = code // 100
    if digit == 2 and stage is Stage.DOT:
        return Diagnosis(OutcomeKind.DELIVERED)
    if stage in BEFORE_MAIL or (digit == 5 and stage is Stage.MAIL):
        # Nothing was said about the recipient yet: the mail waits, the sending side needs a person.
        return Diagnosis(OutcomeKind.DEFERRED, Effect.OUR_FAULT, Cause.OUR_FAULT)
    if stage is Stage.MAIL:
        return Diagnosis(OutcomeKind.DEFERRED, Effect.SESSION)
    if not enhanced and (found := _QMAIL.search(text)) and found[1][0] == str(digit):
        enhanced = found[1]
    effect, cause = _find(_PERMANENT if digit == 5 else _TEMPORARY, code, enhanced or "", text)
    failed = digit == 5 and effect is not Effect.OUR_FAULT
    return Diagnosis(OutcomeKind.FAILED if failed else OutcomeKind.DEFERRED, effect, cause)


def lost(stage: Stage) -> Diagnosis:
    """What a lost connection means: after the final dot nobody knows (RFC 1047)."""
    if stage is Stage.DOT:
        return Diagnosis(OutcomeKind.UNKNOWN)
    return Diagnosis(OutcomeKind.DEFERRED, Effect.OUR_FAULT if stage in BEFORE_MAIL else Effect.SESSION)
