"""Load: blank mails as phones send them, each from another sender, over kept connections, one command at a time."""

import asyncio
import email.utils
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import cast

DOMAINS = (b"docomo.example", b"ezweb.example", b"softbank.example", b"icloud.example", b"gmail.example")

# 1.2 kB, 20 header fields and no body: what arrives when somebody scans the code on a notice and presses send.
_MAIL = (
    b"Return-Path: <%(sender)s>\r\n"
    b"Received: from mfsmax.%(domain)s (mfsmax.%(domain)s [192.0.2.25])\r\n"
    b"\tby mx.front.example (Postfix) with ESMTPS id 4fS%(number)07dz2Xk\r\n"
    b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n"
    b"\tfor <%(recipient)s>; %(date)s\r\n"
    b"Received: from [198.51.100.17] (unknown [198.51.100.17])\r\n"
    b"\tby mfsmax.%(domain)s (SMTP server) with ESMTPA id 0H%(number)07dQ\r\n"
    b"\tfor <%(recipient)s>; %(date)s\r\n"
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=%(domain)s; s=20240101;\r\n"
    b"\th=date:from:message-id:to:mime-version:subject;\r\n"
    b"\tbh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n"
    b"\tb=qk3Yw0m7s1xqvJz8Hn5rT2bLd4cVf6gWe9uXyZaB1CkDiEjFoGpHlIm0nJqKrLsM\r\n"
    b"Date: %(date)s\r\n"
    b"Message-ID: <%(number)07d.%(run)x@%(domain)s>\r\n"
    b"From: <%(sender)s>\r\n"
    b"To: %(recipient)s\r\n"
    b"Subject: \r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=UTF-8; format=flowed\r\n"
    b"Content-Transfer-Encoding: 7bit\r\n"
    b"Content-Language: ja\r\n"
    b"User-Agent: mail/16.0 (phone)\r\n"
    b"X-Mailer: phone mail (21G93)\r\n"
    b"X-Originating-IP: [198.51.100.17]\r\n"
    b"Accept-Language: ja-JP\r\n"
    b"\r\n"
    b"\r\n"
    b".\r\n"
)


@dataclass
class Load:
    """`mails` mails numbered from `first` to `recipient`, and what became of them. Times are time.monotonic()."""

    recipient: bytes
    first: int
    mails: int
    accepted: dict[int, float] = field(default_factory=dict)  # number -> when its 250 came
    refused: Counter[str] = field(default_factory=Counter)  # first words of the refusal -> how often
    started: float = 0.0  # first MAIL FROM
    _run: int = field(default_factory=lambda: time.time_ns() & 0xFFFFFFFF)
    _numbers: deque[int] = field(init=False)
    _date: bytes = field(default_factory=lambda: email.utils.formatdate(localtime=True).encode())

    def __post_init__(self) -> None:
        self._numbers = deque(range(self.first, self.first + self.mails))

    @property
    def left(self) -> int:
        """Mails not yet begun."""
        return len(self._numbers)

    def next(self) -> int | None:
        """The number of the next mail to send, if any is left."""
        return self._numbers.popleft() if self._numbers else None

    def sender(self, number: int) -> bytes:
        """Its reverse-path, from which the sink reads the number again."""
        return b"bench.m%07d@%b" % (number, DOMAINS[number % len(DOMAINS)])

    def content(self, number: int) -> bytes:
        """The mail with its final dot, as it goes over the wire."""
        sender = self.sender(number)
        return _MAIL % {
            b"sender": sender,
            b"domain": sender.partition(b"@")[2],
            b"recipient": self.recipient,
            b"number": number,
            b"run": self._run,
            b"date": self._date,
        }


class _Client(asyncio.Protocol):
    """One connection: MAIL, RCPT, DATA, the mail, each after the answer to the one before (RFC 5321 section 4.1.4)."""

    def __init__(self, load: Load, done: "asyncio.Future[None]", per_connection: int) -> None:
        self._load = load
        self._done = done
        self._left = per_connection
        self._number: int | None = None
        self._step = self._greeted
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n")) >= 0:
            line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
            if line[3:4] != b"-":  # the last line of a reply
                self._step(line)

    def connection_lost(self, error: Exception | None) -> None:
        if self._number is not None:
            self._load.refused["connection lost"] += 1
        if not self._done.done():
            self._done.set_result(None)

    def _greeted(self, line: bytes) -> None:
        self._transport.write(b"EHLO phone.example\r\n")
        self._step = self._ready

    def _ready(self, line: bytes) -> None:
        self._number = self._load.next() if self._left else None
        if self._number is None:
            self._transport.write(b"QUIT\r\n")
            self._step = self._over
            return
        self._left -= 1
        self._load.started = self._load.started or time.monotonic()
        self._transport.write(b"MAIL FROM:<%b>\r\n" % self._load.sender(self._number))
        self._step = self._mail_answered

    def _mail_answered(self, line: bytes) -> None:
        if self._held(line, b"2"):
            self._transport.write(b"RCPT TO:<%b>\r\n" % self._load.recipient)
            self._step = self._rcpt_answered

    def _rcpt_answered(self, line: bytes) -> None:
        if self._held(line, b"2"):
            self._transport.write(b"DATA\r\n")
            self._step = self._data_answered

    def _data_answered(self, line: bytes) -> None:
        if self._held(line, b"3"):
            assert self._number is not None
            self._transport.write(self._load.content(self._number))
            self._step = self._taken

    def _taken(self, line: bytes) -> None:
        if self._held(line, b"2"):
            assert self._number is not None
            self._load.accepted[self._number] = time.monotonic()
            self._ready(line)

    def _over(self, line: bytes) -> None:
        self._transport.close()

    def _held(self, line: bytes, wanted: bytes) -> bool:
        if line.startswith(wanted):
            return True
        self._load.refused[line[:60].decode("ascii", "replace")] += 1
        self._number = None
        self._transport.write(b"RSET\r\n")
        self._step = self._ready
        return False


async def send(load: Load, port: int, connections: int, per_connection: int = 0) -> None:
    """Send the whole load to 127.0.0.1:`port`; a connection carries `per_connection` mails, or its whole share if 0."""
    loop = asyncio.get_running_loop()

    async def one() -> None:
        while load.left:
            done: asyncio.Future[None] = loop.create_future()
            await loop.create_connection(partial(_Client, load, done, per_connection or load.mails), "127.0.0.1", port)
            await done

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one())
