"""Hands one message to the next mail server and says, as a value, how that ended.

SMTP over kept connections: a new one costs more than a mail. Every answer, and every silence, is told by the stage it
came at; what it means is in `mailbot.mail.status`. Standards: RFC 5321, RFC 1047.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Protocol

from aiosmtplib import SMTP, SMTPConnectResponseError, SMTPException, SMTPHeloError, SMTPServerDisconnected
from aiosmtplib.response import SMTPResponse

from mailbot.config.site import RelaySection, split_endpoint
from mailbot.mail.address import LEGACY_DOMAINS, Address
from mailbot.mail.status import Effect, Outcome, OutcomeKind, Stage, Status, classify, lost, relay_status

IDLE_SECONDS = 30.0
"""A connection left alone for longer is not trusted any more: a firewall may have forgotten it without a word."""
MAILS_A_CONNECTION = 1000

_BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_EARLY = frozenset({Stage.CONNECT, Stage.EHLO})


def _host_time() -> int:
    return time.time_ns() // 1_000_000


class Relay(Protocol):
    """Where mail goes out."""

    async def send(
        self, sender: str, recipient: Address, message: bytes, *, seconds: float, deadline_ms: int | None = None
    ) -> Outcome:
        """Delivers `message` (final bytes, CRLF) within `seconds`; its content is not begun after `deadline_ms`.

        Only what can never be sent raises (ValueError); outages are outcomes.
        """

    async def close(self) -> None:
        """Ends all connections."""


class _RefusedError(Exception):
    """A reply other than the one wanted."""

    def __init__(self, response: SMTPResponse) -> None:
        super().__init__(response.code)
        self.response = response


class _TooLateError(Exception):
    """The mail's deadline passed before its content was begun."""


@dataclass
class _Attempt:
    """One attempt: its clock, how far it came, and on which connection."""

    timer: asyncio.Timeout
    end: float
    patience: float
    stage: Stage = Stage.CONNECT

    def at(self, stage: Stage) -> None:
        """The next answer has `patience` seconds, the answer to the whole message all that is left."""
        self.stage = stage
        now = asyncio.get_running_loop().time()
        self.timer.reschedule(self.end if stage is Stage.DOT else min(self.end, now + self.patience))


@dataclass
class _Line:
    """One kept connection. `unfinished`: the last transaction on it was refused half way."""

    smtp: SMTP
    used: int = 0
    since: float = 0.0
    unfinished: bool = False

    async def command(self, *words: bytes, wanted: int = 2) -> SMTPResponse:
        response = await self.smtp.execute_command(*words, timeout=None)
        if response.code // 100 != wanted:
            raise _RefusedError(response)
        return response

    async def reset(self) -> None:
        """Ends what is left of a transaction; a relay that refuses even that is not to be talked to."""
        try:
            await self.command(b"RSET")
        except _RefusedError as refused:
            raise SMTPServerDisconnected("RSET refused") from refused
        self.unfinished = False


