"""What each command of SMTP (RFC 5321 section 4.1) and LMTP (RFC 2033) means and is answered, without I/O."""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass

from mailbot.config import Directory
from mailbot.config.site import SmtpSection
from mailbot.intake.smtp_data import BODY_LIMIT
from mailbot.intake.smtp_limits import Admission, Room
from mailbot.mail import status as reply
from mailbot.mail.address import Address, AddressError, is_bare_postmaster, parse_path, split_argument
from mailbot.mail.envelope import Envelope, Purpose
from mailbot.mail.status import Status

Answer = Status | bytes
"""One reply, or the lines of one already in wire form."""

_HELO_NAME = re.compile(rb"[!-~]{1,255}").fullmatch
_SIZE = re.compile(rb"[0-9]{1,20}").fullmatch


@dataclass(frozen=True, slots=True)
class House:
    """What all sessions of a listener share."""

    smtp: SmtpSection
    host: str
    directory: Directory
    receive: Callable[[Envelope], Awaitable[Status]]
    """Survives the caller's cancellation and does not raise."""
    clock: Callable[[], int]
    admission: Admission
    tls: ssl.SSLContext | None
    legacy_domains: frozenset[str]
    postmaster: Address | None
    """Who gets mail for `<Postmaster>` without a domain."""
    room: Room
    unchecked: Container[str] = ()
    """Peers whose senders nobody checks."""
    upstream: Container[str] = ()
    """Our own mail servers."""
    lmtp: bool = False
    """Whether LMTP is spoken; then every peer is a mail server of ours."""


def _size_parameter(value: bytes, limit: int) -> Status | None:
    if not _SIZE(value):
        return reply.BAD_ARGUMENT
    return reply.TOO_LARGE if int(value) > limit else None  # RFC 1870 section 6.1


def _body_parameter(value: bytes, _limit: int) -> Status | None:
    return None if value.upper() in (b"7BIT", b"8BITMIME") else reply.BAD_ARGUMENT  # RFC 6152 section 2


_MAIL_PARAMETERS = {b"SIZE": _size_parameter, b"BODY": _body_parameter}


