"""Hands one message to the next mail server and says, as a value, how that ended.

SMTP over kept connections: a new one costs more than a mail. Every answer, and every silence, is told by the stage it
came at; what it means is in `mailbot.mail.status`. Standards: RFC 5321, RFC 1047.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

from aiosmtplib import SMTP, SMTPConnectResponseError, SMTPException, SMTPHeloError, SMTPServerDisconnected
from aiosmtplib.response import SMTPResponse

from mailbot.config.site import RelaySection, split_endpoint
from mailbot.delivery.line import Line, RefusedError
from mailbot.mail.address import LEGACY_DOMAINS, Address
from mailbot.mail.status import Effect, Outcome, OutcomeKind, Stage, Status, relay_status
from mailbot.mail.verdict import classify, lost

IDLE_SECONDS = 30.0
"""A connection left alone for longer is not trusted any more: a firewall may have forgotten it without a word."""
MAILS_A_CONNECTION = 1000


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
class SmtpRelay:
    """A mail server reached by plain SMTP. Lifetime: one process, one event loop."""

    host: str
    port: int
    connections: int
    timeout: float
    helo: str
    legacy_domains: Set[str] = LEGACY_DOMAINS
    now: Callable[[], int] = _host_time
    _idle: list[Line] = field(default_factory=list)
    _slots: asyncio.Semaphore = field(init=False)
    _unquoted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.connections)

    async def send(
        self, sender: str, recipient: Address, message: bytes, *, seconds: float, deadline_ms: int | None = None
    ) -> Outcome:
        """See `Relay.send`. A connection that turns out to be dead before anything was sent on it is replaced once."""
        lines = message.count(b"\r\n")
        if not message.endswith(b"\r\n") or message.count(b"\r") != lines or message.count(b"\n") != lines:
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
        except RefusedError as refused:
            return self._answered(refused.response, attempt.stage)
        except _TooLateError:
            status = Status(451, "4.4.7", "(deadline passed before the content was sent)")
            return Outcome(OutcomeKind.DEFERRED, status, self._name, stage=attempt.stage)
        except TimeoutError:
            return self._lost(attempt.stage, "no answer in time")
        except (SMTPException, OSError) as error:
            return self._lost(attempt.stage, str(error) or type(error).__name__)

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for line in idle:
            line.close()

    async def _kept(
        self, attempt: _Attempt, sender: str, recipient: Address, message: bytes, deadline_ms: int | None
    ) -> Outcome | None:
        """The outcome on a kept connection; None where there is none, or the one there was had been dropped."""
        line = self._take()
        if line is None:
            return None
        try:
            return await self._on(line, attempt, sender, recipient, message, deadline_ms)
        except RefusedError as refused:
            if attempt.stage is Stage.MAIL and refused.response.code == 421:
                return None  # RFC 5321 section 3.8: the relay closed it, most often for idleness
            raise
        except (SMTPException, ConnectionError):
            if attempt.stage is Stage.MAIL:
                return None
            raise

    def _take(self) -> Line | None:
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while self._idle and (self._idle[0].since < oldest or not self._idle[0].connected):
            self._idle.pop(0).close()
        while self._idle:
            line = self._idle.pop()
            if line.connected and line.since >= oldest:
                return line
            line.close()
        return None

    async def _connect(self, attempt: _Attempt) -> Line:
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
            raise RefusedError(SMTPResponse(error.code, error.message)) from error
        except BaseException:
            smtp.close()
            raise
        return Line(smtp)

    async def _on(
        self,
        line: Line,
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
            spellings = self._spellings(recipient)
            mail = b"MAIL FROM:<%b>\r\n" % sender.encode("ascii")
            if line.pipelining and len(spellings) == 1:
                if self._too_late(deadline_ms):
                    raise _TooLateError
                await self._together(line, attempt, mail, spellings[0])
            else:
                await line.command(mail)
                line.unfinished = True
                attempt.at(Stage.RCPT)
                await self._recipient(line, recipient, spellings)
                attempt.at(Stage.DATA)
                if self._too_late(deadline_ms):
                    raise _TooLateError
                await line.command(b"DATA\r\n", wanted=3)
            attempt.at(Stage.DOT)
            line.write(_stuffed(message))
            response = await line.reply()
            line.unfinished = False
            line.expect(response, 2)
        except (RefusedError, _TooLateError):
            self._keep(line)
            raise
        except BaseException:
            line.close()
            raise
        self._keep(line)
        return self._answered(response, Stage.DOT)

    def _too_late(self, deadline_ms: int | None) -> bool:
        return deadline_ms is not None and self.now() >= deadline_ms

    async def _together(self, line: Line, attempt: _Attempt, mail: bytes, spelling: str) -> None:
        """MAIL, RCPT and DATA as one write (RFC 2920 section 3.1). Raises RefusedError for the first refusal."""
        line.write(mail, b"RCPT TO:<%b>\r\n" % spelling.encode("ascii"), b"DATA\r\n")
        line.unfinished = True
        first: tuple[Stage, RefusedError] | None = None
        for stage, wanted in ((Stage.MAIL, 2), (Stage.RCPT, 2), (Stage.DATA, 3)):
            if first is None:
                attempt.at(stage)
            try:
                response = await line.reply()
                line.expect(response, wanted)
            except RefusedError as refused:
                if first is None:
                    first = stage, refused
                if refused.response.code == 421:
                    break
            except SMTPServerDisconnected:
                if first is None:
                    raise
                break
            else:
                if first is not None and stage is Stage.DATA:
                    line.close()  # it waits for a message that nobody may get
        if first is not None:
            raise first[1]

    def _spellings(self, recipient: Address) -> list[str]:
        spellings = [recipient.rfc_wire]
        if (bare := recipient.wire_for(self.legacy_domains)) != recipient.rfc_wire:
            spellings.append(bare)
            if recipient.domain in self._unquoted:
                spellings.reverse()
        return spellings

    async def _recipient(self, line: Line, recipient: Address, spellings: Sequence[str]) -> None:
        """RCPT. An old carrier address with irregular dots is spelt as RFC 5321 section 4.1.2 wants it, in quotes, and
        where that is refused as syntax, as the carrier gave it out. What worked is remembered for its domain.
        """
        for number, spelling in enumerate(spellings, 1):
            try:
                await line.command(b"RCPT TO:<%b>\r\n" % spelling.encode("ascii"))
            except RefusedError as refused:
                status = relay_status(*refused.response)
                effect = classify(status.code, status.enhanced, Stage.RCPT, status.text).effect
                if effect is not Effect.SYNTAX or number == len(spellings):
                    raise
                continue
            if number == 2:
                self._unquoted ^= {recipient.domain}
            return

    def _keep(self, line: Line) -> None:
        line.used += 1
        line.since = asyncio.get_running_loop().time()
        if line.used < MAILS_A_CONNECTION and line.connected:
            self._idle.append(line)
        else:
            line.close()

    def _answered(self, response: SMTPResponse, stage: Stage) -> Outcome:
        status = relay_status(*response)
        if not 200 <= status.code < 600:
            return self._lost(stage, "an answer that is no SMTP reply")
        verdict = classify(status.code, status.enhanced, stage, status.text)
        return Outcome(verdict.kind, status, self._name, verdict.effect, verdict.cause, stage)

    def _lost(self, stage: Stage, why: str) -> Outcome:
        status = Status(451, "4.4.2", f"(connection lost at {stage}: {why})"[:200])  # RFC 3463 section 3.5
        verdict = lost(stage)
        return Outcome(verdict.kind, status, self._name, verdict.effect, verdict.cause, stage)

    @property
    def _name(self) -> str:
        return f"{self.host}:{self.port}"


def _stuffed(message: bytes) -> bytes:
    """The message with its dots doubled and its end marked (RFC 5321 section 4.5.2)."""
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    return b"%b%b.\r\n" % (b"." if stuffed.startswith(b".") else b"", stuffed)


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
