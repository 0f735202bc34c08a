"""Shape of `mailbot.toml`: what one installation decides once, for all its societies.

Every value has a default that suits a first start on one machine; `config/mailbot.toml` shows them all. Units stand in
the names. Unknown keys are refused, so that a typing error is never a silent default.
"""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from mailbot.config.relays import relay_url

Int = Annotated[int, Field(strict=True)]
"""No text, no `true`."""
PositiveInt = Annotated[Int, Field(ge=1)]


class Section(BaseModel):
    """A table of a configuration file: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def split_endpoint(text: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` -> (host, port). Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("expected host:port, such as 127.0.0.1:2525")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _endpoint(text: str) -> str:
    split_endpoint(text)
    return text


def _inner(text: str) -> str:
    """An endpoint for our own servers only: LMTP is not for port 25, nor for wide networks (RFC 2033 section 5)."""
    host, port = split_endpoint(text)
    try:
        address = ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ValueError(f"expected an IP address and a port, not {text!r}") from None
    if not address.is_private or address.is_unspecified or port == 25:
        raise ValueError(f"expected a loopback or private address and another port than 25, not {text!r}")
    return text


WIDEST = {4: 8, 6: 16}
"""Prefixes of the largest networks that can be meant to be ours."""


def _network(text: str) -> str:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"expected an IP address or a network such as 192.0.2.0/24, not {text!r}") from None
    if network.prefixlen < WIDEST[network.version]:
        widest = f"/{WIDEST[network.version]} for IPv{network.version}"
        raise ValueError(f"expected a network of our own, {widest} at the widest, not {text!r}")
    return text


def _name_server(text: str) -> str:
    """`address`, `address:port` or `[v6]:port`: a name would need a name server to be looked up."""
    try:
        host = split_endpoint(text)[0] if text.startswith("[") or text.count(":") == 1 else text
        ip_address(host)
    except ValueError:
        raise ValueError(f"expected an IP address such as 127.0.0.1 or 127.0.0.1:5353, not {text!r}") from None
    return text


def _vouching(text: str) -> str:
    """A token, mostly a host name (RFC 8601 section 2.2, RFC 2045 section 5.1)."""
    if text and (not re.fullmatch(r"[!-~]+", text) or re.search(r'[()<>@,;:\\"/\[\]?=]', text)):
        raise ValueError("expected one word such as mx.kenpo.example, the first of the field Authentication-Results")
    return text


class SiteSection(Section):
    host: str = "mail.mailbot.example"
    """Name the robot greets with and signs Message-IDs with; its PTR record should say the same."""
    web_url: str = "http://127.0.0.1:8080"
    """Start of every link in every mail. Plain http is for loopback only."""
    data: Path = Path("../var")
    """Folder of the database, the key ring and the DKIM key (relative paths start at the configuration folder)."""
    database: str = ""
    """SQLAlchemy URL; empty means SQLite in the data folder. `postgresql+psycopg://…` where one machine is too few."""
    keys: Path = Path()
    """Key ring file, mode 0600; empty means keys.json in the data folder."""
    templates: Path = Path()
    """Folder of templates; empty means the ones that come with mailbot."""
    fonts: Path = Path()
    """Folder of further fonts (ttf, otf, ttc) for names that the fonts of the printed notice lack."""

    @field_validator("web_url")
    @classmethod
    def _url(cls, text: str) -> str:
        if not text.startswith(("http://", "https://")) or text.count("/") != 2 or text != text.lower():
            raise ValueError("expected https://host or http://127.0.0.1:port, in lower case, without a path")
        return text


class SmtpSection(Section):
    listen: tuple[str, ...] = ("127.0.0.1:2525",)
    """Where mail comes in: `host:port` each."""
    max_message_bytes: PositiveInt = 2 * 1024 * 1024
    """Largest message; blank mails with a photo fit."""
    max_recipients: PositiveInt = 5
    """Recipients of one message; a blank mail has one."""
    max_connections: PositiveInt = 500
    """Connections at a time."""
    max_connections_per_network: PositiveInt = 50
    """Connections at a time from one network (IPv4 /24, IPv6 /48)."""
    max_errors: PositiveInt = 5
    """Refused commands after which a session is ended."""
    max_commands: PositiveInt = 20
    """Commands of one kind a session may send between two accepted mails."""
    command_timeout_seconds: PositiveInt = 60
    """Longest silence between two commands."""
    greeting_timeout_seconds: PositiveInt = 15
    """Longest wait for a first command."""
    session_seconds: PositiveInt = 180
    """A session ends this long after its start or its last accepted mail, whatever it does."""
    min_bytes_per_second: Annotated[Int, Field(ge=0)] = 200
    """A slower DATA is cut."""
    lmtp_listen: tuple[str, ...] = ()
    """Where our own mail server delivers by LMTP: `host:port` each, on loopback or in our own network."""
    trusted_peers: tuple[str, ...] = ()
    """Addresses or networks (CIDR) exempt from the limits above: our own MTA, the load generator of the bench."""
    proxy_peers: tuple[str, ...] = ()
    """Addresses or networks that may speak the PROXY protocol to us."""
    legacy_domains: tuple[str, ...] = ("docomo.ne.jp", "ezweb.ne.jp", "au.com")
    """Domains whose old addresses may have dots anywhere in the local part."""
    tls_certificate: Path = Path()
    """Certificate chain (PEM) for STARTTLS; empty means STARTTLS is not offered."""
    tls_key: Path = Path()
    """Its private key (PEM)."""
    batch: PositiveInt = 64
    """Mails committed in one transaction at the most."""

    _listen = field_validator("listen")(lambda cls, v: tuple(_endpoint(x) for x in v))
    _lmtp = field_validator("lmtp_listen")(lambda cls, v: tuple(_inner(x) for x in v))
    _peers = field_validator("trusted_peers", "proxy_peers")(lambda cls, v: tuple(_network(x) for x in v))


Profile = Literal["rfc8601", "gmail", "m365"]
"""How a mail server writes down its checks: as the standard wants it, or in its own way."""


class AuthenticationSection(Section):
    """Who wrote a blank mail: SPF, DKIM and DMARC."""

    mode: Literal["enforce", "observe", "off"] = "enforce"
    """`enforce`: only senders that nothing speaks against are answered; `observe`: results are noted and change
    nothing; `off`: nobody is checked, which needs `peers`, or a relay of `capture:`."""
    peers: tuple[str, ...] = ()
    """With `off`: addresses or networks whose mail is not checked; mail of all others is, as with `enforce`."""
    upstream_peers: tuple[str, ...] = ()
    """Addresses or networks of our own mail servers in front: SPF cannot be told from their address, so their word is
    read where `authserv_id` names them."""
    authserv_id: str = ""
    """Name in the Authentication-Results of those servers; empty means that none is believed."""
    profile: Profile = "rfc8601"
    """How those servers write it."""
    threads: PositiveInt = 32
    """Mails checked at a time."""
    message_seconds: PositiveInt = 8
    """Longest time for all look-ups of one mail."""
    message_lookups: PositiveInt = 40
    """Most look-ups of one mail."""
    tries: PositiveInt = 3
    """A mail whose look-ups fail this often is taken as one whose sender nobody knows, but never dropped as
    one too many of them."""
    kept_bytes: PositiveInt = 64 * 1024 * 1024
    """Memory for signed mails on their way in, all together; beyond it senders are asked to try again."""

    _peers = field_validator("peers", "upstream_peers")(lambda cls, v: tuple(_network(x) for x in v))
    _name = field_validator("authserv_id")(lambda cls, v: _vouching(v))


class DnsSection(Section):
    servers: tuple[str, ...] = ()
    """DNS servers, `address` or `address:port`; the machine's own when empty. Best is one on this machine that
    validates."""
    query_seconds: PositiveInt = 3
    """Longest wait for one answer."""
    cache_seconds: PositiveInt = 3600
    """Answers are kept this long at most."""
    negative_cache_seconds: PositiveInt = 300
    """That something is not there is kept this long at most."""

    _servers = field_validator("servers")(lambda cls, v: tuple(_name_server(x) for x in v))


class ImapMailbox(Section):
    """A mailbox elsewhere whose blank mails the robot takes in."""

    host: str
    """Name of the IMAP server."""
    port: PositiveInt = 993
    """Its TLS port; unencrypted IMAP is not spoken."""
    user: str
    """Login name."""
    password_file: Path = Path()
    """File (mode 0600) with the password."""
    token_file: Path = Path()
    """File (mode 0600) with an OAuth 2 access token (XOAUTH2), read anew at each login; something else keeps it
    fresh."""
    ca_file: Path = Path()
    """Certificates (PEM) to trust instead of the machine's."""
    folder: str = "INBOX"
    """The folder that is read; no other is."""
    addresses: Annotated[tuple[str, ...], Field(min_length=1)]
    """Addresses of societies whose mail arrives here. The first stands for mails that name none of them. Bounce and
    help addresses of the same societies need not be listed."""
    done_folder: str = ""
    """Where answered mails are moved; empty leaves them in place, marked."""
    ignored_folder: str = ""
    """Where mails that deserve no answer are moved; empty leaves them in place, marked."""
    catch_up_hours: PositiveInt = 24
    """Older mails are not answered after an outage; they stay where they are, and staff find them listed."""
    poll_seconds: PositiveInt = 60
    """How often the folder is looked at, whatever the server announces."""
    idle_minutes: Annotated[Int, Field(ge=1, le=29)] = 9
    """IDLE is ended and begun again this often (RFC 2177 allows 29 minutes, home routers 5 to 15)."""
    batch: Annotated[Int, Field(ge=1, le=50)] = 50
    """Mails fetched at once."""
    authserv_id: str = ""
    """Name in the Authentication-Results of the provider; empty means that none is believed."""
    profile: Profile = "rfc8601"
    """How the provider writes it."""

    _name = field_validator("authserv_id")(lambda cls, v: _vouching(v))

    @property
    def rest_seconds(self) -> int:
        """The longest time between two looks at the folder."""
        return min(self.poll_seconds, self.idle_minutes * 60)

    @property
    def place(self) -> tuple[str, str, str]:
        """Host, user and folder, written one way."""
        return self.host.lower(), self.user, one_folder(self.folder)


