"""One kept connection to a relay, after greeting and EHLO: commands out, replies in, several at a time where offered.

aiosmtplib opens the connection; it cannot pipeline, and sends every command alone. Writing MAIL, RCPT and DATA as one
(RFC 2920) saves two of a mail's four round trips.
"""

from __future__ import annotations

import asyncio
from typing import cast

from aiosmtplib import SMTP, SMTPServerDisconnected
from aiosmtplib.response import SMTPResponse

MAX_REPLY_LINES = 100
_LIMIT = 16 * 1024
"""Octets of one reply line; RFC 5321 section 4.5.3.1.5 has 512."""


class RefusedError(Exception):
    """A reply other than the one wanted."""

    def __init__(self, response: SMTPResponse) -> None:
        super().__init__(response.code)
        self.response = response


class Line:
    """`unfinished`: the last transaction on it was refused half way. `used`: mails so far; `since`: its last use.

    `pipelining`, `dsn`: what the relay offers (RFC 2920, RFC 3461); `deliver_by`: the shortest time in seconds within
    which it promises to deliver (RFC 2852 section 3), None where it knows no such promise. `tls`: protocol and cipher.
    """

    def __init__(self, smtp: SMTP) -> None:
        self._smtp = smtp
        assert smtp.transport is not None
        self._transport = cast(asyncio.Transport, smtp.transport)
        self._reader = asyncio.StreamReader(limit=_LIMIT)
        protocol = asyncio.StreamReaderProtocol(self._reader)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        self.pipelining = smtp.supports_extension("pipelining")
        self.dsn = smtp.supports_extension("dsn")
        self.deliver_by = _shortest(smtp.esmtp_extensions.get("deliverby"))
        cipher = smtp.get_transport_info("cipher")
        self.tls = f"{cipher[1]}, {cipher[0]}" if cipher else ""
        self.used = 0
        self.since = 0.0
        self.unfinished = False

    @property
    def offers(self) -> dict[str, bool]:
        """For staff: extension -> whether it is used."""
        return {"PIPELINING": self.pipelining, "DSN": self.dsn, "DELIVERBY": self.deliver_by is not None}

    @property
    def connected(self) -> bool:
        return not self._transport.is_closing() and not self._reader.at_eof()

    def close(self) -> None:
        self._transport.close()

    def leave(self) -> None:
        """Closes between two mails, with a good-bye (RFC 5321 section 4.1.1.10) whose answer nobody needs."""
        if self.connected:
            self._transport.write(b"QUIT\r\n")
        self.close()

    def write(self, *lines: bytes) -> None:
        """Raises SMTPServerDisconnected."""
        if not self.connected:
            raise SMTPServerDisconnected("connection lost")
        self._transport.write(b"".join(lines))

    async def reply(self) -> SMTPResponse:
        """The next reply, its lines joined by newlines (RFC 5321 section 4.2.1). Raises SMTPServerDisconnected."""
        texts: list[str] = []
        while len(texts) < MAX_REPLY_LINES:
            try:
                line = await self._reader.readline()
            except ValueError as error:
                raise SMTPServerDisconnected("a reply line without end") from error
            if not line.endswith(b"\n"):
                raise SMTPServerDisconnected("connection lost")
            code, mark = line[:3], line[3:4]
            if not (code.isdigit() and mark in (b" ", b"-", b"\r", b"\n")):
                raise SMTPServerDisconnected("an answer that is no SMTP reply")
            texts.append(line[4:].strip().decode("utf-8", "surrogateescape"))
            if mark != b"-":
                return SMTPResponse(int(code), "\n".join(texts))
        raise SMTPServerDisconnected("a reply without end")

    async def command(self, line: bytes, wanted: int = 2) -> SMTPResponse:
        """One command alone -> its reply. Raises RefusedError, SMTPServerDisconnected."""
        self.write(line)
        return self.expect(await self.reply(), wanted)

    def expect(self, response: SMTPResponse, wanted: int) -> SMTPResponse:
        """Raises RefusedError for a reply of another class; a 421 closes the connection (RFC 5321 section 3.8)."""
        if response.code == 421:
            self.close()
        if response.code // 100 != wanted:
            raise RefusedError(response)
        return response

    async def reset(self) -> None:
        """Ends what is left of a transaction; a relay that refuses even that is not to be talked to."""
        try:
            await self.command(b"RSET\r\n")
        except RefusedError as refused:
            raise SMTPServerDisconnected("RSET refused") from refused
        self.unfinished = False


def _shortest(parameter: str | None) -> int | None:
    """What stands behind DELIVERBY; an empty or odd value promises any time (RFC 2852 section 2)."""
    if parameter is None:
        return None
    return int(parameter) if parameter.isascii() and parameter.isdigit() and len(parameter) < 10 else 1
