"""The built-in mailbox: what the robot sent, as people read it."""

from __future__ import annotations

import asyncio
import base64
import re
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.header import decode_header, make_header

from mailbot.delivery.relay import Captured, CaptureRelay

_URL = re.compile(r"^https?://\S+$", re.MULTILINE)


@dataclass(frozen=True)
class Mail:
    """One mail in somebody's mailbox."""

    number: int
    to: str
    sender: str
    subject: str
    body: str
    at: int
    signed: bool

    @property
    def url(self) -> str | None:
        found = _URL.search(self.body)
        return found[0] if found else None

    @property
    def parts(self) -> list[tuple[str, bool]]:
        """(line, is a URL)."""
        return [(line, bool(_URL.fullmatch(line))) for line in self.body.splitlines()]


def read(number: int, captured: Captured) -> Mail:
    message = message_from_bytes(captured.message, policy=policy.compat32)
    body = base64.b64decode(str(message.get_payload())).decode("utf-8").replace("\r\n", "\n")
    return Mail(
        number,
        captured.recipient.text,
        # policy.default puts a blank between two encoded-words (against RFC 2047 section 6.2)
        str(make_header(decode_header(message["From"]))),
        str(make_header(decode_header(message["Subject"]))),
        body,
        captured.at,
        "DKIM-Signature" in message,
    )


def mails(relay: CaptureRelay, to: str | None = None) -> list[Mail]:
    """Newest last."""
    found = [read(number, one) for number, one in enumerate(relay.messages)]
    return [mail for mail in found if to is None or mail.to == to]


async def wait_for(relay: CaptureRelay, to: str, subject: str, after: int, seconds: float = 15) -> Mail:
    """The first mail to `to` whose subject holds `subject`, among those after number `after`. Raises TimeoutError."""

    def found() -> Mail | None:
        return next((m for m in mails(relay, to) if m.number >= after and subject in m.subject), None)

    async with asyncio.timeout(seconds), relay.arrived:
        while (mail := found()) is None:
            await relay.arrived.wait()
        return mail


def field(mail: Mail, label: str) -> str:
    """What stands behind `label：` in the mail. Raises LookupError."""
    found = re.search(rf"^{re.escape(label)}\s*[：:]\s*(\S+)", mail.body, re.MULTILINE)
    if found is None:
        raise LookupError(f"no {label} in the mail {mail.subject}")
    return found[1]
