"""Whether mail from the domain of a society's own address is a member's or our own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mailbot.config.site import ImapMailbox
from mailbot.intake.screening import Reason
from tests.contract.test_reception import REGISTRATION, mail, queued, reasons, receiving
from tests.support.factory import World

MEMBER = f"hanako@{REGISTRATION.partition('@')[2]}"


@pytest.mark.parametrize(("boxed", "sender", "reason"), [
    (False, MEMBER, Reason.OWN_ADDRESS),
    (True, MEMBER, Reason.ACCEPTED),
    (True, REGISTRATION, Reason.OWN_ADDRESS),
])  # fmt: skip
async def test_members_may_share_the_domain_of_a_mailbox(
    here: World, boxed: bool, sender: str, reason: Reason
) -> None:
    """A mailbox may be one of a company's, or of a large provider; a domain that we receive for is ours alone."""
    mailbox = ImapMailbox(host="h", user="u", password_file=Path("p"), addresses=(REGISTRATION,))
    site = here.ctx.settings.site.model_copy(update={"imap": {"desk": mailbox} if boxed else {}})
    ctx = replace(here.ctx, settings=replace(here.ctx.settings, site=site))
    async with receiving(ctx) as receive:
        await receive(mail(sender))
    assert await reasons(ctx) == {reason: 1}
    assert await queued(ctx) == ([sender] if reason is Reason.ACCEPTED else [])
