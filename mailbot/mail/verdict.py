"""What a reply means, a relay's or one in a report: by its first digit, then the stage, the enhanced code, its words.

Words count where the enhanced code says nothing, or where a large provider is known to give a misleading one; what they
say of a mailbox is in `mailbot.mail.causes`. What nothing names is judged by its first digit alone, and nobody's
address suffers for it. Standards: RFC 5321 section 4.2, RFC 3463, RFC 1047.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mailbot.mail.causes import Cause, by_words, plain
from mailbot.mail.status import BEFORE_MAIL, Diagnosis, Effect, OutcomeKind, Stage


class _Row(NamedTuple):
    """First match wins. `enhanced` is matched whole, `words` are searched in lower case."""

    effect: Effect
    cause: Cause
    enhanced: str = ".*"
    words: str = ""
    code: int | None = None


_Table = tuple[tuple[_Row, re.Pattern[str], re.Pattern[str]], ...]


def _compiled(*rows: _Row) -> _Table:
    return tuple((row, re.compile(row.enhanced), re.compile(row.words)) for row in rows)


_FULL = (
    r"mailbox (is )?full|inbox is full|over ?quota|quota (is )?exceeded|exceed\w* (the )?(storage|quota)|out of storage"
)
_LESS = r"too (many|much|fast)|rate.?limit|throttl|unusual rate|slow down|try .{0,40}less often|excessive"
_POLICY = r"spam|block|unauthenticated|prohibit|content|denied|rejected|refused|not accept"

# Whom the robot talks to is its own relay, so these are about us, even where it tells them at RCPT only. A relay that
# asks the recipient's server meanwhile may pass on that server's words: the mail is kept then as well.
_OURS = (
    _Row(
        Effect.OUR_FAULT,
        Cause.OUR_FAULT,
        words=r"^(?!.*recipient address rejected).*("
        r"relay(ing)? (access )?(is )?(denied|prohibited|not (permitted|allowed))|unable to relay|do not relay"
        r"|(permitted|allowed) to relay|rcpthosts|(client host|helo command|sender address) rejected"
        r"|client host .{0,60}blocked|sender verify failed|verification failed for|authentication (is )?required"
        r"|must authenticate|not authenticated to send|permissions? to send as)",
    ),
    # the sender's address
    _Row(Effect.OUR_FAULT, Cause.OUR_FAULT, r"[45]\.1\.[78]", r"^(?!.*recipient address rejected)"),
    _Row(Effect.OUR_FAULT, Cause.OUR_FAULT, words=r"(daily|hourly|sending|user sending) (sending )?(quota|limit)"),
    _Row(Effect.OUR_FAULT, Cause.OUR_FAULT, code=530),  # RFC 3207 section 4, RFC 4954 section 6
)
_ONE_MAILBOX = _Row(Effect.NONE, Cause.THROTTLED, r"[45]\.2\.1", r"receiving mail (at a rate|too quickly)")  # Gmail

_TEMPORARY = _compiled(
    # Greylisting wants this mail later, not fewer mails: RFC 6647 section 4.3.
    _Row(Effect.NONE, Cause.THROTTLED, words=r"gr[ae]y.?list"),
    *_OURS,
    _ONE_MAILBOX,
    _Row(Effect.NONE, Cause.FULL, r"4\.2\.2"),
    _Row(Effect.SESSION, Cause.OTHER, r"4\.3\.\d+"),  # the relay's disk, tables or filters: RFC 3463 section 3.4
    _Row(Effect.SLOW_DOMAIN, Cause.THROTTLED, r"4\.7\.\d+"),
    _Row(Effect.SLOW_DOMAIN, Cause.THROTTLED, code=421),
    _Row(Effect.SLOW_DOMAIN, Cause.THROTTLED, "", _LESS),
)
_PERMANENT = _compiled(
    # Misleading codes first.
    *_OURS,
    _Row(Effect.NONE, Cause.UNKNOWN_USER, r"5\.4\.1", r"address rejected: access denied"),  # Microsoft 365
    _ONE_MAILBOX,
    _Row(Effect.NONE, Cause.FULL, r"5\.[17]\.1|5\.2\.1", _FULL),
    _Row(Effect.NONE, Cause.FILTERED, words=r"(blocked|refused|rejected) by (the )?(recipient|addressee|user)"),
    # Enhanced codes.
    _Row(Effect.NONE, Cause.UNKNOWN_USER, r"5\.1\.(1|2|6|10)"),
    _Row(Effect.NONE, Cause.DISABLED, r"5\.2\.1"),
    _Row(Effect.NONE, Cause.FULL, r"5\.2\.2"),
    _Row(Effect.NONE, Cause.POLICY, r"5\.7\.\d+"),
)
_BARE = _compiled(
    # No enhanced code, and words that nobody knows.
    _Row(Effect.NONE, Cause.OTHER, words=r"\bsize\b|too (large|big|long)", code=552),
    _Row(Effect.NONE, Cause.FULL, code=552),  # RFC 5321 section 4.5.3.1.10: it is no verdict on the address
    _Row(Effect.NONE, Cause.OTHER, code=501),
    _Row(Effect.NONE, Cause.OTHER, code=553),
    _Row(Effect.NONE, Cause.POLICY, words=_POLICY),
)
_BELIEVED = frozenset({Cause.FILTERED, Cause.FULL})
"""What words say in spite of a code of policy, which some servers give for everything."""
_QMAIL = re.compile(r"\(#([45]\.\d{1,3}\.\d{1,3})\)")


def _find(table: _Table, code: int, enhanced: str, text: str) -> tuple[Effect, Cause]:
    for row, pattern, words in table:
        if row.code in (None, code) and pattern.fullmatch(enhanced) and words.search(text):
            return row.effect, row.cause
    return Effect.NONE, Cause.OTHER


def _meaning(code: int, enhanced: str, words: str) -> tuple[Effect, Cause]:
    """`code` is 0 where only prose is known."""
    text = plain(words)
    digit = str(code)[0] if code else enhanced[:1] or "5"
    if not enhanced and (found := _QMAIL.search(text)) and found[1][0] == digit:
        enhanced = found[1]
    if enhanced[1:] == ".0.0":  # RFC 3463 section 3.1: "the only information is the class"
        enhanced = ""
    effect, cause = _find(_PERMANENT if digit == "5" else _TEMPORARY, code, enhanced, text)
    if cause is not Cause.OTHER and cause is not Cause.POLICY:
        return effect, cause
    spoken = by_words(text)
    if cause is Cause.POLICY:
        return effect, spoken if spoken in _BELIEVED else cause
    if digit != "5" and spoken is Cause.UNKNOWN_USER:
        return effect, cause  # a look-up that failed for the moment says nothing about the mailbox
    if spoken is Cause.OTHER and digit == "5" and code and not enhanced:
        return _find(_BARE, code, enhanced, text)
    return effect, spoken


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
    effect, cause = _meaning(code, enhanced or "", text)
    failed = digit == 5 and effect is not Effect.OUR_FAULT
    return Diagnosis(OutcomeKind.FAILED if failed else OutcomeKind.DEFERRED, effect, cause)


def cause_of(enhanced: str, words: str, code: int = 0) -> Cause:
    """The cause behind a report's enhanced code ("" where there is none), another server's words, and the SMTP code
    (0 where they are prose). Linear, never raises.

    Our relay took that mail, so what refuses the sending side is the other side's policy.
    """
    _, cause = _meaning(code, enhanced, words)
    return Cause.POLICY if cause is Cause.OUR_FAULT else cause


def misspelt(code: int, enhanced: str) -> bool:
    """Whether the answer to RCPT may be about how the address is spelt."""
    return code in (501, 553) or enhanced == "5.1.3"


def lost(stage: Stage) -> Diagnosis:
    """What a lost connection means: after the final dot nobody knows (RFC 1047)."""
    if stage is Stage.DOT:
        return Diagnosis(OutcomeKind.UNKNOWN)
    return Diagnosis(OutcomeKind.DEFERRED, Effect.OUR_FAULT if stage in BEFORE_MAIL else Effect.SESSION)
