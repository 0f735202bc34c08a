"""Runs a web application inside the running loop: no signal handlers, no access log, no server name."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""Longest wait for a whole request line with its header fields."""


class _Connection(H11Protocol):
    """h11 bounds a request's head (64 KiB; httptools does not), this its time: uvicorn waits for ever, and a thousand
    half-sent requests would fill the house."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn
        super().connection_made(transport)
        self._patience = self.loop.call_later(HEAD_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        running = self.cycle is not None and not self.cycle.response_complete
        if running and self._patience is not None:
            self._patience.cancel()
            self._patience = None
        elif not running and self._patience is None:  # the next request on a kept connection has begun
            self._patience = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._patience is not None:
            self._patience.cancel()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # signals belong to the process, not to one of its doors


async def serve(
    app: ASGIApp,
    host: str = "127.0.0.1",
    port: int = 0,
    stop: asyncio.Event | None = None,
    *,
    listening: socket.socket | None = None,
    started: Callable[[int], None] | None = None,
    drain_seconds: int = 10,
    connections: int = 1000,
) -> None:
    """Serves until `stop` is set or the task is cancelled, then lets running requests end for `drain_seconds`.

    Raises OSError if it cannot listen. `listening`: a socket that is open already, instead of host and port.

    `started` is called with the real port once connections are taken; port 0 lets the system choose.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with listening or socket.create_server((host, port), family=family, backlog=512) as listening:
        listening.setblocking(False)
        config = uvicorn.Config(
            app,
            http=_Connection,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            limit_concurrency=connections,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=drain_seconds,
        )
        server = _Server(config)
        running = asyncio.ensure_future(server.serve(sockets=[listening]))
        if started is not None:
            started(listening.getsockname()[1])
        waiting = asyncio.ensure_future((stop or asyncio.Event()).wait())
        try:
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            server.should_exit = True
            await running
