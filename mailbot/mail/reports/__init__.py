"""What a mail to a bounce address reports about the mail it answers: failed, waits, complained about, or nothing.

Standards: RFC 3464 (delivery reports), RFC 6533 (those with UTF-8 addresses), RFC 5965 (complaints). What keeps to none
of them is read by its words, as carriers and old servers write them. Whom the report is about is never read from it:
the caller knows by the address it came to. Pure; hostile bytes are a fact, not an error; 64 KiB are looked at.
"""

from __future__ import annotations

import email
import logging
import re
from dataclasses import dataclass
from enum import StrEnum

from flufl.bounce import all_failures

from mailbot.mail.bodytext import Part, parts
from mailbot.mail.causes import Cause, by_words
from mailbot.mail.fields import decode_unlabelled, decoded, escaped, header_block, split, unfold
from mailbot.mail.reports import texts
from mailbot.mail.verdict import cause_of

MAX_CONTENT = 64 * 1024
"""Octets that are looked at."""
MAX_WORDS = 300
MAX_GROUPS = 20
_GUESSED = 16 * 1024
"""Octets that the library of old formats gets: its patterns are not linear."""


class Kind(StrEnum):
    """What kind of report it is."""

    FAILED = "failed"
    DELAYED = "delayed"  # still under way: a word about the failure follows if there is one
    DELIVERED = "delivered"  # also relayed and expanded
    COMPLAINT = "complaint"
    AUTOMATIC = "automatic"  # an out-of-office note, a receipt
    NONE = "none"  # no report that could be read


@dataclass(frozen=True, slots=True)
class Report:
    """`status`: enhanced code (RFC 3463) or SMTP code, "" where none was given. `words`: the other server's, on one
    line, escaped, at most 300 characters."""

    kind: Kind
    status: str = ""
    cause: Cause = Cause.OTHER
    words: str = ""


NOTHING = Report(Kind.NONE)

logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)  # it writes a traceback for every mail it stumbles over


def read(content: bytes) -> Report:
    """The report in a message, or in its beginning. Never raises."""
    try:
        return _read(content[:MAX_CONTENT])
    except (RecursionError, ValueError, LookupError):  # of the libraries underneath
        return NOTHING


def _read(content: bytes) -> Report:
    found = parts(content, enclosed=False)
    kinds = {part.kind for part in found}
    if "message/feedback-report" in kinds:
        return _complaint(next(part for part in found if part.kind == "message/feedback-report"))
    for part in found:
        if part.kind in _STATUS_PARTS and (report := _delivery_status(part)) is not None:
            return report
    if "message/disposition-notification" in kinds:
        return Report(Kind.AUTOMATIC)
    return _plain(content, found)


# --- RFC 3464 ---------------------------------------------------------------------------------------------------------

_STATUS_PARTS = frozenset({"message/delivery-status", "message/global-delivery-status"})
_ACTIONS = {
    "failed": Kind.FAILED,
    "delayed": Kind.DELAYED,
    "delivered": Kind.DELIVERED,
    "relayed": Kind.DELIVERED,
    "expanded": Kind.DELIVERED,
}
_STATUS = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
_CODE = re.compile(r"(?:^|[\s;:(>\[])([245]\d\d)(?=[\s\-:,.)#]|$)")
_GENERIC = re.compile(r"[245]\.(\d{1,3})\.0|")


def _groups(text: str) -> list[dict[str, str]]:
    """Groups of fields between blank lines (section 2.1), names in lower case, continued lines joined."""
    groups: list[dict[str, str]] = []
    for chunk in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n"), maxsplit=MAX_GROUPS):
        fields: dict[str, str] = {}
        name = ""
        for line in chunk.split("\n"):
            if line[:1] in (" ", "\t") and name:
                fields[name] += " " + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        groups.append(fields)
    return groups


