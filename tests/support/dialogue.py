"""SMTP conversations as text files, held against a listener on a real socket.

A file holds conversations, each on a new connection, begun by `--- title`. Its lines:

    C: text      the client sends text and CRLF; \\xNN \\r \\n \\\\ are escapes, other text is UTF-8
    R: text      as C, without the CRLF
    S: text      the server says exactly this line; * stands for anything
    C*3: S*3:    three times
    F: name      the client sends a mail of `tests/corpus`, as DATA wants it and with the end
    T:           the client begins TLS
    X:           the server says nothing more and closes
    M: a@b -> c@d, e@f   this message was handed on, in this order; <> is the null sender. None else was.
                 ` from 192.0.2.1` behind it tells whom the listener takes for the client
    L: key a b   a key of `[smtp]` and its values; `L: tls` gives the listener a certificate, `L: judged` a robot that
                 checks its senders by `tests/corpus/spoofed/zone.toml`
    # text       a comment

What the client sends up to the next S, T or X leaves in one packet.
"""

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailbot.config import Directory, Route
from mailbot.config.site import SmtpSection
from mailbot.intake.smtp import SmtpListener
from mailbot.mail.envelope import Envelope, Purpose
from mailbot.mail.status import OK, Status
from tests.support.corpus import CORPUS

HOST = "mx.robot.example"
DIRECTORY = Directory(
    {
        "touroku@robot.example": Route("alpha", Purpose.REGISTRATION),
        "help@robot.example": Route("alpha", Purpose.HELP),
        "bounce@robot.example": Route("alpha", Purpose.BOUNCE),
        "postmaster@robot.example": Route("", Purpose.POSTMASTER),
        "abuse@robot.example": Route("", Purpose.ABUSE),
    },
    frozenset({"robot.example"}),
)
PATIENCE = 20.0  # seconds for an answer that should come at once


@dataclass
class Inbox:
    """A receiver that keeps what it gets; `gate` closed makes it wait, `failure` is raised."""

    envelopes: list[Envelope] = field(default_factory=list)
    finished: int = 0
    answer: Status = OK
    failure: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def receive(self, envelope: Envelope) -> Status:
        self.envelopes.append(envelope)
        self.entered.set()
        await self.gate.wait()
        if self.failure:
            raise self.failure
        self.finished += 1
        return self.answer


@asynccontextmanager
async def listening(inbox: Inbox, **smtp: Any) -> AsyncIterator[SmtpListener]:
    """A listener on a free port; the keyword arguments are keys of `[smtp]`."""
    section = SmtpSection(listen=("127.0.0.1:0",), **smtp)
    listener = SmtpListener(section, HOST, DIRECTORY, inbox.receive, lambda: 1_763_600_000_000)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop(5)


class Client:
    """The other end, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int, source: str | None = None) -> "Client":
        local = (source, 0) if source else None
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=local))

    async def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode() if isinstance(data, str) else data)
        await self.writer.drain()

    async def line(self) -> str:
        """The next line without CRLF; empty when the server has closed."""
        try:
            async with asyncio.timeout(PATIENCE):
                return (await self.reader.readline()).decode("ascii").removesuffix("\r\n")
        except ConnectionError:
            return ""

    async def reply(self) -> list[str]:
        """All lines of one reply."""
        lines = [await self.line()]
        while lines[-1][3:4] == "-":
            lines.append(await self.line())
        return lines

    async def ask(self, command: str) -> str:
        """The last line of the reply to a command."""
        await self.send(f"{command}\r\n")
        return (await self.reply())[-1]

    async def begin(self, *commands: str) -> str:
        """Greeting, HELO and more commands; the last reply."""
        await self.reply()
        last = ""
        for command in ("HELO client.example", *commands):
            last = await self.ask(command)
        return last

    async def begin_data(self, sender: str = "hanako@docomo.ne.jp") -> None:
        last = await self.begin(f"MAIL FROM:<{sender}>", "RCPT TO:<touroku@robot.example>", "DATA")
        assert last.startswith("354"), last

    async def begin_tls(self) -> None:
        """Whatever certificate the server has."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with asyncio.timeout(PATIENCE):
            await self.writer.start_tls(context)

    async def closed(self) -> bool:
        """True when the server closes and says nothing more."""
        return await self.line() == ""

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass(frozen=True)
class Conversation:
    file: str
    title: str
    lines: tuple[tuple[int, str, int, str], ...]
    """Line number, kind, repetitions, text."""

    @property
    def listener(self) -> dict[str, tuple[str, ...]]:
        """What it wants of its listener."""
        wanted = (text.split() for _, kind, _, text in self.lines if kind == "L")
        return {key: tuple(values) for key, *values in wanted}

    def __str__(self) -> str:
        return f"{self.file}: {self.title}"


