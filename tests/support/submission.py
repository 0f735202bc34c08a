"""A submission server of another make, with TLS and a login: aiosmtpd's own, in the loop of the caller."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class Submission:
    """`mails`: (MAIL FROM, RCPT TO, content, login name); `logins`: the mechanisms that were used."""

    port: int = 0
    mails: list[tuple[str, str, bytes, str]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        login = session.auth_data.decode() if isinstance(session.auth_data, bytes) else ""
        assert isinstance(envelope.original_content, bytes)
        sender, recipient = str(envelope.mail_from), envelope.rcpt_tos[0]
        self.mails.append((sender, recipient, envelope.original_content, login))
        return "250 2.0.0 taken"


@asynccontextmanager
async def submission(
    context: ssl.SSLContext,
    users: dict[str, str],
    *,
    implicit: bool = False,
    without: tuple[str, ...] = (),
) -> AsyncIterator[Submission]:
    """Runs the server; with STARTTLS unless TLS is `implicit`. `without`: login mechanisms that are not offered."""
    running = Submission()

    def login(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        running.logins.append(mechanism)
        good = users.get(data.login.decode()) == data.password.decode()
        return AuthResult(success=good, handled=False, auth_data=data.login if good else None)

    def session() -> SMTP:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it does not see the TLS that was there before it
            return SMTP(
                running,
                hostname="submission.test",
                tls_context=None if implicit else context,
                require_starttls=not implicit,
                authenticator=login,
                auth_required=True,
                auth_require_tls=not implicit,
                auth_exclude_mechanism=without,
                loop=asyncio.get_running_loop(),
            )

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0, ssl=context if implicit else None)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        await server.wait_closed()


def certificates(folder: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context for these names, and the file of who signed it; chain.pem and key.pem lie beside it."""
    ca = trustme.CA()
    issued = ca.issue_cert(*names)
    authority, chain, key = folder / "ca.pem", folder / "chain.pem", folder / "key.pem"
    ca.cert_pem.write_to_path(authority)
    issued.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.chmod(0o600)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context, authority