class Dialogue:
    """The client's name and the mail it is about to send. Starts anew with TLS."""

    __slots__ = ("_house", "_mail_begun", "_tls_offered", "helo", "recipients", "reverse_path")

    def __init__(self, house: House, *, tls_offered: bool) -> None:
        self._house = house
        self._tls_offered = tls_offered
        self.helo = ""
        self.forget_mail()

    def forget_mail(self) -> None:
        self._mail_begun = False
        self.reverse_path: Address | None = None
        self.recipients: list[Address] = []

    def hello(self, argument: bytes) -> Answer:
        if not _HELO_NAME(argument):
            return reply.BAD_ARGUMENT
        self.helo = argument.decode("ascii")
        self.forget_mail()
        return f"250 {self._house.host}\r\n".encode()

    def extended_hello(self, argument: bytes) -> Answer:
        """VRFY is not announced, for it tells nothing; neither are AUTH (nobody relays here) and SMTPUTF8."""
        if self.hello(argument) is reply.BAD_ARGUMENT:
            return reply.BAD_ARGUMENT
        lines = [self._house.host, f"SIZE {self._house.smtp.max_message_bytes}", "8BITMIME", "PIPELINING"]
        if self._tls_offered:
            lines.append("STARTTLS")
        return "".join([*(f"250-{line}\r\n" for line in lines), "250 ENHANCEDSTATUSCODES\r\n"]).encode()

    def mail(self, argument: bytes) -> Answer:
        if not self.helo or self._mail_begun:
            return reply.BAD_SEQUENCE
        if argument[:5].upper() != b"FROM:":
            return reply.BAD_ARGUMENT
        path, parameters = split_argument(argument[5:])
        try:
            sender = parse_path(path, self._house.legacy_domains)
        except AddressError as error:
            return reply.bad_path(error.problem)
        for parameter in parameters.split():
            name, _, value = parameter.partition(b"=")
            check = _MAIL_PARAMETERS.get(name.upper())
            problem = check(value, self._house.smtp.max_message_bytes) if check else reply.UNKNOWN_PARAMETER
            if problem:
                return problem
        self._mail_begun, self.reverse_path = True, sender
        return reply.SENDER_OK

    def rcpt(self, argument: bytes) -> Answer:
        if not self._mail_begun:
            return reply.BAD_SEQUENCE
        if argument[:3].upper() != b"TO:":
            return reply.BAD_ARGUMENT
        path, parameters = split_argument(argument[3:])
        try:
            bare = is_bare_postmaster(path)
            recipient = self._house.postmaster if bare else parse_path(path, self._house.legacy_domains)
        except AddressError as error:
            return reply.bad_path(error.problem, recipient=True)
        if recipient is None:
            return reply.BAD_RECIPIENT
        if parameters:
            return reply.UNKNOWN_PARAMETER
        directory = self._house.directory
        if directory.route(recipient.local, recipient.domain) is None:
            return reply.NO_SUCH_USER if recipient.domain in directory.domains else reply.RELAY_DENIED
        if len(self.recipients) >= self._house.smtp.max_recipients:
            return reply.TOO_MANY_RECIPIENTS
        self.recipients.append(recipient)
        return reply.RECIPIENT_OK

    @property
    def body_limit(self) -> int:
        """How much of the body is kept: a person reads what comes in for a help desk, and a delivery report tells
        in its body what happened."""
        routes = (self._house.directory.route(one.local, one.domain) for one in self.recipients)
        return BODY_LIMIT if any(route and route.purpose in (Purpose.HELP, Purpose.BOUNCE) for route in routes) else 0

    def data(self, argument: bytes) -> Answer:
        """START_DATA if a message may come."""
        if argument:
            return reply.BAD_ARGUMENT
        if not self._mail_begun:
            return reply.BAD_SEQUENCE
        if not self.recipients:  # RFC 2033 section 4.2 wants 503
            return reply.BAD_SEQUENCE if self._house.lmtp else reply.NO_VALID_RECIPIENTS
        return reply.START_DATA

    @property
    def answers(self) -> int:
        """How many replies the end of DATA brings: with LMTP one for each recipient taken, named twice or not (RFC
        2033 section 4.2)."""
        return len(self.recipients) if self._house.lmtp else 1

    def starttls(self, argument: bytes) -> Answer:
        """READY_FOR_TLS if it may begin."""
        if self._house.tls is None:
            return reply.NOT_OFFERED
        if argument:
            return reply.BAD_ARGUMENT
        return reply.READY_FOR_TLS if self._tls_offered else reply.BAD_SEQUENCE

    def rset(self, argument: bytes) -> Answer:
        if argument:
            return reply.BAD_ARGUMENT
        self.forget_mail()
        return reply.OK


def _always(status: Status) -> Callable[[Dialogue, bytes], Answer]:
    return lambda _dialogue, _argument: status


COMMANDS: dict[bytes, Callable[[Dialogue, bytes], Answer]] = {
    b"HELO": Dialogue.hello,
    b"EHLO": Dialogue.extended_hello,
    b"MAIL": Dialogue.mail,
    b"RCPT": Dialogue.rcpt,
    b"DATA": Dialogue.data,
    b"RSET": Dialogue.rset,
    b"STARTTLS": Dialogue.starttls,
    b"NOOP": _always(reply.OK),
    b"QUIT": _always(reply.BYE),
    b"VRFY": _always(reply.CANNOT_VERIFY),  # RFC 5321 section 3.5.3
    b"HELP": _always(reply.HELP),
    b"EXPN": _always(reply.NOT_OFFERED),
    b"AUTH": _always(reply.NOT_OFFERED),
    b"ETRN": _always(reply.NOT_OFFERED),
    b"TURN": _always(reply.NOT_OFFERED),
}

LMTP_COMMANDS = {verb: command for verb, command in COMMANDS.items() if verb not in (b"HELO", b"EHLO")}
LMTP_COMMANDS[b"LHLO"] = Dialogue.extended_hello
"""RFC 2033 section 4.1: who says EHLO here, or LHLO to SMTP, was meant for another door and is told so."""
