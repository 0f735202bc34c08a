"""Senders of the corpus as the program itself finds them out, from their signatures and the records of `zone.toml`."""

import pytest

from mailbot.intake.screening import judge
from mailbot.mail.authentication import Result
from mailbot.mail.inbound import facts
from tests.support.corpus import OWN, Specimen, specimens
from tests.support.zone import authenticator

SILENT = {"null-sender", "several-from", "automatic-reply", "own-address", "broken-headers"}
"""Reasons for which nobody is asked about the sender."""
ASKED = [
    mail
    for mail in specimens()
    if mail.name.startswith("spoofed/") and mail.wanted["reason"] not in SILENT and "upstream" not in mail.wanted
]


def test_there_are_many() -> None:
    assert len(ASKED) > 40


@pytest.mark.parametrize("mail", ASKED, ids=str)
async def test_what_is_found_out(mail: Specimen) -> None:
    vouching = authenticator()
    envelope = mail.envelope()
    inbound = facts(envelope.content)
    try:
        known = await vouching.check(envelope, inbound)
    finally:
        await vouching.close()
    wanted = mail.known
    assert known is not None
    assert wanted is not None
    assert (known.spf, known.dmarc) == (wanted.spf, wanted.dmarc), known.words
    # a signature that fails says no more than none (RFC 6376 section 6.1)
    assert _counts(known.dkim) == _counts(wanted.dkim), known.words
    assert judge(envelope, inbound, mail.purpose, OWN, known) == mail.judged()
    assert known.words.isascii()
    assert known.words.isprintable()
    assert len(known.words) <= 200


def _counts(dkim: Result) -> Result:
    return dkim if dkim in (Result.PASS, Result.TEMPERROR) else Result.NONE
