"""Hands one message to the next mail server and says, as a value, how that ended.

SMTP over kept connections: a new one costs more than a mail. Every answer, and every silence, is told by the stage it
came at; what it means is in `mailbot.mail.verdict`, how a connection is opened in `mailbot.delivery.server`.
Standards: RFC 5321, RFC 1047, RFC 2852, RFC 3461.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

from aiosmtplib import SMTPException, SMTPServerDisconnected
from aiosmtplib.response import SMTPResponse

from mailbot.delivery.line import Line, RefusedError
from mailbot.delivery.server import Server, UnusableError
from mailbot.mail.address import LEGACY_DOMAINS, Address
from mailbot.mail.status import Outcome, OutcomeKind, Stage, Status, relay_status
from mailbot.mail.verdict import classify, lost, misspelt
from mailbot.telemetry import RELAYED

IDLE_SECONDS = 30.0
"""A connection left alone for longer is not trusted any more: a firewall may have forgotten it without a word."""
MAILS_A_CONNECTION = 1000


def host_time() -> int:
    return time.time_ns() // 1_000_000


class Relay(Protocol):
    """Where mail goes out."""

    async def send(
        self,
        sender: str,
        recipient: Address,
        message: bytes,
        *,
        seconds: float,
        deadline_ms: int | None = None,
        envelope_id: str = "",
    ) -> Outcome:
        """Delivers `message` (final bytes, CRLF) within `seconds`; its content is not begun after `deadline_ms`.

        `envelope_id` (letters and digits) comes back in reports about this mail (RFC 3461 section 4.4). Only what can
        never be sent raises (ValueError); outages are outcomes.
        """

    async def close(self) -> None:
        """Ends all connections."""


class _TooLateError(Exception):
    """The mail's deadline passed before its content was begun."""


@dataclass(slots=True)
class _Mail:
    """One mail as it goes out."""

    sender: bytes
    recipient: Address
    message: bytes
    deadline_ms: int | None
    envelope_id: bytes


