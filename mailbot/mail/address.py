"""Mail addresses: the strict path of SMTP, the forgiving field of a web form, and the dialect of Japanese carriers.

An `Address` can only hold what is safe on the wire and in a header: its constructor is the last line of defence. A
quoted local part is accepted where its content is atext and dots, which is what old carrier addresses need; quoted
spaces, commas, at-signs and brackets belong to no member, and every parser further on reads them differently.

Raises `AddressError`, whose `problem` says what is wrong. Standards: RFC 5321 sections 4.1.2 and 4.5.3.1, RFC 5890.
"""

import re
import unicodedata
from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum

import idna

# Until 2009 these carriers gave out local parts with dots in any place (`a..b.`); many are still in use.
LEGACY_DOMAINS: frozenset[str] = frozenset({"docomo.ne.jp", "ezweb.ne.jp", "au.com"})

# RFC 5321 section 2.4 leaves the case of a local part to its domain. These are known to ignore it.
CASE_FOLDING_DOMAINS: frozenset[str] = LEGACY_DOMAINS | {
    "softbank.ne.jp", "i.softbank.jp", "ymobile.ne.jp", "ymail.ne.jp", "uqmobile.jp", "rakumail.jp", "yahoo.co.jp",
    "ybb.ne.jp", "gmail.com", "googlemail.com", "icloud.com", "me.com", "mac.com", "outlook.com", "outlook.jp",
    "hotmail.com", "hotmail.co.jp", "live.jp", "live.com", "msn.com",
}  # fmt: skip

MAX_LOCAL = 64  # octets, RFC 5321 section 4.5.3.1.1
MAX_DOMAIN = 253  # octets: 255 on the DNS wire
MAX_ADDRESS = 254  # octets: a path is 256 with its brackets, RFC 5321 section 4.5.3.1.3


class AddressProblem(StrEnum):
    """What is wrong with an address; stable, pages and SMTP replies are chosen by it."""

    EMPTY = "empty"
    NO_AT = "no-at"
    BAD_DOMAIN = "bad-domain"
    BAD_LOCAL = "bad-local"
    TOO_LONG = "too-long"
    DOUBLE = "double"
    NO_BRACKETS = "no-brackets"
    NOT_ASCII = "not-ascii"


class AddressError(ValueError):
    """An address that cannot be used; `problem` says why. Holds none of the input: it may be hostile or personal."""

    def __init__(self, problem: AddressProblem) -> None:
        super().__init__(problem.value)
        self.problem = problem


_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.]+").fullmatch
_DOMAIN = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)++(?![0-9]+\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
).fullmatch
_ROUTE = re.compile(r"@[A-Za-z0-9.-]++(?:,@[A-Za-z0-9.-]++)*+:")
_ANY_SPACE = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]+")
# What Japanese keyboards offer where a hyphen was meant.
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−ーｰ", "-"))


def _irregular(local: str) -> bool:
    """True where the dots break RFC 5321's Dot-string, so that the local part needs quotes."""
    return ".." in local or local[0] == "." or local[-1] == "."


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox. `local` is unquoted, `domain` is lower-case LDH (IDNA A-labels)."""

    local: str
    domain: str

    def __post_init__(self) -> None:
        local, domain = self.local, self.domain
        if len(local) > MAX_LOCAL or len(domain) > MAX_DOMAIN or len(local) + len(domain) >= MAX_ADDRESS:
            raise AddressError(AddressProblem.TOO_LONG)
        # '=?' opens an encoded-word: mail libraries decode it inside addresses and so grow new ones.
        if not _LOCAL(local) or "=?" in local:
            raise AddressError(AddressProblem.BAD_LOCAL)
        if not _DOMAIN(domain):
            raise AddressError(AddressProblem.BAD_DOMAIN)

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """Canonical form, never quoted: for people, headers and the database."""
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        """What two spellings of one mailbox share: dots and +tags stay, case is folded only where the domain does."""
        local = self.local.lower() if self.domain in CASE_FOLDING_DOMAINS else self.local
        return f"{local}@{self.domain}"

    @property
    def wire(self) -> str:
        """What goes between the brackets of RCPT TO: quotes only where needed, and never towards a carrier."""
        return self.wire_for(LEGACY_DOMAINS)

    @property
    def rfc_wire(self) -> str:
        """The spelling RFC 5321 wants: quoted wherever the dots are irregular."""
        return self.wire_for(frozenset())

    def wire_for(self, legacy_domains: Set[str]) -> str:
        """As `wire`, for another set of domains that take irregular dots unquoted."""
        if _irregular(self.local) and self.domain not in legacy_domains:
            return f'"{self.local}"@{self.domain}'
        return self.text


def parse_mailbox(text: str, legacy_domains: Set[str] = LEGACY_DOMAINS) -> Address:
    """`local@domain`, without brackets, as RFC 5321 section 4.1.2 Mailbox or in a carrier's dialect."""
    if not text:
        raise AddressError(AddressProblem.EMPTY)
    if not text.isascii():
        raise AddressError(AddressProblem.NOT_ASCII)
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressError(AddressProblem.NO_AT)
    domain = domain.lower()
    if local[:1] == '"':
        if len(local) < 3 or local[-1] != '"':
            raise AddressError(AddressProblem.BAD_LOCAL)
        # A quoted-pair only hides a character that may stand alone; anything that needs one fails the constructor.
        return Address(re.sub(r"\\(.)", r"\1", local[1:-1]), domain)
    if not local or (_irregular(local) and domain not in legacy_domains):
        raise AddressError(AddressProblem.BAD_LOCAL)
    return Address(local, domain)


