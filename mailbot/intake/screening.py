"""The verdict on one message: answer it, keep silent, or refuse it. Pure, each message alone.

RFC 3834: an automatic responder answers a person who wrote, at the address that wrote, or nobody. Every end has one
`Reason`, which is metric label, log field and row of the operator's manual alike. What depends on other mails (seen
before, budgets, a paused society) is decided by the funnel, with reasons of the same list.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum

from mailbot.mail import status
from mailbot.mail.address import Address, never_answer, rewritten
from mailbot.mail.authentication import Authentication, Result
from mailbot.mail.envelope import Envelope, Purpose
from mailbot.mail.fields import FromProblem
from mailbot.mail.inbound import Inbound
from mailbot.mail.status import Status

MAX_RECEIVED = 100  # RFC 5321 section 6.3: a loop threshold is at least 100
MAX_REFERENCES = 100
MAX_OWN_REFERENCES = 1
FRESH_MS = 3 * 86_400_000
"""How old or new the Date of a mail may be that is proved by its signature alone."""


class Reason(StrEnum):
    """Why a mail ended as it did. Names are stable: they are stored, counted and documented."""

    ACCEPTED = "accepted"
    NOT_FOR_ANSWER = "not-for-answer"
    NULL_SENDER = "null-sender"
    BROKEN_HEADERS = "broken-headers"
    TOO_MANY_RECEIVED = "too-many-received"
    LOOP = "loop"
    AUTOMATIC_REPLY = "automatic-reply"
    LIST_MAIL = "list-mail"
    NO_FROM = "no-from"
    SEVERAL_FROM = "several-from"
    UNREADABLE_FROM = "unreadable-from"
    OWN_ADDRESS = "own-address"
    NEVER_ANSWER_ADDRESS = "never-answer-address"
    SENDER_MISMATCH = "sender-mismatch"
    AUTHENTICATION_FAILED = "authentication-failed"
    LOOKUP_FAILED = "lookup-failed"
    SEEN_BEFORE = "seen-before"
    OVER_BUDGET = "over-budget"
    ACKNOWLEDGED_BEFORE = "acknowledged-before"
    SOCIETY_PAUSED = "society-paused"
    DELIVERY_REPORT = "delivery-report"
    DELAY_REPORT = "delay-report"
    COMPLAINT = "complaint"
    UNPROVED_REPORT = "unproved-report"
    LATE_REPORT = "late-report"
    UNREADABLE_REPORT = "unreadable-report"

    @property
    def explanation(self) -> str:
        """One English sentence for operators."""
        return EXPLANATIONS[self]


EXPLANATIONS: dict[Reason, str] = {
    Reason.ACCEPTED: "A person wrote: to a registration address, for the invitation, or to a help desk, for its word.",
    Reason.NOT_FOR_ANSWER: "It was sent to an address that never answers: no-reply, postmaster or abuse.",
    Reason.NULL_SENDER: "The sender is empty (MAIL FROM:<>): a delivery report, which is never answered.",
    Reason.BROKEN_HEADERS: "The header block exceeds 64 KiB, 200 fields or 8 KiB in one field (a Subject is cut).",
    Reason.TOO_MANY_RECEIVED: "More than 100 Received fields: the message goes round in a loop.",
    Reason.LOOP: "It comes from a robot like this one, or keeps answering our own mails.",
    Reason.AUTOMATIC_REPLY: "Its headers say that a program sent it: out-of-office note, receipt or notification.",
    Reason.LIST_MAIL: "Its headers say that it came through a mailing list or a bulk mailing.",
    Reason.NO_FROM: "It has no From field, or an empty one.",
    Reason.SEVERAL_FROM: "It names several authors in From, so there is no one person to answer.",
    Reason.UNREADABLE_FROM: "Its From field holds no address that could be answered.",
    Reason.OWN_ADDRESS: "It comes from one of our own addresses or domains.",
    Reason.NEVER_ANSWER_ADDRESS: "Its sender is a program, a list or a role, such as mailer-daemon or noreply.",
    Reason.SENDER_MISMATCH: "MAIL FROM and From differ and nothing vouches for From: forwarded, or sent for another.",
    Reason.AUTHENTICATION_FAILED: "SPF or DMARC says that the sender's domain did not send it.",
    Reason.LOOKUP_FAILED: "The DNS could not say whether the sender is real; the sending server tries again.",
    Reason.SEEN_BEFORE: "The same message was delivered before and has had its answer.",
    Reason.OVER_BUDGET: "The budget of the address, its domain, its network, its society or all strangers is used up.",
    Reason.ACKNOWLEDGED_BEFORE: "A help desk has it, and told its sender so of an earlier mail within a day.",
    Reason.SOCIETY_PAUSED: "Staff have paused this society.",
    Reason.DELIVERY_REPORT: "A report on one of our mails, proved by its tag: that mail did not arrive and has failed.",
    Reason.DELAY_REPORT: "A proved report that one of our mails is late, or arrived: nothing changes.",
    Reason.COMPLAINT: "A proved report that a member called one of our mails spam.",
    Reason.UNPROVED_REPORT: "It came to a bounce address without the tag of a mail of ours: anybody may have sent it.",
    Reason.LATE_REPORT: "A proved report whose mail left more than a week ago, or was reported on before.",
    Reason.UNREADABLE_REPORT: "It came with the tag of a mail of ours, but says nothing that could be read.",
}


class Tier(StrEnum):
    """How much is known about the person answered; budgets differ."""

    PROVED = "proved"
    UNPROVED = "unproved"


class Action(Enum):
    """REFUSE: not taken over, `Verdict.status` is the reply. DISCARD: taken over and kept silent about."""

    REFUSE = "refuse"
    DISCARD = "discard"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with one message; `address` is whom to answer, and set only with ANSWER."""

    action: Action
    status: Status
    reason: Reason
    address: Address | None = None
    tier: Tier = Tier.PROVED


