"""SMTP replies as values: those we give and those a relay gives us, and the words for what became of a mail.

What a relay's reply means is told by `mailbot.mail.verdict`.
Standards: RFC 5321 section 4.2 (codes), RFC 3463 (enhanced codes).
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from mailbot.mail.address import AddressProblem
from mailbot.mail.causes import Cause


@dataclass(frozen=True, slots=True)
class Status:
    """One reply. `enhanced` is empty where RFC 2034 section 4 allows none (220, 354, the answer to EHLO)."""

    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}" if self.enhanced else f"{self.code} {self.text}"

    @property
    def permanent(self) -> bool:
        return self.code >= 500


# What our listener says. Texts are generic on purpose: no internals, no hint which members exist.
OK = Status(250, "2.0.0", "OK")
SENDER_OK = Status(250, "2.1.0", "Sender OK")
RECIPIENT_OK = Status(250, "2.1.5", "Recipient OK")
BYE = Status(221, "2.0.0", "Bye")
READY_FOR_TLS = Status(220, "2.0.0", "Ready to start TLS")
START_DATA = Status(354, "", "End data with <CR><LF>.<CR><LF>")
CANNOT_VERIFY = Status(252, "2.5.2", "Cannot verify, send some mail")
HELP = Status(214, "2.0.0", "See RFC 5321")

SHUTTING_DOWN = Status(421, "4.3.2", "Service is closing, try again later")
BUSY = Status(421, "4.3.2", "Too many connections, try again later")
TOO_MANY_FROM_NETWORK = Status(421, "4.7.0", "Too many connections from your network, try again later")
TOO_MANY_ERRORS = Status(421, "4.7.0", "Too many errors")
TOO_MANY_COMMANDS = Status(421, "4.7.0", "Too many commands")
TOO_SLOW = Status(421, "4.4.2", "Timeout")
OUTAGE = Status(451, "4.3.0", "Temporary failure, try again later")
LOOKUP_FAILED = Status(451, "4.4.3", "Temporary directory failure, try again later")
OVER_LIMIT = Status(451, "4.7.1", "Too much mail at the moment, try again later")
TOO_MANY_RECIPIENTS = Status(452, "4.5.3", "Too many recipients")
FULL = Status(452, "4.3.1", "Too much mail at the moment, try again later")
TLS_UNAVAILABLE = Status(454, "4.7.0", "TLS not available")

UNKNOWN_COMMAND = Status(500, "5.5.2", "Command not recognized")
LINE_TOO_LONG = Status(500, "5.5.2", "Line too long")
BAD_ARGUMENT = Status(501, "5.5.4", "Syntax error in parameters")
NOT_OFFERED = Status(502, "5.5.1", "Command not implemented")
BAD_SEQUENCE = Status(503, "5.5.1", "Bad sequence of commands")
BARE_LINE_END = Status(521, "5.5.2", "Bare CR, bare LF or NUL not accepted")
NO_SUCH_USER = Status(550, "5.1.1", "No such mailbox here")
REFUSED_SENDER = Status(550, "5.7.1", "Sender not accepted")
TOO_LARGE = Status(552, "5.3.4", "Message too large")
BAD_SENDER = Status(553, "5.1.7", "Sender address not valid")
BAD_RECIPIENT = Status(553, "5.1.3", "Recipient address not valid")
NOT_ASCII = Status(553, "5.6.7", "Non-ASCII address not accepted")
RELAY_DENIED = Status(554, "5.7.1", "Relay access denied")
NO_VALID_RECIPIENTS = Status(554, "5.5.1", "No valid recipients")
UNKNOWN_PARAMETER = Status(555, "5.5.4", "Parameter not recognized")


def bad_path(problem: AddressProblem, *, recipient: bool = False) -> Status:
    """The reply to MAIL (or RCPT) whose path has `problem`."""
    match problem:
        case AddressProblem.NO_BRACKETS:
            return BAD_ARGUMENT
        case AddressProblem.NOT_ASCII:
            return NOT_ASCII  # RFC 6531 section 3.5: SMTPUTF8 is not offered
        case _:
            return BAD_RECIPIENT if recipient else BAD_SENDER


_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|\Z)")
_UNPRINTABLE = re.compile(r"[^ -~]+")


def relay_status(code: int, text: str) -> Status:
    """A relay's reply, its lines joined by newlines, as a Status: printable ASCII, at most 200 characters of text.

    RFC 2034 section 4: an enhanced code opens each line, and its first digit is the reply's.
    """
    lines = text.splitlines() or [""]
    match = _ENHANCED.match(lines[0])
    enhanced = match[1] if match and match[1][0] == str(code)[0] else ""
    if enhanced:
        lines = [line.removeprefix(enhanced) for line in lines]
    return Status(code, enhanced, _UNPRINTABLE.sub(" ", " ".join(line.strip() for line in lines)).strip()[:200])


class Stage(StrEnum):
    """How far a delivery had come when the relay answered, or was lost. DOT is the end of the message."""

    CONNECT = "connect"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"


BEFORE_MAIL = frozenset({Stage.CONNECT, Stage.EHLO, Stage.TLS, Stage.AUTH})
"""Before any mail is spoken of: what the relay says here it says to all of them, and it names nobody."""


class OutcomeKind(StrEnum):
    """UNKNOWN: the relay has the whole message but its answer was lost, it may or may not be on its way."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Effect(StrEnum):
    """What an answer means beyond this one mail."""

    NONE = "none"
    SLOW_DOMAIN = "slow-domain"  # the receiving side wants less: slow the whole domain down
    SESSION = "session"  # the relay is in trouble and did not take the mail: another relay may
    OUR_FAULT = "our-fault"  # the relay does not take our mail at all: pause, keep every mail, alarm


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a reply means: for the mail (`kind`), beyond it (`effect`), and why it came to that, unless it was taken."""

    kind: OutcomeKind
    effect: Effect = Effect.NONE
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt to deliver ended, and at which stage. `relay` names who said so, for staff.

    `cause` is None where the mail was taken, or nothing was said about it. `trouble`: what staff should know of relays
    that failed before this one was asked; names no member.
    """

    kind: OutcomeKind
    status: Status
    relay: str = ""
    effect: Effect = Effect.NONE
    cause: Cause | None = None
    stage: Stage = Stage.DOT
    trouble: str = ""