@dataclass
class SmtpRelay:
    """A mail server reached by plain SMTP. Lifetime: one process, one event loop."""

    host: str
    port: int
    connections: int
    timeout: float
    helo: str
    legacy_domains: Set[str] = LEGACY_DOMAINS
    now: Callable[[], int] = _host_time
    _idle: list[_Line] = field(default_factory=list)
    _slots: asyncio.Semaphore = field(init=False)
    _unquoted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.connections)

    async def send(
        self, sender: str, recipient: Address, message: bytes, *, seconds: float, deadline_ms: int | None = None
    ) -> Outcome:
        """See `Relay.send`. A connection that turns out to be dead before anything was sent on it is replaced once."""
        if _BARE_LINE_END.search(message) or not message.endswith(b"\r\n"):
            raise ValueError("a message has CRLF line ends only, and ends with one")  # RFC 5321 section 2.3.8
        end = asyncio.get_running_loop().time() + seconds
        timer = asyncio.timeout_at(end)
        attempt = _Attempt(timer, end, self.timeout)
        try:
            async with timer, self._slots:
                outcome = await self._kept(attempt, sender, recipient, message, deadline_ms)
                if outcome is None:
                    line = await self._connect(attempt)
                    outcome = await self._on(line, attempt, sender, recipient, message, deadline_ms)
                return outcome
        except _RefusedError as refused:
            return self._answered(refused.response, attempt.stage)
        except _TooLateError:
            return self._outcome(OutcomeKind.DEFERRED, "4.4.7", "deadline passed before the content was sent")
        except TimeoutError:
            return self._lost(attempt.stage, "no answer in time")
        except (SMTPException, OSError) as error:
            return self._lost(attempt.stage, str(error) or type(error).__name__)

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for line in idle:
            line.smtp.close()

    async def _kept(
        self, attempt: _Attempt, sender: str, recipient: Address, message: bytes, deadline_ms: int | None
    ) -> Outcome | None:
        """The outcome on a kept connection; None where there is none, or the one there was had been dropped."""
        line = self._take()
        if line is None:
            return None
        try:
            return await self._on(line, attempt, sender, recipient, message, deadline_ms)
        except _RefusedError as refused:
            if attempt.stage is Stage.MAIL and refused.response.code == 421:
                return None  # RFC 5321 section 3.8: the relay closed it, most often for idleness
            raise
        except (SMTPException, ConnectionError):
            if attempt.stage is Stage.MAIL:
                return None
            raise

    def _take(self) -> _Line | None:
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while self._idle and (self._idle[0].since < oldest or not self._idle[0].smtp.is_connected):
            self._idle.pop(0).smtp.close()
        while self._idle:
            line = self._idle.pop()
            if line.smtp.is_connected and line.since >= oldest:
                return line
            line.smtp.close()
        return None

    async def _connect(self, attempt: _Attempt) -> _Line:
        attempt.at(Stage.CONNECT)
        smtp = SMTP(
            hostname=self.host, port=self.port, local_hostname=self.helo, timeout=None, use_tls=False, start_tls=False
        )
        try:
            await smtp.connect()
            attempt.at(Stage.EHLO)
            try:
                await smtp.ehlo()
            except SMTPHeloError as error:
                if error.code // 100 != 5:
                    raise
                await smtp.helo()  # RFC 5321 section 3.2: a server without EHLO
        except (SMTPConnectResponseError, SMTPHeloError) as error:
            smtp.close()
            raise _RefusedError(SMTPResponse(error.code, error.message)) from error
        except BaseException:
            smtp.close()
            raise
        return _Line(smtp)

    async def _on(
        self,
        line: _Line,
        attempt: _Attempt,
        sender: str,
        recipient: Address,
        message: bytes,
        deadline_ms: int | None,
    ) -> Outcome:
        """One mail transaction on this connection, which is kept afterwards only in a known state."""
        try:
            attempt.at(Stage.MAIL)
            if line.unfinished:
                await line.reset()
            await line.command(b"MAIL", b"FROM:<%b>" % sender.encode("ascii"))
            attempt.at(Stage.RCPT)
            await self._recipient(line, recipient)
            attempt.at(Stage.DATA)
            if deadline_ms is not None and self.now() >= deadline_ms:
                raise _TooLateError
            await line.command(b"DATA", wanted=3)
            attempt.at(Stage.DOT)
            response = await _content(line.smtp, message)
        except (_RefusedError, _TooLateError):
            line.unfinished = attempt.stage is not Stage.DOT
            self._keep(line)
            raise
        except BaseException:
            line.smtp.close()
            raise
        self._keep(line)
        return self._answered(response, Stage.DOT)

    async def _recipient(self, line: _Line, recipient: Address) -> None:
        """RCPT. An old carrier address with irregular dots is spelt as RFC 5321 section 4.1.2 wants it, in quotes, and
        where that is refused as syntax, as the carrier gave it out. What worked is remembered for its domain.
        """
        spellings = [recipient.rfc_wire]
        if (bare := recipient.wire_for(self.legacy_domains)) != recipient.rfc_wire:
            spellings.append(bare)
            if recipient.domain in self._unquoted:
                spellings.reverse()
        for number, spelling in enumerate(spellings, 1):
            try:
                await line.command(b"RCPT", b"TO:<%b>" % spelling.encode("ascii"))
            except _RefusedError as refused:
                status = relay_status(*refused.response)
                effect = classify(status.code, status.enhanced, Stage.RCPT).effect
                if effect is not Effect.SYNTAX or number == len(spellings):
                    raise
                continue
            if number == 2:
                self._unquoted ^= {recipient.domain}
            return

    def _keep(self, line: _Line) -> None:
        line.used += 1
        line.since = asyncio.get_running_loop().time()
        if line.used < MAILS_A_CONNECTION and line.smtp.is_connected:
            self._idle.append(line)
        else:
            line.smtp.close()

    def _answered(self, response: SMTPResponse, stage: Stage) -> Outcome:
        status = relay_status(*response)
        if not 200 <= status.code < 600:
            return self._lost(stage, "an answer that is no SMTP reply")
        meaning = classify(status.code, status.enhanced, stage)
        effect = Effect.OUR_FAULT if stage in _EARLY else meaning.effect  # it says so to every mail
        return Outcome(meaning.kind, status, self._name, effect)

    def _lost(self, stage: Stage, why: str) -> Outcome:
        effect = Effect.OUR_FAULT if stage in _EARLY else Effect.NONE
        return self._outcome(lost(stage).kind, "4.4.2", f"connection lost at {stage}: {why}", effect)

    def _outcome(self, kind: OutcomeKind, enhanced: str, text: str, effect: Effect = Effect.NONE) -> Outcome:
        """An outcome in our own words, where the relay said nothing. RFC 3463 section 3.5."""
        return Outcome(kind, Status(451, enhanced, f"({text[:180]})"), self._name, effect)

    @property
    def _name(self) -> str:
        return f"{self.host}:{self.port}"