@dataclass(frozen=True, slots=True)
class OwnAddresses:
    """Who we are, so that we never answer ourselves.

    `keys`: our mailboxes as lower-case `local@domain`. `domains`: mail domains in which nobody but us sends; one that a
    society shares with its members is none of them. `id_domains`: further domains after the '@' of our Message-IDs.
    """

    keys: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    id_domains: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, addresses: Iterable[Address], domains: Iterable[str] = (), id_domains: Iterable[str] = ()
    ) -> "OwnAddresses":
        return cls(frozenset(address.text.lower() for address in addresses), frozenset(domains), frozenset(id_domains))

    def __contains__(self, address: Address) -> bool:
        return address.domain in self.domains or address.text.lower() in self.keys

    def names(self, message_id: str) -> bool:
        """True for a message id of ours."""
        domain = message_id[1:-1].rpartition("@")[2].lower()
        return domain in self.domains or domain in self.id_domains


_FROM_REASONS: dict[FromProblem, Reason] = {
    FromProblem.MISSING: Reason.NO_FROM,
    FromProblem.SEVERAL_FIELDS: Reason.SEVERAL_FROM,
    FromProblem.SEVERAL_MAILBOXES: Reason.SEVERAL_FROM,
    FromProblem.GROUP: Reason.UNREADABLE_FROM,
    FromProblem.UNPARSABLE: Reason.UNREADABLE_FROM,
}
HEARD = frozenset(
    {Reason.ACCEPTED, Reason.SENDER_MISMATCH, Reason.AUTHENTICATION_FAILED, *_FROM_REASONS.values()}
)
"""What a help desk reads: a person may have written it, even where no answer would be sure to reach that person."""

_LIST_SIGNS = frozenset({"list-*", "precedence: list", "precedence: bulk", "precedence: junk"})


