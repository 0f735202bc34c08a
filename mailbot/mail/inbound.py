"""What a received message says about itself, read from its header block alone; the body is never looked at.

Pure and linear on hostile input: a malformed header is a fact, not an error. Limits: 64 KiB of headers, 200 fields,
8 KiB a field; beyond them the message is `broken` and no further fact is given. Only a Subject may be longer: nothing
depends on it, so it is cut. Standards: RFC 5322 section 3.6, RFC 3834, RFC 5230.
"""

import hashlib
import re
from collections.abc import Set
from dataclasses import dataclass

from mailbot.mail.address import LEGACY_DOMAINS, Address
from mailbot.mail.envelope import Purpose
from mailbot.mail.fields import FromProblem, escaped, first_token, header_block, readable, single_mailbox, split, unfold

MAX_BLOCK = 64 * 1024  # octets
MAX_FIELDS = 200
MAX_FIELD = 8 * 1024  # octets

ROBOT_HEADER = b"X-Robot-Id"  # on every mail a robot of this kind sends: two of them never talk to each other


@dataclass(frozen=True, slots=True)
class Inbound:
    """The facts. `automatic` names the sign of a program's mail; `references` are the distinct ids it answers."""

    from_address: Address | None = None
    from_problem: FromProblem | None = FromProblem.MISSING
    message_id: str | None = None  # with its brackets; None unless there is exactly one and it is well formed
    date: str = ""  # as written, escaped
    raw_subject: bytes = b""
    automatic: str | None = None
    received_count: int = 0
    references_count: int = 0
    references: frozenset[str] = frozenset()
    robot: bool = False  # carries the header of a robot of this kind
    broken: str | None = None
    block: bytes = b""

    @property
    def subject(self) -> str:
        """For staff: decoded as well as can be, escaped, at most 200 characters."""
        return readable(self.raw_subject)

    @property
    def header_hash(self) -> bytes:
        """SHA-256 of the header block as received."""
        return hashlib.sha256(self.block).digest()


# RFC 5322 section 3.6.4 msg-id, loosely: printable, no brackets inside, something on both sides of an at-sign.
_MESSAGE_ID = re.compile(rb"<[!-;=?A-~]+@[!-;=?-~]+>").fullmatch
_MESSAGE_IDS = re.compile(rb"<[!-;=?-~]+>").findall

_AUTOMATIC_CONTENT = frozenset({"multipart/report", "message/delivery-status", "message/disposition-notification"})
_AUTOMATIC_PRECEDENCE = frozenset({"bulk", "list", "junk", "auto_reply"})
_SUPPRESS = frozenset({"all", "autoreply", "oof"})
_AUTOMATIC_HEADERS = (b"x-autoreply", b"x-autorespond", b"x-loop")

_Fields = dict[bytes, list[bytes]]


def _sign_of_a_program(fields: _Fields) -> str | None:
    """The first sign that no person wrote this (RFC 3834 section 2, RFC 5230 section 4.6)."""
    for value in fields.get(b"auto-submitted", ()):
        if first_token(value) != "no":  # RFC 3834 section 5
            return "auto-submitted"
    for name in fields:
        if name.startswith(b"list-"):
            return "list-*"
    for value in fields.get(b"precedence", ()):
        if (token := first_token(value)) in _AUTOMATIC_PRECEDENCE:
            return f"precedence: {token}"
    for value in fields.get(b"x-auto-response-suppress", ()):
        if not _SUPPRESS.isdisjoint(token.strip() for token in first_token(value).split(",")):
            return "x-auto-response-suppress"
    for name in _AUTOMATIC_HEADERS:
        if name in fields:
            return name.decode("ascii")
    for value in fields.get(b"content-type", ()):
        if (token := first_token(value)) in _AUTOMATIC_CONTENT:
            return token
    return None


def facts(content: bytes, legacy_domains: Set[str] = LEGACY_DOMAINS) -> Inbound:
    """The facts of a message of which `content` is the header block and perhaps some of the body. Never raises."""
    block = header_block(content)
    if len(block) >= MAX_BLOCK:  # 'at least': an intake may have cut it there
        return Inbound(broken="header-block-too-long", block=block)
    pairs = split(block)
    if len(pairs) > MAX_FIELDS:
        return Inbound(broken="too-many-fields", block=block)
    if len(block) > MAX_FIELD and any(len(value) > MAX_FIELD and name.lower() != b"subject" for name, value in pairs):
        return Inbound(broken="field-too-long", block=block)

    fields: _Fields = {}
    for name, value in pairs:
        name = name.lower()
        if name in fields:
            fields[name].append(value)
        else:
            fields[name] = [value]

    address: Address | None = None
    problem: FromProblem | None = None
    match fields.get(b"from", ()):
        case [value]:
            found = single_mailbox(value, legacy_domains)
            if isinstance(found, Address):
                address = found
            else:
                problem = found
        case []:
            problem = FromProblem.MISSING
        case _:
            problem = FromProblem.SEVERAL_FIELDS

    message_id = None
    match fields.get(b"message-id", ()):
        case [value] if len(value) <= 998 and _MESSAGE_ID(value := unfold(value)):
            message_id = value.decode("ascii")
        case _:
            pass

    answered = _MESSAGE_IDS(b" ".join(fields.get(b"references", ()))) if b"references" in fields else []
    ids = [*answered, *_MESSAGE_IDS(b" ".join(fields[b"in-reply-to"]))] if b"in-reply-to" in fields else answered

    return Inbound(
        address,
        problem,
        message_id,
        escaped(unfold(fields[b"date"][0]).decode("latin-1"), 100) if b"date" in fields else "",
        fields[b"subject"][0][:MAX_FIELD] if b"subject" in fields else b"",
        _sign_of_a_program(fields),
        len(fields.get(b"received", ())),
        len(answered),
        frozenset(token.decode("ascii") for token in ids) if ids else frozenset(),
        ROBOT_HEADER.lower() in fields,
        None,
        block,
    )


def inbox_key(society: str, purpose: Purpose, reverse_path: Address | None, inbound: Inbound) -> bytes:
    """The SHA-256 that two deliveries of one message share: society, purpose, MAIL FROM, Message-ID and Date.

    Without a usable Message-ID the header block as received stands for it: who sends again sends the same bytes.
    """
    identity = (
        (inbound.message_id.encode("ascii"), inbound.date.encode("utf-8"))
        if inbound.message_id
        else (b"", inbound.header_hash)
    )
    digest = hashlib.sha256()
    sender = reverse_path.key if reverse_path else ""
    for part in (society.encode("utf-8"), purpose.value.encode("ascii"), sender.encode("ascii"), *identity):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()
