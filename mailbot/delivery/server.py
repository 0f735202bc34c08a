"""One mail server to hand mail to: how a connection to it is opened, as far as a mail may begin.

Who listens is proved before anything is said that matters: certificates are verified, a password is told over TLS only,
and mail leaves our own network encrypted or not at all. Standards: RFC 5321, RFC 3207, RFC 8314, RFC 4954.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

from aiosmtplib import SMTP, SMTPConnectResponseError, SMTPException, SMTPResponseException
from aiosmtplib.response import SMTPResponse

from mailbot.config.relays import RelayUrl, Tls
from mailbot.delivery.line import Line, RefusedError
from mailbot.mail.status import Effect, Stage, relay_status
from mailbot.mail.verdict import classify


class UnusableError(Exception):
    """The server is there, and mail or a password must not go to it; the words say why."""


@dataclass(frozen=True)
class Server:
    """`helo`: our own name. `context`: whom TLS trusts. `password`: belongs to `url.user`."""

    url: RelayUrl
    helo: str
    context: ssl.SSLContext | None = None
    password: str = field(default="", repr=False)

    async def open(self, at: Callable[[Stage], None]) -> Line:
        """A connection on which MAIL may come next. `at` is told each stage before it begins.

        Raises RefusedError for a reply, UnusableError, SMTPException and OSError for everything else.
        """
        url = self.url
        at(Stage.CONNECT)
        smtp = SMTP(
            hostname=url.host,
            port=url.port,
            local_hostname=self.helo,
            timeout=None,
            use_tls=url.tls is Tls.IMPLICIT,
            start_tls=False,
            tls_context=self.context,
        )
        try:
            await smtp.connect()
            at(Stage.EHLO)
            await _hello(smtp)
            peer = smtp.get_transport_info("peername")[0]
            if url.tls is Tls.STARTTLS or (url.tls is Tls.ABROAD and not at_home(peer)):
                at(Stage.TLS)
                await self._encrypt(smtp)
                at(Stage.EHLO)
                await smtp.ehlo()  # RFC 3207 section 4.2: what was offered before counts no more
            if url.user:
                at(Stage.AUTH)
                await self._login(smtp)
        except BaseException as error:
            smtp.close()
            if (found := _tls_error(error)) is not None:
                at(Stage.TLS)
                raise UnusableError(_tls_words(found)) from error
            if isinstance(error, SMTPConnectResponseError | SMTPResponseException):
                raise RefusedError(SMTPResponse(error.code, error.message)) from error
            raise
        return Line(smtp)

    async def _encrypt(self, smtp: SMTP) -> None:
        if not smtp.supports_extension("starttls"):
            raise UnusableError("it offers no STARTTLS, and mail must not go to it unencrypted")
        await smtp.starttls()

    async def _login(self, smtp: SMTP) -> None:
        if smtp.get_transport_info("sslcontext") is None:
            raise UnusableError("a password must not go out unencrypted")
        if "plain" in smtp.server_auth_methods:
            await smtp.auth_plain(self.url.user, self.password)
        elif "login" in smtp.server_auth_methods:
            await smtp.auth_login(self.url.user, self.password)
        else:
            offered = ", ".join(smtp.server_auth_methods) or "no way to log in"
            raise UnusableError(f"it offers {offered}, and we know AUTH PLAIN and LOGIN")


async def _hello(smtp: SMTP) -> None:
    try:
        await smtp.ehlo()
    except SMTPResponseException as error:
        if error.code // 100 != 5:
            raise
        await smtp.helo()  # RFC 5321 section 3.2: a server without EHLO


def at_home(text: str) -> bool:
    """Whether an IP address is this machine's, or of a network that the internet does not reach."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_private
    return address.is_private


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """The TLS library's own words behind an exception, if it has any."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return f"TLS failed: {error.reason or error}"


ABROAD = b"postmaster@example.com"
"""A recipient that is nobody's and nowhere near (RFC 2606 section 3): who takes mail for it relays for us."""


async def reach(server: Server, senders: Sequence[str], seconds: float) -> tuple[bool, str]:
    """Begins a mail from each of `senders` and takes it back -> whether mail would be taken, and in words how far it
    came. What the relay thinks of the recipient does not count."""
    reached = [Stage.CONNECT]
    name = server.url.name
    try:
        async with asyncio.timeout(seconds):
            line = await server.open(reached.append)
            try:
                for sender in senders:
                    await _begin(line, sender, reached.append)
            finally:
                line.leave()
    except RefusedError as refused:
        return False, f"{name} refuses us: {relay_status(*refused.response)} ({_MEND[reached[-1]]})"
    except UnusableError as error:
        return False, f"{name} cannot be used: {error} ({_MEND[reached[-1]]})"
    except TimeoutError:
        return False, f"{name} does not answer within {seconds:g} s ({_MEND[reached[-1]]})"
    except (SMTPException, OSError) as error:
        return False, f"{name} cannot be reached: {error} ({_MEND[reached[-1]]})"
    encrypted = f"encrypted ({line.tls})" if line.tls else "unencrypted, in our own network"
    offers = [word for word, offered in line.offers.items() if offered]
    login = f", logged in as {server.url.user}" if server.url.user else ""
    return True, f"{name} takes mail, {encrypted}{login}; it offers {', '.join(offers) or 'nothing further'}"


async def _begin(line: Line, sender: str, at: Callable[[Stage], None]) -> None:
    """Raises RefusedError where the relay refuses us."""
    at(Stage.MAIL)
    await line.command(b"MAIL FROM:<%b>\r\n" % sender.encode("ascii"))
    at(Stage.RCPT)
    try:
        await line.command(b"RCPT TO:<%b>\r\n" % ABROAD)
    except RefusedError as refused:
        status = relay_status(*refused.response)
        if classify(status.code, status.enhanced, Stage.RCPT, status.text).effect in (Effect.OUR_FAULT, Effect.SESSION):
            raise
    await line.reset()


_MEND = {
    Stage.CONNECT: "is the mail server running, is relay.url right, does a firewall stand between?",
    Stage.EHLO: "does it want another name of us? See site.host",
    Stage.TLS: "is it the right host, and does relay.ca_file name who signed its certificate?",
    Stage.AUTH: "are the login name in relay.url and the password in relay.netrc right?",
    Stage.MAIL: "may the robot send as addresses.bounce of each society? Does it want a login?",
    Stage.RCPT: "does it relay for this machine, by address or login, with site.host and addresses.bounce as they are?",
}