@dataclass(slots=True)
class _Attempt:
    """One attempt: its clock, and how far it came."""

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
    """One mail server. Lifetime: one process, one event loop."""

    server: Server
    connections: int
    timeout: float
    legacy_domains: Set[str] = LEGACY_DOMAINS
    now: Callable[[], int] = host_time
    _idle: list[Line] = field(default_factory=list)
    _slots: asyncio.Semaphore = field(init=False)
    _unquoted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.connections)
        self.name = self.server.url.name
        self._counted = {kind: RELAYED.labels(self.name, kind.value) for kind in OutcomeKind}

    async def send(
        self,
        sender: str,
        recipient: Address,
        message: bytes,
        *,
        seconds: float,
        deadline_ms: int | None = None,
        envelope_id: str = "",
    ) -> Outcome:
        """See `Relay.send`. A connection that turns out to be dead before anything was sent on it is replaced once."""
        lines = message.count(b"\r\n")
        if not message.endswith(b"\r\n") or message.count(b"\r") != lines or message.count(b"\n") != lines:
            raise ValueError("a message has CRLF line ends only, and ends with one")  # RFC 5321 section 2.3.8
        mail = _Mail(sender.encode("ascii"), recipient, message, deadline_ms, envelope_id.encode("ascii"))
        end = asyncio.get_running_loop().time() + seconds
        timer = asyncio.timeout_at(end)
        outcome = await self._attempt(_Attempt(timer, end, self.timeout), mail)
        self._counted[outcome.kind].inc()
        return outcome

    async def _attempt(self, attempt: _Attempt, mail: _Mail) -> Outcome:
        try:
            async with attempt.timer, self._slots:
                outcome = await self._kept(attempt, mail)
                if outcome is None:
                    line = await self.server.open(attempt.at)
                    outcome = await self._on(line, attempt, mail)
                return outcome
        except RefusedError as refused:
            return self._answered(refused.response, attempt.stage)
        except UnusableError as error:
            return self._lost(attempt.stage, str(error))
        except _TooLateError:
            status = Status(451, "4.4.7", "(deadline passed before the content was sent)")
            return Outcome(OutcomeKind.DEFERRED, status, self.name, stage=attempt.stage)
        except TimeoutError:
            return self._lost(attempt.stage, "no answer in time")
        except (SMTPException, OSError) as error:
            return self._lost(attempt.stage, str(error) or type(error).__name__)

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for line in idle:
            line.leave()

    async def _kept(self, attempt: _Attempt, mail: _Mail) -> Outcome | None:
        """The outcome on a kept connection; None where there is none, or the one there was had been dropped."""
        line = self._take()
        if line is None:
            return None
        try:
            return await self._on(line, attempt, mail)
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
            self._idle.pop(0).leave()
        while self._idle:
            line = self._idle.pop()
            if line.connected and line.since >= oldest:
                return line
            line.leave()
        return None

    async def _on(self, line: Line, attempt: _Attempt, mail: _Mail) -> Outcome:
        """One mail transaction on this connection, which is kept afterwards only in a known state."""
        try:
            attempt.at(Stage.MAIL)
            if line.unfinished:
                await line.reset()
            spellings = self._spellings(mail.recipient)
            begin = b"MAIL FROM:<%b>%b\r\n" % (mail.sender, self._wishes(line, mail))
            if line.pipelining and len(spellings) == 1:
                if self._too_late(mail):
                    raise _TooLateError
                await self._together(line, attempt, begin, spellings[0])
                if self._too_late(mail):
                    line.close()  # after 354 only the message may follow, and even an empty one would be delivered
                    raise _TooLateError
            else:
                await line.command(begin)
                line.unfinished = True
                attempt.at(Stage.RCPT)
                await self._recipient(line, mail.recipient, spellings)
                attempt.at(Stage.DATA)
                if self._too_late(mail):
                    raise _TooLateError
                await line.command(b"DATA\r\n", wanted=3)
            attempt.at(Stage.DOT)
            line.write(_stuffed(mail.message))
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

    def _too_late(self, mail: _Mail) -> bool:
        return mail.deadline_ms is not None and self.now() >= mail.deadline_ms

    def _wishes(self, line: Line, mail: _Mail) -> bytes:
        """What is asked of a relay that offers it: short reports that name the mail (RFC 3461), and none but in time:
        R returns a mail that cannot be delivered until then (RFC 2852 section 4)."""
        wishes = b""
        if line.dsn:
            wishes = b" RET=HDRS ENVID=%b" % mail.envelope_id if mail.envelope_id else b" RET=HDRS"
        if line.deliver_by is not None and mail.deadline_ms is not None:
            left = min((mail.deadline_ms - self.now()) // 1000, 999_999_999)
            wishes += b" BY=%d;R" % max(left, line.deliver_by, 1)
        return wishes

    async def _together(self, line: Line, attempt: _Attempt, begin: bytes, spelling: str) -> None:
        """MAIL, RCPT and DATA as one write (RFC 2920 section 3.1). Raises RefusedError for the first refusal."""
        line.write(begin, _rcpt(line, spelling), b"DATA\r\n")
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
                await line.command(_rcpt(line, spelling))
            except RefusedError as refused:
                status = relay_status(*refused.response)
                if number == len(spellings) or not misspelt(status.code, status.enhanced):
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
            line.leave()

    def _answered(self, response: SMTPResponse, stage: Stage) -> Outcome:
        status = relay_status(*response)
        if not 200 <= status.code < 600:
            return self._lost(stage, "an answer that is no SMTP reply")
        verdict = classify(status.code, status.enhanced, stage, status.text)
        return Outcome(verdict.kind, status, self.name, verdict.effect, verdict.cause, stage)

    def _lost(self, stage: Stage, why: str) -> Outcome:
        status = Status(451, "4.4.2", f"(connection lost at {stage}: {why})"[:200])  # RFC 3463 section 3.5
        verdict = lost(stage)
        return Outcome(verdict.kind, status, self.name, verdict.effect, verdict.cause, stage)


def _rcpt(line: Line, spelling: str) -> bytes:
    notify = b" NOTIFY=FAILURE" if line.dsn else b""
    return b"RCPT TO:<%b>%b\r\n" % (spelling.encode("ascii"), notify)


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

    def __init__(self, now: Callable[[], int] = host_time, keep: int = 10_000) -> None:
        self.messages: list[Captured] = []
        self.arrived = asyncio.Condition()
        self._now = now
        self._keep = keep

    async def send(
        self,
        sender: str,
        recipient: Address,
        message: bytes,
        *,
        seconds: float,
        deadline_ms: int | None = None,
        envelope_id: str = "",
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