def silence(envelope: Envelope, inbound: Inbound, purpose: Purpose, own: OwnAddresses) -> Reason | None:
    """Why this message gets no answer whoever wrote it, or None: then it depends on who did."""
    if purpose not in (Purpose.REGISTRATION, Purpose.HELP):
        return Reason.NOT_FOR_ANSWER
    sender, author = envelope.reverse_path, inbound.from_address
    if sender is None:  # RFC 3834 section 2
        return Reason.NULL_SENDER
    if inbound.broken:
        return Reason.BROKEN_HEADERS
    if inbound.received_count > MAX_RECEIVED:
        return Reason.TOO_MANY_RECEIVED
    # Distinct ids: a person who presses 'reply' once names our one mail in In-Reply-To and again in References.
    if (
        inbound.robot
        or inbound.references_count > MAX_REFERENCES
        or (inbound.references and sum(map(own.names, inbound.references)) > MAX_OWN_REFERENCES)
    ):
        return Reason.LOOP
    if inbound.automatic:
        return Reason.LIST_MAIL if inbound.automatic in _LIST_SIGNS else Reason.AUTOMATIC_REPLY
    if author is None:
        return _FROM_REASONS[inbound.from_problem or FromProblem.MISSING]
    if sender in own or author in own:
        return Reason.OWN_ADDRESS
    if never_answer(author) or (never_answer(sender) and not rewritten(sender)):
        return Reason.NEVER_ANSWER_ADDRESS
    return None


def _proof(envelope: Envelope, inbound: Inbound, known: Authentication | None) -> tuple[Reason, Tier]:
    """Whether the From address may be answered: the only place that decides it."""
    sender, author = envelope.reverse_path, inbound.from_address
    same = sender is not None and author is not None and sender.key == author.key
    if known is None:
        return Reason.ACCEPTED if same else Reason.SENDER_MISMATCH, Tier.PROVED
    if known.dmarc is Result.PASS or (known.dmarc is not Result.FAIL and known.dkim is Result.PASS):
        signed_only = known.dkim is Result.PASS and not known.path
        return Reason.ACCEPTED, Tier.UNPROVED if signed_only and not _for_us(envelope, inbound) else Tier.PROVED
    if known.undecided:
        return Reason.LOOKUP_FAILED, Tier.UNPROVED
    # A domain's p=none asks others to deliver its failures; nobody asks for an automatic answer to them.
    if known.dmarc is Result.FAIL or known.spf in (Result.FAIL, Result.SOFTFAIL):
        return Reason.AUTHENTICATION_FAILED, Tier.UNPROVED
    if not same:
        return Reason.SENDER_MISMATCH, Tier.UNPROVED
    return Reason.ACCEPTED, Tier.PROVED if known.spf is Result.PASS else Tier.UNPROVED


def _for_us(envelope: Envelope, inbound: Inbound) -> bool:
    """Whether the mail was written to us, and lately: who has a signed mail of somebody can send it to anybody."""
    sent_at = inbound.sent_at
    fresh = sent_at is not None and abs((envelope.arrived_at or envelope.received_at) - sent_at) <= FRESH_MS
    return fresh and any(map(inbound.names, envelope.recipients))


_REFUSED = {Reason.AUTHENTICATION_FAILED: status.REFUSED_SENDER, Reason.LOOKUP_FAILED: status.LOOKUP_FAILED}


def judge(
    envelope: Envelope, inbound: Inbound, purpose: Purpose, own: OwnAddresses, known: Authentication | None
) -> Verdict:
    """The verdict on one message for the address of ours with `purpose`; at most one address is ever answered.

    The answer goes to From, never to Reply-To, Sender or anything in the text (RFC 3834 section 4), and only where
    `known` vouches for it or nothing speaks against it; None where senders are not checked: then MAIL FROM must name
    the same mailbox. There is no limit of one answer a week: that is for personal responders, and a member who asks
    again must be heard again.
    """
    reason = silence(envelope, inbound, purpose, own)
    if reason is not None:
        return Verdict(Action.DISCARD, status.OK, reason)
    reason, tier = _proof(envelope, inbound, known)
    if reason is Reason.ACCEPTED:
        return Verdict(Action.ANSWER, status.OK, reason, inbound.from_address, tier)
    if reason is Reason.LOOKUP_FAILED or (reason in _REFUSED and envelope.direct and purpose is Purpose.REGISTRATION):
        return Verdict(Action.REFUSE, _REFUSED[reason], reason, tier=tier)
    return Verdict(Action.DISCARD, status.OK, reason, tier=tier)
