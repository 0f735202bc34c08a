"""One SMTP (RFC 5321) or LMTP (RFC 2033) connection, on aiosmtpd's protocol class.

aiosmtpd brings the life of a connection and STARTTLS. The dialogue is ours, because its own decodes addresses as header
text, answers errors with their Python text, ends commands on a bare LF, keeps whole messages in memory and gives LMTP
one reply for all recipients.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from functools import lru_cache
from typing import Any, cast

from aiosmtpd.proxy_protocol import get_proxy
from aiosmtpd.smtp import SMTP, TLSSetupException

from mailbot.intake.smtp_data import BareLineEndError, MessageReader
from mailbot.intake.smtp_dialogue import COMMANDS, LMTP_COMMANDS, Dialogue, House
from mailbot.mail import status as reply
from mailbot.mail.envelope import Envelope
from mailbot.mail.network import network_of, parse_peer
from mailbot.mail.status import Status
from mailbot.telemetry import emit

COMMAND_LIMIT = 1024  # octets; RFC 5321 section 4.5.3.1.4 asks for 512, parameters need more
CHUNK = 64 * 1024
LINGER_SECONDS = 5.0  # for the last reply to leave; then the connection is dropped

_CLOSING = frozenset({221, 421, 521})
# A browser, a TLS client or an unlisted proxy is no mail server: it gets no words to play with.
_STRANGE = (b"\x16", b"\r\n\r\n\0\r\nQUIT\n")  # how a ClientHello and a binary PROXY header begin
_FOREIGN = frozenset(b"GET POST PUT HEAD DELETE OPTIONS PATCH TRACE CONNECT PRI PROXY".split())


class Phase(Enum):
    """What the connection is waiting for."""

    COMMAND = "command"
    DATA = "data"
    COMMIT = "commit"


@lru_cache(256)
def wire(status: Status) -> bytes:
    """A reply line."""
    return f"{status}\r\n".encode("ascii", "replace")


class Session(SMTP):
    """From the greeting to the end of the connection, when `closed` is done."""

    line_length_limit = CHUNK  # of the stream's buffer; no line is ever asked from it

    def __init__(self, house: House, peer: str, *, counted: bool) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(None, hostname=house.host, ident="ESMTP", tls_context=house.tls, loop=loop)
        self.closed: asyncio.Future[None] = loop.create_future()
        self._house = house
        self.peer = peer
        self.counted = counted
        self._trusted = peer in house.admission.trusted
        self._phase = Phase.COMMAND
        self._stopping = False
        self._rest = b""
        self._out: list[bytes] = []
        self._counts: dict[bytes, int] = {}
        self._errors = 0
        self._greeted = False
        self._talk = Dialogue(house, tls_offered=house.tls is not None)
        self._born = self._since = self._heard = loop.time()
        self._data_since = 0.0
        self._message = MessageReader()

    def __dir__(self) -> list[str]:
        # aiosmtpd looks through all names for commands each time a client connects; that is most of what a connection
        # would cost, and ours stand in a table.
        return []

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Called again when TLS begins: nothing said before counts (RFC 3207 section 4.2), nor what was sent ahead.
        self._rest = b""
        self._talk = Dialogue(self._house, tls_offered=self._house.tls is not None and self._tls_protocol is None)
        super().connection_made(transport)
        if self._original_transport is None and self._handler_coroutine is not None:
            self._handler_coroutine.add_done_callback(lambda _task: self._hang_up())

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if not self.closed.done():
            self.closed.set_result(None)

    def eof_received(self) -> bool | None:
        # A client that only stops sending still gets its answers; aiosmtpd would cancel the session here.
        asyncio.StreamReaderProtocol.eof_received(self)
        return self.session is not None and self.session.ssl is None

    def wind_down(self) -> None:
        """A message that has begun may end, then the session does."""
        self._stopping = True
        if self._phase is Phase.COMMAND:
            self._cut(reply.SHUTTING_DOWN)

    def abort(self) -> None:
        """Drops the connection at once."""
        transport = self._original_transport or self.transport
        if transport is not None:
            cast(asyncio.Transport, transport).abort()
        self._end_dialogue()

    def _end_dialogue(self) -> None:
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    def _cut(self, status: Status) -> None:
        emit("smtp.cut", reason=f"{status.code} {status.enhanced}", peer=self.peer, helo=self._talk.helo)
        handshaking = self._tls_protocol is not None and (self.session is None or self.session.ssl is None)
        if handshaking or self.transport is None or cast(asyncio.Transport, self.transport).get_write_buffer_size():
            self.abort()  # a peer that does not read would keep us waiting
        else:
            self._out.append(wire(status))
            self._end_dialogue()  # its end writes and closes

    def _hang_up(self) -> None:
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        if self.transport is not None:
            transport = cast(asyncio.Transport, self.transport)
            if self._out:
                transport.write(b"".join(self._out))
            transport.close()
            self._timeout_handle = self.loop.call_later(LINGER_SECONDS, self.abort)  # connection_lost cancels it
        self._out.clear()

    # Time. One timer a session, set anew only when it fires: nothing is paid for each command.

    def _reset_timeout(self, duration: float | None = None) -> None:
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_at(self._deadline(), self._timeout_cb)

    def _deadline(self) -> float:
        """Loop time at which the session is cut as things are now; never earlier than it was before.

        RFC 5321 section 4.5.3.2.7 wants five minutes of patience; a robot that answers phones needs less.
        """
        smtp = self._house.smtp
        idle = self._heard + smtp.command_timeout_seconds
        if self._phase is Phase.COMMIT:
            return self.loop.time() + 1.0
        if self._trusted:
            return idle
        due = min(idle, self._since + smtp.session_seconds)
        if not self._greeted:
            due = min(due, self._born + smtp.greeting_timeout_seconds)
        if self._phase is Phase.DATA and smtp.min_bytes_per_second > 0:
            seconds = max(self._message.size, 0) / smtp.min_bytes_per_second
            due = min(due, self._data_since + smtp.command_timeout_seconds + seconds)
        return due

    def _timeout_cb(self) -> None:
        due, now = self._deadline(), self.loop.time()
        if due > now:
            self._timeout_handle = self.loop.call_at(due, self._timeout_cb)
        else:
            self._cut(reply.TOO_SLOW)

    # The dialogue

    async def push(self, status: Any) -> None:
        """aiosmtpd itself speaks only to open TLS."""
        self._out.append(wire(reply.READY_FOR_TLS))
        await self._flush()

    async def _flush(self) -> None:
        if self._out:
            self._writer.write(b"".join(self._out))
            self._out.clear()
            await self._writer.drain()

    async def _more(self) -> bytes:
        """The next octets; empty at their end. Replies leave only here, so that pipelined commands share one packet."""
        await self._flush()
        return await self._reader.read(CHUNK)

    async def _line(self) -> bytes | None:
        """A command with its line end, cut if too long; None at the end of the dialogue."""
        while (end := self._rest.find(b"\n")) < 0:
            chunk = await self._more()
            if not chunk:
                return None
            self._rest = self._rest[: COMMAND_LIMIT + 1] + chunk
            if self._rest.startswith(_STRANGE) and not self._greeted:
                emit("smtp.cut", reason="foreign-protocol", peer=self.peer)
                return None
        line, self._rest = self._rest[: end + 1], self._rest[end + 1 :]
        return line

    async def _handle_client(self) -> None:
        try:
            if self.peer in self._house.admission.proxies and not await self._proxied():
                return
            self._out.append(wire(Status(220, "", f"{self.hostname} {'LMTP' if self._house.lmtp else 'ESMTP'}")))
            while (line := await self._line()) is not None:
                try:
                    status = await self._answer(line)
                except ConnectionError:
                    return
                except Exception as error:
                    emit("smtp.failure", error=error, peer=self.peer)
                    status = reply.OUTAGE
                if status is None:
                    return
                self._out.append(status if isinstance(status, bytes) else wire(status))
                if isinstance(status, Status) and status.code in _CLOSING:
                    return
                if self._stopping:
                    self._out.append(wire(reply.SHUTTING_DOWN))
                    return
        except ConnectionError:
            pass

    async def _proxied(self) -> bool:
        """Reads the PROXY header of a listed peer and takes the client's address from it."""
        proxy = await get_proxy(self._reader)
        if not proxy.valid:
            emit("smtp.cut", reason="proxy", peer=self.peer)
            return False
        if proxy.src_addr is None:  # the proxy's own health check
            return True
        self.peer = str(parse_peer(str(proxy.src_addr)))
        self._trusted = self.peer in self._house.admission.trusted
        refusal = self._house.admission.enter(self.peer)
        if refusal:
            self._out.append(wire(refusal))
            return False
        self.counted = True
        return True

    async def _answer(self, line: bytes) -> Status | bytes | None:
        """The reply to one command; None to close without a word."""
        if len(line) > COMMAND_LIMIT:
            return self._judged(reply.LINE_TOO_LONG)
        if line[-2:] != b"\r\n":
            return self._judged(reply.BARE_LINE_END)
        verb, _, argument = line[:-2].partition(b" ")
        verb, argument = verb.upper(), argument.strip(b" \t")
        if verb in _FOREIGN:
            emit("smtp.cut", reason="foreign-protocol", peer=self.peer)
            return None
        command = (LMTP_COMMANDS if self._house.lmtp else COMMANDS).get(verb)
        if command is None:
            return self._judged(reply.UNKNOWN_COMMAND)
        count = self._counts[verb] = self._counts.get(verb, 0) + 1
        if count > self._house.smtp.max_commands and not self._trusted and verb != b"QUIT":
            return self._judged(reply.TOO_MANY_COMMANDS)
        status = command(self._talk, argument)
        if status is reply.START_DATA:
            return await self._data()
        if status is reply.READY_FOR_TLS:
            return await self._starttls()
        return self._judged(status)

    def _judged(self, status: Status | bytes) -> Status | bytes:
        """Counts errors, and takes a good command as a sign of life."""
        if isinstance(status, Status) and status.code >= 400:
            emit("smtp.refused", reason=f"{status.code} {status.enhanced}", peer=self.peer, helo=self._talk.helo)
            self._errors += status.permanent
            if self._errors > self._house.smtp.max_errors and not self._trusted:
                return reply.TOO_MANY_ERRORS
        else:
            self._heard = self.loop.time()
            self._greeted = self._greeted or bool(self._talk.helo)
        return status

    @property
    def _signed_limit(self) -> int:
        """How much of a signed message is kept: all of it, where somebody looks at the signature."""
        return 0 if self.peer in self._house.unchecked else self._house.smtp.max_message_bytes

    @property
    def _network(self) -> str:
        """Whose share of the memory a signed mail takes; empty for servers of ours."""
        ours = self._trusted or self._house.lmtp or self.peer in self._house.upstream
        return "" if ours else network_of(self.peer)

    async def _data(self) -> Status:
        message = self._message = MessageReader(self._talk.body_limit, self._signed_limit)
        self._phase, self._heard = Phase.DATA, self.loop.time()
        self._data_since = self._heard
        self._out.append(wire(reply.START_DATA))
        room, held, crowded, network = self._house.room, 0, False, self._network
        try:
            rest = message.feed(self._rest)
            while True:
                if message.signed and not crowded:
                    if room.resize(held, message.kept, network):
                        held = message.kept
                    else:
                        crowded = True
                        message.forget()
                if rest is not None:
                    break
                chunk = await self._more()
                if not chunk:
                    raise ConnectionResetError
                self._heard = self.loop.time()
                rest = message.feed(chunk)
            self._rest = rest
            status = reply.FULL if crowded else await self._received(message)
        except BareLineEndError:
            status = reply.BARE_LINE_END
        finally:
            message.forget()
            room.resize(held, 0, network)
            answers = self._talk.answers
            self._phase, self._heard = Phase.COMMAND, self.loop.time()
            self._talk.forget_mail()
        if status.code >= 400:
            emit("smtp.refused", reason=f"{status.code} {status.enhanced}", peer=self.peer, helo=self._talk.helo)
        else:
            # A kept connection goes on for as long as its mails are good.
            self._since, self._errors = self._heard, 0
            self._counts.clear()
            emit("smtp.accepted", peer=self.peer, size=message.size)
        self._out += [wire(status)] * (answers - 1)
        return status

    async def _received(self, message: MessageReader) -> Status:
        if message.size > self._house.smtp.max_message_bytes:
            return reply.TOO_LARGE
        self._phase = Phase.COMMIT
        return await self._house.receive(
            Envelope(
                reverse_path=self._talk.reverse_path,
                recipients=tuple(dict.fromkeys(self._talk.recipients)),
                content=message.content,
                received_at=self._house.clock(),
                peer=self.peer,
                helo=self._talk.helo,
                origin="lmtp" if self._house.lmtp else "smtp",
                size=message.size,
                direct=not self._house.lmtp and self.peer not in self._house.upstream,
                whole=message.whole,
            )
        )

    async def _starttls(self) -> bytes | None:
        """After 220 there is nothing more to say."""
        try:
            await self.smtp_STARTTLS("")
        except TLSSetupException:
            return None
        finally:
            if self.session is None or self.session.ssl is None:
                self.connection_lost(None)  # nobody else tells, while TLS has not begun
        self._heard = self.loop.time()
        return b"" if self.transport is not None else None
