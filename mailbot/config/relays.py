"""How a relay is named: `smtp://host:port`, `smtp+starttls://[user@]host:port` or `smtps://[user@]host:port`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote


class Tls(StrEnum):
    """When TLS begins, as the URL's scheme says it."""

    ABROAD = "smtp"
    """With STARTTLS where the server's address is neither loopback nor private; plain at home."""
    STARTTLS = "smtp+starttls"
    IMPLICIT = "smtps"


_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


@dataclass(frozen=True, slots=True)
class RelayUrl:
    """`user`: login name, empty where the relay asks for none."""

    tls: Tls
    host: str
    port: int
    user: str = ""

    @property
    def name(self) -> str:
        """What staff call it: no login name."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def relay_url(text: str) -> RelayUrl:
    """Raises ValueError with what was expected."""
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in set(Tls):
        raise ValueError("expected smtp://host:port, smtp+starttls://user@host:port or smtps://user@host:port")
    user, at, endpoint = rest.rpartition("@")
    host, colon, port = endpoint.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65535:
        raise ValueError(f"expected a port behind the host, such as {scheme}://relay.example:{_PORTS[scheme]}")
    if not all(33 <= ord(letter) < 127 and letter not in "/?#" for letter in host):
        raise ValueError("expected a host's name or address, without a path")
    user = unquote(user)
    if at and (not user or not user.isprintable() or ":" in user):
        raise ValueError("expected a login name before the @ and no password: that is kept in the file relay.netrc")
    if user and scheme == Tls.ABROAD:
        raise ValueError("a password goes out over TLS only: expected smtp+starttls:// or smtps://")
    return RelayUrl(Tls(scheme), host.removeprefix("[").removesuffix("]"), int(port), user)
