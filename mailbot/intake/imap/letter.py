"""A fetched mail as an `Envelope`: the server that took it wrote down who sent it and for whom it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime

from mailbot.config import Directory, Route
from mailbot.intake.imap.wire import Facts
from mailbot.mail.address import Address, AddressError, parse_mailbox, parse_path
from mailbot.mail.envelope import Envelope, Purpose
from mailbot.mail.fields import header_block, split, unfold, without_comments

MAX_RECIPIENTS = 5
_RECIPIENTS = (b"delivered-to", b"x-original-to", b"to", b"cc")
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.]{1,64}@[A-Za-z0-9.-]{1,253}")


class Letters:
    """What a mailbox's mails are for. `addresses` are those of societies whose mail arrives there."""

    def __init__(
        self, name: str, addresses: Iterable[str], directory: Directory, legacy_domains: frozenset[str]
    ) -> None:
        self._name = name
        self._directory = directory
        self._legacy_domains = legacy_domains
        given = [Address(*one.lower().rpartition("@")[::2]) for one in addresses]
        self._first = given[0]
        self._routes = {route for one in given if (route := directory.route(one.local, one.domain))}
        self._societies = {route.society for route in self._routes}

    def envelope(self, header: bytes, body: bytes, mail: Facts, now: int) -> Envelope:
        """`header`: the header block."""
        fields = [(name.lower(), value) for name, value in split(header_block(header)[: 64 * 1024])]
        sender = next((value for name, value in fields if name == b"return-path"), b"")
        named = (value for wanted in _RECIPIENTS for name, value in fields if name == wanted)
        recipients = tuple(dict.fromkeys(self._ours(named)))[:MAX_RECIPIENTS]
        return Envelope(
            reverse_path(sender, self._legacy_domains),
            recipients or (self._first,),
            header + body,
            now,
            self._name,
            "",
            "imap",
            mail.size,
            direct=False,
            arrived_at=mail.arrived_at,
        )

    def _ours(self, values: Iterable[bytes]) -> Iterator[Address]:
        for value in values:
            for text in _ADDRESS.findall(unfold(value).decode("latin-1")):
                local, _, domain = text.rpartition("@")
                route = self._directory.route(local, domain)
                if route is not None and (route in self._routes or self._beside(route)):
                    yield Address(local, domain.lower())

    def _beside(self, route: Route) -> bool:
        """Reports and questions come along with a society's other mail, whether its mailbox names them or not."""
        return route.society in self._societies and route.purpose in (Purpose.BOUNCE, Purpose.HELP)


def reverse_path(value: bytes, legacy_domains: frozenset[str]) -> Address | None:
    """A Return-Path (RFC 5321 section 4.4). Empty, missing or unreadable is nobody: such a mail is never answered."""
    text = (without_comments(unfold(value).decode("latin-1")) or "").strip()
    try:
        return parse_path(text, legacy_domains) if text.startswith("<") else parse_mailbox(text, legacy_domains)
    except AddressError:
        return None


def written_at(header: bytes) -> int | None:
    """Date as its sender wrote it, ms since the epoch; None where there is none to read."""
    for name, value in split(header_block(header)[: 64 * 1024]):
        if name.lower() == b"date":
            try:
                return int(parsedate_to_datetime(unfold(value).decode("latin-1")).timestamp() * 1000)
            except (ValueError, TypeError, IndexError, OverflowError):
                return None
    return None
