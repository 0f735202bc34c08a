"""Servers with a certificate, on the loopback: one that only shakes hands, one that speaks SMTP as far as STARTTLS."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from socketserver import BaseRequestHandler, ThreadingTCPServer

import trustme


def context(ca: trustme.CA, name: str, until: datetime | None = None) -> ssl.SSLContext:
    """A server's context with a certificate for `name`."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name, not_after=until).configure_cert(made)
    return made


@contextmanager
def _served(handler: type[BaseRequestHandler]) -> Iterator[int]:
    with ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


@contextmanager
def tls_server(tls: ssl.SSLContext) -> Iterator[int]:
    """Its port."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError), tls.wrap_socket(self.request, server_side=True) as secure:
                secure.recv(1)

    with _served(Handler) as port:
        yield port


@contextmanager
def starttls_server(tls: ssl.SSLContext | None) -> Iterator[int]:
    """Its port; without a context it offers no STARTTLS."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.request.sendall(b"220 mx.test ESMTP\r\n")
                while line := self.request.recv(1000).upper():
                    if line.startswith(b"EHLO"):
                        self.request.sendall(b"250-mx.test\r\n250 STARTTLS\r\n" if tls else b"250 mx.test\r\n")
                    elif line.startswith(b"STARTTLS") and tls:
                        self.request.sendall(b"220 go\r\n")
                        with tls.wrap_socket(self.request, server_side=True) as secure:
                            secure.recv(1)
                        return
                    else:
                        self.request.sendall(b"221 bye\r\n")

    with _served(Handler) as port:
        yield port
