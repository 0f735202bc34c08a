"""The mails of `tests/corpus`, each with the verdict it must get.

A folder holds mails and `verdicts.toml`, one table a mail:

    mail_from   reverse-path; "" is the null sender
    reason      the expected end
    action      "answer", "discard" or "refuse"; where missing: answer for `accepted`, else discard
    tier        "unproved" where little is known about the sender
    answer      the address that is answered, if it matters how it is spelt
    spf, dkim, dmarc    what was found out about the sender; none of the three: senders are not checked
    upstream    true: handed over by a mail server of ours
    purpose     of the address it was sent to; registration where missing
    message_id, subject    as read from the header; "" is none usable
    case        its number in docs/bad-inputs.md
    filler      about as many octets of picture stand for @FILLER@
    note        why
    peer, helo, zone    who connected, and records (name -> text) with which the results above are found out
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mailbot.intake.screening import OwnAddresses, Verdict, judge
from mailbot.mail.address import Address, parse_mailbox
from mailbot.mail.authentication import Authentication, Result, Source
from mailbot.mail.envelope import Envelope, Purpose
from mailbot.mail.inbound import facts

CORPUS = Path(__file__).parents[1] / "corpus"
FOLDERS = ("automatic", "broken", "forwarded", "headers", "lists", "people", "robots", "spoofed")
"""Delivery reports lie beside them in `bounces`, with a table of their own kind."""
ROBOT = parse_mailbox("toroku@yokohama.robot.example")
OWN = OwnAddresses.of(
    [ROBOT, parse_mailbox("toroku@kenpo.example")],
    {"robot.example", "yokohama.robot.example", "bounce.robot.example"},
    {"ids.robot.example"},
)


RECEIVED_AT = 1_795_176_000_000
"""20 November 2026, 12:00 UTC: the day on which nearly all mails of the corpus were written."""


@dataclass(frozen=True)
class Specimen:
    """One mail. `name` is `folder/stem`."""

    name: str
    wanted: Mapping[str, Any]

    def __str__(self) -> str:
        return self.name

    @cached_property
    def content(self) -> bytes:
        """The message as sent."""
        content = (CORPUS / f"{self.name}.eml").read_bytes()
        if "filler" in self.wanted:
            content = content.replace(b"@FILLER@", (b"/9j/" * 19 + b"\r\n") * (self.wanted["filler"] // 78))
        return content

    @property
    def mail_from(self) -> Address | None:
        return parse_mailbox(self.wanted["mail_from"]) if self.wanted["mail_from"] else None

    @property
    def purpose(self) -> Purpose:
        return Purpose(self.wanted.get("purpose", "registration"))

    @property
    def known(self) -> Authentication | None:
        """None where senders are not checked."""
        if not {"spf", "dkim", "dmarc"} & self.wanted.keys():
            return None
        dmarc, spf, dkim = (Result(self.wanted.get(name, "none")) for name in ("dmarc", "spf", "dkim"))
        author = facts(self.content).from_address
        aligned = self.mail_from is not None and author is not None and self.mail_from.domain == author.domain
        return Authentication(dmarc, spf, dkim, Source.CHECKED, path=aligned and spf is Result.PASS)

    @property
    def action(self) -> str:
        """The expected action."""
        return str(self.wanted.get("action", "answer" if self.wanted["reason"] == "accepted" else "discard"))

    def envelope(self, content: bytes | None = None) -> Envelope:
        """As handed over, with the whole message."""
        content = self.content if content is None else content
        return Envelope(
            self.mail_from,
            (ROBOT,),
            content,
            RECEIVED_AT,
            self.wanted.get("peer", "198.51.100.7"),
            self.wanted.get("helo", "mx.example"),
            "smtp",
            len(content),
            direct=not self.wanted.get("upstream", False),
            whole=True,
        )

    def judged(self, content: bytes | None = None) -> Verdict:
        """The verdict on it, or on `content` in its place."""
        envelope = self.envelope(content)
        return judge(envelope, facts(envelope.content), self.purpose, OWN, self.known)


def specimens() -> list[Specimen]:
    """All of them, in the order of the tables. Raises ValueError for a table without mail or a mail without table."""
    found = []
    for file in (CORPUS / folder / "verdicts.toml" for folder in FOLDERS):
        tables = tomllib.loads(file.read_text("utf-8"))
        strays = {path.stem for path in file.parent.glob("*.eml")} ^ tables.keys()
        if strays:
            raise ValueError(f"{file.parent.name}: {', '.join(sorted(strays))}")
        found += [Specimen(f"{file.parent.name}/{name}", wanted) for name, wanted in tables.items()]
    return found