_LINE = re.compile(r"([CRSXMFTL])(?:\*(\d+))?:(?: (.*))?")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([rn\\]))")
_NAMED: Mapping[str, bytes] = {"r": b"\r", "n": b"\n", "\\": b"\\"}


def octets(text: str) -> bytes:
    """Text with escapes as bytes."""
    out, at = b"", 0
    for match in _ESCAPE.finditer(text):
        out += text[at : match.start()].encode() + (bytes.fromhex(match[1]) if match[1] else _NAMED[match[2]])
        at = match.end()
    return out + text[at:].encode()


def conversations(file: Path) -> list[Conversation]:
    """Raises ValueError naming the line that is none of the above."""
    found: list[Conversation] = []
    title, lines = "", list[tuple[int, str, int, str]]()
    for number, text in enumerate([*file.read_text("utf-8").splitlines(), "---"], 1):
        if text.startswith("---"):
            if lines:
                found.append(Conversation(file.name, title, tuple(lines)))
            title, lines = text[4:], []
        elif text.strip() and not text.startswith("#"):
            match = _LINE.fullmatch(text)
            if not match:
                raise ValueError(f"{file.name}:{number}: {text!r}")
            lines.append((number, match[1], int(match[2] or 1), match[3] or ""))
    return found


def _matches(pattern: str, line: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), line) is not None


def _sender(envelope: Envelope) -> str:
    return "<>" if envelope.reverse_path is None else envelope.reverse_path.text


async def hold(conversation: Conversation, port: int, inbox: Inbox) -> None:
    """Plays the client and asserts the server's part."""
    client = await Client.connect(port)
    try:
        mails = await _play(conversation, client)
    finally:
        client.close()
    got = [f"{_sender(e)} -> {', '.join(r.text for r in e.recipients)} from {e.peer}" for e in inbox.envelopes]
    assert len(got) == len(mails), f"{conversation}: {got}"
    for one, mail in zip(got, mails, strict=True):
        assert mail in (one, one.partition(" from ")[0]), conversation


async def _play(conversation: Conversation, client: Client) -> list[str]:
    """The messages that should have been handed on."""
    sending = b""
    mails: list[str] = []
    for number, kind, times, text in conversation.lines:
        where = f"{conversation.file}:{number}"
        if kind in "CR":
            sending += (octets(text) + (b"\r\n" if kind == "C" else b"")) * times
            continue
        if kind == "F":
            content = (CORPUS / f"{text}.eml").read_bytes()
            sending += re.sub(rb"(?m)^\.", b"..", content) + b".\r\n"
            continue
        if kind == "M":
            mails.append(text)
            continue
        if kind == "L":
            continue
        if sending:
            await client.send(sending)
            sending = b""
        if kind == "T":
            await client.begin_tls()
            continue
        for _ in range(times):
            line = await client.line()
            if kind == "X":
                assert line == "", f"{where}: expected the end, got {line!r}"
            else:
                assert _matches(text, line), f"{where}: expected {text!r}, got {line!r}"
    return mails