def one_folder(name: str) -> str:
    """INBOX has that name in any letter case (RFC 3501 section 5.1)."""
    return "INBOX" if name.upper() == "INBOX" else name


class WebSection(Section):
    listen: str = "127.0.0.1:8080"
    """Where the members' pages are served: `host:port`."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks whose X-Forwarded-For is believed: the proxy in front."""
    idle_minutes: PositiveInt = 15
    """A login ends after this much rest."""
    absolute_minutes: PositiveInt = 60
    """A login ends this long after it began, whatever it does."""
    password_hash_memory_kib: Annotated[Int, Field(ge=8)] = 19456
    """Memory of one argon2id hash (time cost 2, parallelism 1)."""

    _listen = field_validator("listen")(lambda cls, v: _endpoint(v))
    _proxies = field_validator("trusted_proxies")(lambda cls, v: tuple(_network(x) for x in v))


class OpsSection(Section):
    listen: str = "127.0.0.1:9090"
    """Where the ops pages, metrics and health checks are served: `host:port`, never the members' port."""
    token_file: Path = Path()
    """File with the token the ops pages ask for; empty means ops.token in the data folder, made at the first start."""

    _listen = field_validator("listen")(lambda cls, v: _endpoint(v))


class RelaySection(Section):
    url: str = "smtp://127.0.0.1:25"
    """Where mail goes out: `smtp://host:port` (unencrypted in our own network only), `smtp+starttls://user@host:port`,
    `smtps://user@host:port`, or `capture:` which keeps it in memory (demo and tests)."""
    fallback: tuple[str, ...] = ()
    """Further relays, in order, for when the first cannot be used."""
    netrc: Path = Path()
    """File (mode 0600) with the passwords: `machine HOST login USER password WORD` each."""
    ca_file: Path = Path()
    """Certificates (PEM) to trust instead of the machine's."""
    connections: PositiveInt = 8
    """Connections kept to the relay at a time."""
    connections_per_domain: Annotated[Int, Field(ge=0)] = 0
    """Mails to one mail domain on their way at a time; 0 leaves one connection to the others."""
    timeout_seconds: PositiveInt = 30
    """Longest wait for one answer of the relay; with `fallback` ten seconds at the most."""

    @field_validator("url")
    @classmethod
    def _url(cls, text: str) -> str:
        if text != "capture:":
            relay_url(text)
        return text

    @field_validator("fallback")
    @classmethod
    def _further(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            relay_url(text)
        return texts


class CourierSection(Section):
    batch: PositiveInt = 50
    """Mails claimed at once."""
    poll_ms: PositiveInt = 1000
    """How often the queue is looked at when nothing wakes the courier."""
    drain_seconds: PositiveInt = 10
    """How long a stopping robot waits for mails already on the wire."""


class DkimSection(Section):
    selector: str = "mailbot1"
    """DNS label of the RSA key that signs: `<selector>._domainkey.<domain>`."""
    ed25519_selector: str = ""
    """The same for a second signature by an Ed25519 key; without one there is none."""
    folder: Path = Path()
    """Folder of the private keys, dkim-<selector>.pem (mode 0600). A start makes them where the folder holds none at
    all, and else calls what is missing a problem. Empty means the data folder."""

    @field_validator("selector", "ed25519_selector")
    @classmethod
    def _label(cls, text: str, known: ValidationInfo) -> str:
        if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", text) and (text or known.field_name == "selector"):
            raise ValueError("expected a name such as mailbot1: a-z, 0-9 and '-' inside, 63 at the most")
        return text

    @field_validator("ed25519_selector")
    @classmethod
    def _another(cls, text: str, known: ValidationInfo) -> str:
        if text and text == known.data.get("selector"):
            raise ValueError("expected another name than dkim.selector: each key has a record of its own")
        return text

    def file(self, selector: str) -> Path:
        """Where the private key of this selector lies."""
        return self.folder / f"dkim-{selector}.pem"


class BudgetSection(Section):
    """How many automatic answers are given (RFC 3834 section 2). A finished registration gives its address's back."""

    address_per_minute: PositiveInt = 1
    """Answers of one society to one address in a minute; all societies together give twice as many at the most, here
    and below."""
    address_per_hour: PositiveInt = 3
    """The same in an hour."""
    address_per_day: PositiveInt = 6
    """The same in a day."""
    domain_per_hour: PositiveInt = 2000
    """Answers to one mail domain in an hour. Raise it for carrier domains: most members share three."""
    other_domain_percent: Annotated[Int, Field(ge=1, le=100)] = 50
    """Share of a society's cap that one mail domain with all names below it may use, where it is none of the large
    mailbox providers, of `smtp.legacy_domains` or of the society's `entry.domains`; and that one network may use for
    such domains: so no stranger uses it up."""
    network_per_hour: PositiveInt = 2000
    """Answers to mail from one network in an hour."""
    unproved_per_hour: PositiveInt = 1
    """Answers in an hour of all societies to one address whose domain says nothing about its senders."""
    unproved_per_day: PositiveInt = 2
    """The same in a day."""
    unproved_percent: Annotated[Int, Field(ge=1, le=100)] = 20
    """Share of a society's cap that all such addresses together may use, one domain and one network a quarter of it;
    beyond it they get no answer."""
    society_per_hour_min: PositiveInt = 300
    """Answers of one society in an hour, at least."""
    society_per_hour_percent: PositiveInt = 10
    """A society's cap an hour is the larger of the minimum and this share of its not yet registered roster."""
    link_failures_per_10_minutes: PositiveInt = 20
    """Wrong or dead links from one network in ten minutes; further ones are answered 429."""
    web_requests_per_minute: PositiveInt = 120
    """Submitted forms from one network in a minute."""
    login_failures_per_hour: PositiveInt = 10
    """Wrong passwords for one login ID from one network in an hour; then that pair pauses for half an hour."""


class RetentionSection(Section):
    inbox_days: PositiveInt = 30
    """Facts of incoming mails are kept this long."""
    outbox_days: PositiveInt = 90
    """Settled mails and the relay's words about them are kept this long."""
    sessions_days: PositiveInt = 1
    """Ended logins and registrations are kept this long after their end."""
    audit_days: PositiveInt = 365
    """The audit record is kept this long."""
    links_days: PositiveInt = 30
    """Links are kept this long after their end, so that a late click gets a page that explains."""
    suppression_days: PositiveInt = 400
    """Addresses that mail did not reach are remembered this long after the last time."""
    help_days: PositiveInt = 90
    """Mails to a help desk are kept this long after staff have dealt with them."""


class LogSection(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important line that is written."""
    format: Literal["json", "text"] = "json"
    """`json`: one object a line, for machines; `text`: for people."""


class Site(Section):
    """All of `mailbot.toml`, with paths made absolute."""

    site: SiteSection = SiteSection()
    smtp: SmtpSection = SmtpSection()
    authentication: AuthenticationSection = AuthenticationSection()
    dns: DnsSection = DnsSection()
    web: WebSection = WebSection()
    ops: OpsSection = OpsSection()
    relay: RelaySection = RelaySection()
    courier: CourierSection = CourierSection()
    dkim: DkimSection = DkimSection()
    budgets: BudgetSection = BudgetSection()
    retention: RetentionSection = RetentionSection()
    log: LogSection = LogSection()
    imap: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")], ImapMailbox] = Field(default_factory=dict)
    """Mailboxes elsewhere, `[imap.NAME]` each; NAME stands in the log and in the ledger of what was fetched."""