async def _content(smtp: SMTP, message: bytes) -> SMTPResponse:
    """The message after a 354, dot-stuffed (RFC 5321 section 4.5.2), and the relay's word about it.

    aiosmtplib's own `data` sends the command and the content as one, which hides whether the final dot was sent.
    """
    protocol = smtp.protocol
    if protocol is None:
        raise ConnectionResetError("closed after 354")
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    protocol.write(stuffed + b".\r\n")
    response = await protocol.read_response(timeout=None)
    if response.code // 100 != 2:
        if response.code == 421:
            smtp.close()
        raise _RefusedError(response)
    return response


@dataclass(frozen=True, slots=True)
class Captured:
    """A mail kept in memory. `at`: milliseconds since the epoch."""

    sender: str
    recipient: Address
    message: bytes
    at: int


class CaptureRelay:
    """Takes every mail and sends none: for the demo and for tests. Keeps the newest `keep` mails."""

    def __init__(self, now: Callable[[], int] = _host_time, keep: int = 10_000) -> None:
        self.messages: list[Captured] = []
        self.arrived = asyncio.Condition()
        self._now = now
        self._keep = keep

    async def send(
        self, sender: str, recipient: Address, message: bytes, *, seconds: float, deadline_ms: int | None = None
    ) -> Outcome:
        async with self.arrived:
            self.messages.append(Captured(sender, recipient, message, self._now()))
            del self.messages[: -self._keep]
            self.arrived.notify_all()
        return Outcome(OutcomeKind.DELIVERED, Status(250, "2.0.0", "captured"), "capture")

    async def wait(self, count: int, seconds: float = 10.0) -> list[Captured]:
        """The mails once there are `count` of them. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self.arrived:
            await self.arrived.wait_for(lambda: len(self.messages) >= count)
            return list(self.messages)

    async def close(self) -> None:
        """Nothing to end."""


def open_relay(
    section: RelaySection,
    helo: str,
    *,
    legacy_domains: Set[str] = LEGACY_DOMAINS,
    now: Callable[[], int] = _host_time,
) -> Relay:
    """The relay that `[relay] url` names. Connects with the first mail."""
    if section.url == "capture:":
        return CaptureRelay(now)
    host, port = split_endpoint(section.url.removeprefix("smtp://"))
    return SmtpRelay(host, port, section.connections, section.timeout_seconds, helo, legacy_domains, now)
