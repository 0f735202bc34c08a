"""What an intake hands to the funnel: one message, who sent it, for whom, and where it came from."""

from dataclasses import dataclass
from enum import StrEnum

from mailbot.mail.address import Address


class Purpose(StrEnum):
    """What an address of ours is for. Only REGISTRATION and HELP are ever answered automatically."""

    REGISTRATION = "registration"
    HELP = "help"
    BOUNCE = "bounce"
    NO_REPLY = "no-reply"
    POSTMASTER = "postmaster"
    ABUSE = "abuse"


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message as handed over (RFC 5321 section 2.3.1).

    `reverse_path`: None is the null sender. `content`: the header block; for HELP and BOUNCE with the first 64 KiB of
    the body at least; all of the message where `whole`. `received_at`: milliseconds since the epoch. `peer`: IP
    address, or the name of the mailbox it was fetched from. `origin`: "smtp", "lmtp" or "imap". `size`: octets as
    sent. `direct`: the peer is the sender's own server and can still be refused; else the mail came through a server
    of ours or a mailbox. `arrived_at`: when a mailbox took it in, where that is known and `received_at` may be later.
    """

    reverse_path: Address | None
    recipients: tuple[Address, ...]
    content: bytes
    received_at: int
    peer: str
    helo: str
    origin: str
    size: int
    direct: bool = True
    whole: bool = False
    arrived_at: int | None = None
