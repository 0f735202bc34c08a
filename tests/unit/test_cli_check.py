"""`mailbot check`: ways in whose senders nobody vouches for are named, and addresses without a way in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mailbot.cli.check import _unvouched, _without_a_way_in
from mailbot.config.site import AuthenticationSection, ImapMailbox, RelaySection, Site, SmtpSection
from mailbot.config.society import Addresses

BOX = {"host": "imap.example", "user": "a", "password_file": Path("p"), "addresses": ("a@b.example",)}
FRONT = ("192.0.2.0/24",)


@pytest.mark.parametrize(
    ("authentication", "imap", "said"),
    [
        ({}, {}, []),
        ({"upstream_peers": FRONT}, {}, ["authentication.authserv_id is empty"]),
        ({"upstream_peers": FRONT, "authserv_id": "mx.kenpo.example"}, {}, []),
        ({}, {"one": {**BOX}}, ["imap.one.authserv_id is empty"]),
        ({}, {"one": {**BOX, "authserv_id": "mx.google.com"}}, []),
        (
            {"upstream_peers": FRONT},
            {"one": {**BOX}, "two": {**BOX}},
            ["authentication.authserv_id", "imap.one", "imap.two"],
        ),
    ],
)
def test_who_vouches(authentication: dict[str, Any], imap: dict[str, dict[str, Any]], said: list[str]) -> None:
    site = Site(
        authentication=AuthenticationSection(**authentication),
        imap={name: ImapMailbox(**box) for name, box in imap.items()},
    )
    found = _unvouched(site)
    assert len(found) == len(said)
    for words, start in zip(found, said, strict=True):
        assert words.startswith(start)
        assert "every member counts as unproved" in words


@pytest.mark.parametrize(
    ("authentication", "start"),
    [
        ({"mode": "off", "peers": FRONT}, "mail from 192.0.2.0/24 is not checked (mode off)"),
        ({"mode": "observe", "upstream_peers": FRONT}, "what SPF, DKIM and DMARC say decides nothing (mode observe)"),
    ],
)
def test_where_a_forged_sender_counts_as_the_member(authentication: dict[str, Any], start: str) -> None:
    (words,) = _unvouched(Site(authentication=AuthenticationSection(**authentication)))
    assert words.startswith(start)
    assert "a forged sender counts as the member" in words
    assert "unproved" not in words


DOORS = {"smtp": SmtpSection(listen=("127.0.0.1:2525",))}
SHUT = {"smtp": SmtpSection(listen=())}


@pytest.mark.parametrize(
    ("site", "boxes", "lost"),
    [
        (DOORS, [], []),
        (SHUT, [], ["bounce@b.example", "help@c.example"]),
        ({"smtp": SmtpSection(listen=(), lmtp_listen=("127.0.0.1:2424",))}, [], []),
        # the provider takes all mail of that domain, so none comes by the door
        (DOORS, [("another@b.example",)], ["bounce@b.example"]),
        (SHUT, [("another@b.example",)], ["bounce@b.example", "help@c.example"]),
        # reports and questions come along with the blank mails
        (DOORS, [("another@b.example",), ("Touroku@B.example",)], []),
        (SHUT, [("touroku@b.example",)], []),
    ],
)
def test_an_address_without_a_way_in_is_named(
    site: dict[str, Any], boxes: list[tuple[str, ...]], lost: list[str]
) -> None:
    addresses = {"robot": "info@b.example", "bounce": "bounce@b.example", "help": "help@c.example"}
    addresses["registration"] = "touroku@b.example"
    society = SimpleNamespace(id="b", addresses=Addresses.model_validate(addresses))
    imap = {f"box{n}": ImapMailbox.model_validate({**BOX, "addresses": listed}) for n, listed in enumerate(boxes)}
    settings: Any = SimpleNamespace(site=Site(**site, imap=imap), societies={"b": society})
    found = list(_without_a_way_in(settings))
    assert [word for words in found for word in words.split() if "@" in word] == lost


def test_a_demo_is_not_warned() -> None:
    off = AuthenticationSection(mode="off", peers=("127.0.0.0/8",))
    assert _unvouched(Site(authentication=off, relay=RelaySection(url="capture:"))) == []