def stored(text: str) -> Address:
    """An address from `Address.text`, as the database holds it: whatever was accepted once is read again."""
    local, _, domain = text.rpartition("@")
    return Address(local, domain)


def split_argument(argument: bytes) -> tuple[bytes, bytes]:
    """The argument of MAIL or RCPT as (path with brackets, ESMTP parameters). No accepted path holds a '>'."""
    argument = argument.strip(b" ")
    path, bracket, parameters = argument.partition(b">")
    return (path + bracket, parameters.strip(b" ")) if bracket else (argument, b"")


def parse_path(argument: bytes | str, legacy_domains: Set[str] = LEGACY_DOMAINS) -> Address | None:
    """`<mailbox>` of MAIL FROM or RCPT TO, byte for byte; None for the null reverse-path `<>`."""
    text = argument if isinstance(argument, str) else argument.decode("latin-1")
    if text[:1] != "<" or text[-1:] != ">":
        raise AddressError(AddressProblem.NO_BRACKETS)
    if text == "<>":  # RFC 5321 section 4.5.5
        return None
    text = text[1:-1]
    # RFC 5321 section 4.1.1.3 and appendix C: a source route is accepted and ignored.
    if text[:1] == "@" and (route := _ROUTE.match(text)):
        text = text[route.end() :]
    return parse_mailbox(text, legacy_domains)


def is_bare_postmaster(argument: bytes) -> bool:
    """`<Postmaster>`, the one recipient that needs no domain (RFC 5321 section 4.5.1)."""
    return argument.lower() == b"<postmaster>"


def parse_typed(text: str, legacy_domains: Set[str] = LEGACY_DOMAINS) -> Address:
    """An address typed by a person: full-width letters, stray spaces and long dashes are forgiven."""
    text = unicodedata.normalize("NFKC", text[: 4 * MAX_ADDRESS]).strip()
    if text.count("@") > 1:
        raise AddressError(AddressProblem.DOUBLE)
    text = _ANY_SPACE.sub("", text)
    if (plain := text.translate(_DASHES)).isascii():
        text = plain
    if not text:
        raise AddressError(AddressProblem.EMPTY)
    local, at, domain = text.partition("@")
    if not at:
        raise AddressError(AddressProblem.NO_AT)
    if not local.isascii():
        raise AddressError(AddressProblem.BAD_LOCAL)
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            raise AddressError(AddressProblem.BAD_DOMAIN) from None
    return parse_mailbox(f"{local}@{domain}", legacy_domains)


# RFC 3834 section 2, RFC 5230 section 4.6: mailboxes of programs and lists, which no automatic answer may reach.
_NEVER_ANSWER = re.compile(
    r"mail(?:er)?-daemon|postmaster|root|abuse|listserv|majordomo|(?:no|do[-_.]?not)[-_.]?reply(?:[-+_.=].*)?"
    r"|bounces?(?:[-+.=].*)?"
    r"|owner-.*|.*-(?:request|owner|bounces?)|srs[01][-+=].*|prvs=.*",
    re.DOTALL,
).fullmatch
_REWRITTEN = re.compile(r"srs[01][-+=].*|prvs=.*", re.DOTALL).fullmatch


def never_answer(address: Address) -> bool:
    """True where the local part names a program, a list or a role that no automatic reply may be sent to."""
    return _NEVER_ANSWER(address.local.lower()) is not None


def rewritten(address: Address) -> bool:
    """True for a return path that a forwarder (SRS) or a server of the sender's (BATV) made of a person's own."""
    return _REWRITTEN(address.local.lower()) is not None
