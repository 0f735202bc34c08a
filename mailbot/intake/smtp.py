"""The mail doors, SMTP and LMTP: listen, let connections in, keep every commit alive until it is done, and drain.

Lifetime: one intake role. What is said on a connection is `smtp_session`'s.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Container
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from mailbot.config import Directory, split_endpoint
from mailbot.config.site import SmtpSection
from mailbot.intake.smtp_dialogue import House
from mailbot.intake.smtp_limits import Admission, Room
from mailbot.intake.smtp_session import Session, wire
from mailbot.mail import status as reply
from mailbot.mail.address import Address
from mailbot.mail.envelope import Envelope
from mailbot.mail.status import Status
from mailbot.telemetry import emit

BACKLOG = 1024

for _name in ("mail.log", "mail.debug"):  # aiosmtpd writes every address there
    logging.getLogger(_name).setLevel(logging.WARNING)


class SmtpListener:
    """Hands each message to `receive` and gives the client its answer.

    `receive` returns the answer to the end of DATA, 250 only once everything is committed; it is never cancelled by a
    client that hangs up, and whatever it raises is answered 451. `clock` gives milliseconds since the epoch.
    `unchecked` and `upstream` hold peers: those whose senders nobody checks, and mail servers of ours.
    `kept_bytes`: memory for signed mails of all sessions together.
    """

    def __init__(
        self,
        smtp: SmtpSection,
        host: str,
        directory: Directory,
        receive: Callable[[Envelope], Awaitable[Status]],
        clock: Callable[[], int],
        unchecked: Container[str] = (),
        upstream: Container[str] = (),
        kept_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._receive = receive
        self._house = House(
            smtp=smtp,
            host=host,
            directory=directory,
            receive=self._commit,
            clock=clock,
            admission=Admission(smtp),
            tls=None,
            legacy_domains=frozenset(smtp.legacy_domains),
            postmaster=_postmaster(directory),
            unchecked=unchecked,
            upstream=upstream,
            room=Room(kept_bytes),
        )
        self._servers: list[asyncio.Server] = []
        self._sessions: set[Session] = set()
        self._commits: set[asyncio.Task[Status]] = set()
        self._stopping = False

    @property
    def endpoints(self) -> tuple[tuple[str, int], ...]:
        """(host, port) of every socket, with the port really given where the configuration says 0."""
        return tuple(sock.getsockname()[:2] for server in self._servers for sock in server.sockets)

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(port for _host, port in self.endpoints)

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def sessions(self) -> int:
        """Connections being served."""
        return len(self._sessions)

    async def start(self, take: Callable[[str], socket.socket] | None = None) -> None:
        """Opens all sockets, SMTP's first, or none; or takes a listening one for each endpoint. Raises OSError."""
        smtp = self._house.smtp
        house = self._house = replace(self._house, tls=_tls(smtp))
        doors = [(endpoint, house) for endpoint in smtp.listen]
        doors += [(endpoint, replace(house, lmtp=True)) for endpoint in smtp.lmtp_listen]
        loop = asyncio.get_running_loop()
        try:
            for endpoint, behind in doors:
                door = partial(_Door, self, behind)
                if take:
                    server = await loop.create_server(door, sock=take(endpoint), backlog=BACKLOG)
                else:
                    server = await loop.create_server(door, *split_endpoint(endpoint), backlog=BACKLOG)
                self._servers.append(server)
        except OSError:
            await self.stop(0)
            raise

    async def stop(self, grace: float) -> None:
        """Takes no new connection; messages that have begun may end within `grace` seconds, then 421."""
        self._stopping = True
        for server in self._servers:
            server.close()
        for session in tuple(self._sessions):
            session.wind_down()
        await self._wait(grace)
        for session in tuple(self._sessions):
            session.abort()
        for commit in tuple(self._commits):
            commit.cancel()
        await self._wait(None)
        self._servers.clear()

    async def _wait(self, seconds: float | None) -> None:
        """Until all sessions are closed and all commits done."""
        pending: list[asyncio.Future[Any]] = [*(session.closed for session in self._sessions), *self._commits]
        if pending:
            await asyncio.wait(pending, timeout=seconds)

    def admit(self, transport: asyncio.Transport, house: House) -> None:
        """A new connection: a session, or a refusal and its end."""
        name = transport.get_extra_info("peername")
        if not name:  # gone already
            transport.abort()
            return
        peer = str(name[0]).removeprefix("::ffff:")
        admission = house.admission
        proxied = peer in admission.proxies  # its header names whom to count
        refusal = reply.SHUTTING_DOWN if self._stopping else None if proxied else admission.enter(peer)
        if refusal:
            emit("smtp.cut", reason=f"{refusal.code} {refusal.enhanced}", peer=peer)
            transport.write(wire(refusal))
            transport.close()
            return
        session = Session(house, peer, counted=not proxied)
        transport.set_protocol(session)
        session.connection_made(transport)
        self._sessions.add(session)
        session.closed.add_done_callback(lambda _closed: self._left(session))
        emit("smtp.connected", peer=peer)

    def _left(self, session: Session) -> None:
        self._sessions.discard(session)
        if session.counted:
            self._house.admission.leave(session.peer)

    async def _commit(self, envelope: Envelope) -> Status:
        """Runs `receive` to its end, whatever becomes of the client."""
        task = asyncio.get_running_loop().create_task(self._received(envelope))
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        return await asyncio.shield(task)

    async def _received(self, envelope: Envelope) -> Status:
        try:
            return await self._receive(envelope)
        except Exception as error:
            emit("smtp.failure", error=error, peer=envelope.peer)
            return reply.OUTAGE


class _Door(asyncio.Protocol):
    """Meets a connection before anything is built for it: turning a flood away must cost little."""

    def __init__(self, listener: SmtpListener, house: House) -> None:
        self._listener = listener
        self._house = house

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._listener.admit(cast(asyncio.Transport, transport), self._house)


def _postmaster(directory: Directory) -> Address | None:
    """RFC 5321 section 4.5.1: `<Postmaster>` needs no domain."""
    for domain in sorted(directory.domains):
        if directory.route("postmaster", domain):
            return Address("postmaster", domain)
    return None


def tls_context(smtp: SmtpSection) -> ssl.SSLContext | None:
    """None where STARTTLS is not offered. Raises OSError (ssl.SSLError is one) for files that cannot be used."""
    if smtp.tls_certificate == Path():
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(smtp.tls_certificate, smtp.tls_key if smtp.tls_key != Path() else None)
    return context


def _tls(smtp: SmtpSection) -> ssl.SSLContext | None:
    """STARTTLS is an offer: a certificate that cannot be used costs the offer, never the mail."""
    try:
        return tls_context(smtp)
    except OSError as error:
        emit("smtp.tls-unusable", error=error)
        return None
