"""An SMTP server that keeps what it gets, and can be told to refuse, stall or hang up at any stage."""

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Literal

Stage = Literal["connect", "ehlo", "mail", "rcpt", "data", "dot", "rset", "quit", "other"]
CLOSE = "close"  # hang up without a word
HANG = "hang"  # say nothing more until the peer gives up

_ORDINARY: dict[Stage, str] = {
    "connect": "220 sink.test ESMTP",
    "mail": "250 2.1.0 ok",
    "rcpt": "250 2.1.5 ok",
    "data": "354 go ahead",
    "dot": "250 2.0.0 taken",
    "rset": "250 2.0.0 ok",
    "quit": "221 2.0.0 bye",
    "other": "500 5.5.2 what?",
}


@dataclass(frozen=True)
class Taken:
    """One mail as it arrived: reverse-path ('' for <>), forward-paths, bytes with CRLF and without dot-stuffing."""

    mail_from: str
    rcpt_tos: tuple[str, ...]
    content: bytes
    session: int  # counts the connections from 1
    at: float  # time.monotonic() at the final dot

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.content, policy=policy.default)


@dataclass
class Sink:
    """`script[stage]` is a queue of answers to give instead of the ordinary ones, used up one a command.

    An answer is a reply line, CLOSE or HANG. A mail counts as taken only if its final dot was answered 2xx, or was left
    without an answer after the bytes had come (CLOSE and HANG at "dot"), as a real relay may have done.
    """

    port: int = 0
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
    mails: list[Taken] = field(default_factory=list)
    script: dict[Stage, deque[str]] = field(default_factory=dict)
    rule: Callable[[Stage, str], str | None] | None = None  # asked after the script: stage, argument -> answer or None
    delays: dict[Stage, float] = field(default_factory=dict)  # seconds before each answer of that stage
    sessions: int = 0
    open_sessions: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    server: asyncio.Server | None = None
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._idle.set()

    def answer(self, stage: Stage, *answers: str) -> None:
        """Queue answers for the next commands of this stage."""
        self.script.setdefault(stage, deque()).extend(answers)

    def to(self, address: str) -> list[Taken]:
        """Mails taken for this address, in order of arrival."""
        return [mail for mail in self.mails if address in mail.rcpt_tos]

    async def wait(self, count: int = 1, *, to: str | None = None, seconds: float = 20.0) -> list[Taken]:
        """Return once `count` mails (for `to`, if given) have come; TimeoutError names how many there were."""

        def enough() -> list[Taken] | None:
            found = self.mails if to is None else self.to(to)
            return list(found) if len(found) >= count else None

        async with self._news:
            try:
                found = await asyncio.wait_for(self._news.wait_for(enough), seconds)
            except TimeoutError:
                got = len(self.mails if to is None else self.to(to))
                raise TimeoutError(f"{got} of {count} mails within {seconds:g} s") from None
        return found or []

    def kill(self) -> None:
        """As a crash: every connection is cut, and nobody listens any more."""
        assert self.server is not None
        self.server.close()
        for task in list(self.tasks):
            task.cancel()

    async def idle(self) -> None:
        """Return once every connection is closed, and all that came through them is read."""
        await self._idle.wait()

    def _reply(self, stage: Stage, argument: str) -> str:
        if queued := self.script.get(stage):
            return queued.popleft()
        if self.rule and (ruled := self.rule(stage, argument)) is not None:
            return ruled
        if stage == "ehlo":
            lines = ["sink.test", *self.extensions] if argument.upper().startswith("EHLO") else ["sink.test"]
            return "\r\n".join(f"250{'-' if i + 1 < len(lines) else ' '}{line}" for i, line in enumerate(lines))
        return _ORDINARY[stage]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        self.sessions += 1
        self.open_sessions += 1
        self._idle.clear()
        try:
            await self._converse(reader, writer, self.sessions)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open_sessions -= 1
            if not self.open_sessions:
                self._idle.set()
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: int) -> None:
        async def say(stage: Stage, argument: str = "") -> str:
            if delay := self.delays.get(stage):
                await asyncio.sleep(delay)
            reply = self._reply(stage, argument)
            if reply == CLOSE:
                raise ConnectionAbortedError
            if reply == HANG:
                await reader.read()
                raise ConnectionAbortedError
            writer.write(reply.encode("utf-8", "surrogateescape") + b"\r\n")
            await writer.drain()
            return reply

        if not (await say("connect")).startswith("2"):
            return
        mail_from, rcpt_tos = "", list[str]()
        while line := (await reader.readline()).decode("utf-8", "surrogateescape").rstrip("\r\n"):
            verb = line[:4].upper()
            if verb in ("EHLO", "HELO"):
                await say("ehlo", line)
            elif verb == "MAIL":
                rcpt_tos = []
                if (await say("mail", line)).startswith("2"):
                    mail_from = _path(line)
            elif verb == "RCPT":
                if (await say("rcpt", line)).startswith("2"):
                    rcpt_tos.append(_path(line))
            elif verb == "DATA" and not rcpt_tos:  # what a pipelining client learns after a refused recipient
                writer.write(b"554 5.5.1 no valid recipients\r\n")
                await writer.drain()
            elif verb == "DATA":
                if not (await say("data")).startswith("3"):
                    continue
                content = await _content(reader)
                taken = Taken(mail_from, tuple(rcpt_tos), content, session, time.monotonic())
                try:
                    kept = (await say("dot", mail_from)).startswith("2")
                except ConnectionAbortedError:
                    await self._keep(taken)
                    raise
                if kept:
                    await self._keep(taken)
            elif verb == "RSET":
                mail_from, rcpt_tos = "", []
                await say("rset")
            elif verb == "NOOP":
                await say("rset")
            elif verb == "QUIT":
                await say("quit")
                return
            else:
                await say("other", line)

    async def _keep(self, mail: Taken) -> None:
        async with self._news:
            self.mails.append(mail)
            self._news.notify_all()


def _path(line: str) -> str:
    return line.partition("<")[2].rpartition(">")[0]


async def _content(reader: asyncio.StreamReader) -> bytes:
    lines = []
    while (line := await reader.readline()) != b".\r\n":
        if not line.endswith(b"\n"):
            raise asyncio.IncompleteReadError(line, None)
        lines.append(line[1:] if line.startswith(b".") else line)
    return b"".join(lines)


@asynccontextmanager
async def sink(port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Sink]:
    """Run a sink on 127.0.0.1 (any free port if 0) in the loop of the caller. `tls`: from the first byte on."""
    running = Sink()
    tasks = running.tasks

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(running.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", port, limit=2**20, ssl=tls)
    running.server = server
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
