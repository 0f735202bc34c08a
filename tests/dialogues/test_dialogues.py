"""Every conversation of this folder, each on a listener of its own; .lmtp speaks LMTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from mailbot.intake.authentication import Authenticator
from mailbot.intake.screening import judge
from mailbot.mail.envelope import Envelope, Purpose
from mailbot.mail.inbound import facts
from mailbot.mail.status import Status
from tests.support.corpus import OWN
from tests.support.dialogue import DIRECTORY, HOST, Conversation, Inbox, conversations, hold, listening
from tests.support.zone import authenticator

ALL = [c for file in sorted(Path(__file__).parent.glob("*.[sl]mtp")) for c in conversations(file)]


class Judging(Inbox):
    """A robot without a memory: looks at senders, judges and answers; keeps what it took over."""

    vouching: Authenticator

    async def receive(self, envelope: Envelope) -> Status:
        inbound = facts(envelope.content)
        known = await self.vouching.check(envelope, inbound)
        route = DIRECTORY.route(envelope.recipients[0].local, envelope.recipients[0].domain)
        verdict = judge(envelope, inbound, route.purpose if route else Purpose.POSTMASTER, OWN, known)
        if not verdict.status.permanent and verdict.status.code < 400:
            self.envelopes.append(envelope)
        return verdict.status

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator["Judging"]:
        inbox = cls()
        inbox.vouching = authenticator(upstream_peers=["192.0.2.0/24"], authserv_id="mx.robot.example")
        try:
            yield inbox
        finally:
            await inbox.vouching.close()


@asynccontextmanager
async def robot(conversation: Conversation) -> AsyncIterator[Inbox]:
    if "judged" in conversation.listener:
        async with Judging.opened() as inbox:
            yield inbox
    else:
        yield Inbox()


async def play(conversation: Conversation, folder: Path) -> None:
    """Holds it against a listener of its own; `folder` has room for a certificate."""
    lmtp = conversation.file.endswith(".lmtp")
    wanted: dict[str, Any] = {key: value for key, value in conversation.listener.items() if key != "judged"}
    if wanted.pop("tls", None) is not None:
        issued = trustme.CA().issue_cert(HOST)
        issued.private_key_and_cert_chain_pem.write_to_path(folder / "all.pem")
        wanted |= {"tls_certificate": folder / "all.pem", "tls_key": folder / "all.pem"}
    if lmtp:
        wanted["lmtp_listen"] = ("127.0.0.1:0",)
    async with robot(conversation) as inbox, listening(inbox, **wanted) as listener:
        await hold(conversation, listener.ports[-1], inbox)
    assert {(e.origin, e.direct) for e in inbox.envelopes} <= {("lmtp", False) if lmtp else ("smtp", True)}


@pytest.mark.parametrize("conversation", ALL, ids=str)
async def test_dialogue(conversation: Conversation, tmp_path: Path) -> None:
    await play(conversation, tmp_path)
