"""Sink: takes what the system under test sends, as fast as the wire, and notes when the answer to which mail came."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import cast

_NUMBER = re.compile(rb"<bench\.m(\d{7})@")
_EHLO = b"250-sink.bench.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 10485760\r\n"
_SAMPLES = 3


@dataclass
class Sink:
    """`arrived[number]` is the time.monotonic() of a mail's first answer; `doubles` counts further ones."""

    arrived: dict[int, float] = field(default_factory=dict)
    doubles: int = 0
    strangers: int = 0  # mails with no number in them
    samples: list[bytes] = field(default_factory=list)
    port: int = 0

    def took(self, number: int | None, content: bytes) -> None:
        if number is None:
            self.strangers += 1
        elif number in self.arrived:
            self.doubles += 1
        else:
            self.arrived[number] = time.monotonic()
            if len(self.samples) < _SAMPLES:
                self.samples.append(content)


class _Session(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = bytearray()
        self._in_data = False
        self._number: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._transport.write(b"220 sink.bench.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        replies: list[bytes] = []
        while self._step(replies):
            pass
        if replies:
            self._transport.write(b"".join(replies))

    def _step(self, replies: list[bytes]) -> bool:
        """Use up one command or one mail of the buffer; False if there is no whole one."""
        if self._in_data:
            end = self._buffer.find(b"\r\n.\r\n")
            if end < 0:
                return False
            self._sink.took(self._number, bytes(self._buffer[: end + 2]))
            del self._buffer[: end + 5]
            self._in_data, self._number = False, None
            replies.append(b"250 2.0.0 ok\r\n")
            return True
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        verb = line[:4].upper()
        if verb in (b"MAIL", b"RCPT"):
            # A relayed mail names its number as sender, an answered one as recipient.
            if found := _NUMBER.search(line):
                self._number = int(found.group(1))
            replies.append(b"250 2.1.0 ok\r\n")
        elif verb == b"DATA":
            self._in_data = True
            replies.append(b"354 go\r\n")
        elif verb == b"EHLO":
            replies.append(_EHLO)
        elif verb == b"QUIT":
            replies.append(b"221 2.0.0 bye\r\n")
            self._transport.write(b"".join(replies))
            replies.clear()
            self._transport.close()
        else:
            replies.append(b"250 2.0.0 ok\r\n")
        return True


async def start(sink: Sink) -> asyncio.Server:
    """Listen on a free port of the loopback, given in `sink.port`."""
    server = await asyncio.get_running_loop().create_server(lambda: _Session(sink), "127.0.0.1", 0, backlog=512)
    sink.port = server.sockets[0].getsockname()[1]
    return server