def _delivery_status(part: Part) -> Report | None:
    """None where no group tells an action. Of several recipients, one that was reached counts most: our mails have one
    recipient, so the others are where a mailbox forwards to."""
    best: Report | None = None
    for fields in _groups(part.text()):
        kind = _ACTIONS.get(fields.get("action", "").partition(" ")[0].lower())
        if kind is None:
            continue
        made = _failed(kind, fields.get("status", ""), fields.get("diagnostic-code", ""))
        if best is None or _RANK[kind] > _RANK[best.kind]:
            best = made
    return best


_RANK = {Kind.DELAYED: 1, Kind.FAILED: 2, Kind.DELIVERED: 3}


def _failed(kind: Kind, status: str, diagnostic: str) -> Report:
    words = diagnostic.partition(";")[2].strip() if ";" in diagnostic[:40] else diagnostic
    given = match[1] if (match := _STATUS.match(status.strip())) else ""
    said = _status_in(words)
    # a server that was told no enhanced code writes 5.0.0: what the other side said is better
    better = said if "." in said and _GENERIC.fullmatch(given) and said[0] == (given or said)[0] else given
    code = int(match[1]) if (match := _CODE.search(words)) and match[1][0] in (better[:1], "") else 0
    return Report(kind, better or said, cause_of(better, words, code), escaped(words, MAX_WORDS))


def _status_in(words: str) -> str:
    """The enhanced code a text names, else its SMTP code, else ""."""
    found = _STATUS.search(words) or _CODE.search(words)
    return found[1] if found else ""


# --- RFC 5965 ---------------------------------------------------------------------------------------------------------


def _complaint(part: Part) -> Report:
    fields = _groups(part.text())[0]
    kind = fields.get("feedback-type", "").lower()
    if kind == "not-spam":
        return Report(Kind.AUTOMATIC)
    return Report(Kind.COMPLAINT, "", Cause.COMPLAINT, escaped(f"{kind} {fields.get('user-agent', '')}", MAX_WORDS))


# --- free text --------------------------------------------------------------------------------------------------------


def _plain(content: bytes, found: list[Part]) -> Report:
    """A bounce in nobody's format: from a program that delivers mail, or with its usual subject."""
    fields = {name.lower(): unfold(value[:1000]) for name, value in reversed(split(header_block(content)))}
    author, subject = (decoded(fields.get(name, b""), 200) for name in (b"from", b"subject"))
    if not texts.from_a_mailer(author, subject):
        automatic = texts.automatic(fields, subject)
        return Report(Kind.AUTOMATIC) if automatic else NOTHING
    text = texts.before_the_original(next((part.text() for part in found if part.kind == "text/plain"), ""))
    if not text.strip():
        text = texts.before_the_original("\n".join(decode_unlabelled(part.body) for part in found[:1]))
    words = texts.gist(text)
    if texts.still_trying(text, subject):
        return Report(Kind.DELAYED, "", Cause.OTHER, escaped(words, MAX_WORDS))
    status = _status_in(text)
    cause = texts.carrier(author, text) or (cause_of(status, text) if "." in status else by_words(text))
    if cause is Cause.OTHER and not status.startswith("5"):
        cause = by_words(subject)
        if cause is Cause.OTHER and not texts.failed(subject) and (guess := _guessed(content)) is not Kind.FAILED:
            return Report(guess, status, cause, escaped(words, MAX_WORDS)) if guess else NOTHING
    return Report(Kind.FAILED, status, cause, escaped(words, MAX_WORDS))


def _guessed(content: bytes) -> Kind | None:
    """What the library of old formats sees."""
    short = content[:_GUESSED]
    if short.count(b"boundary") > 5 or any(len(line) > 998 for line in short.splitlines()):
        return None
    try:
        temporary, permanent = all_failures(email.message_from_bytes(short))
    except Exception:  # a detector that stumbles over hostile text has found nothing
        return None
    return Kind.FAILED if permanent else Kind.DELAYED if temporary else None
