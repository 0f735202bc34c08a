"""A society's file, looked at by staff: how many members, what its QR code says, which of its rules weaken security.

Everything here follows from the file; no society is known by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from sqlalchemy import case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import HelpCase, Site, Society, Start
from mailbot.credentials import Format
from mailbot.registration import people
from mailbot.store.tables import member

MIN_PRINTED_COMBINATIONS = 10**9
"""Fewer possible passwords than this on paper are called few: 8 digits are 10^8."""
ADVISED_LENGTH = 12
ADVISED_PIN_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Warning:
    """A rule of a society's file that is weaker than advised. `rule` is stable, `text` says why it matters."""

    rule: str
    text: str


async def counts(tx: AsyncConnection, now: int | None = None) -> dict[str, tuple[int, int]]:
    """Society -> (members on the roster who have not left, those of them who are registered).

    Without `now`, a leaving date in the future counts as left.
    """
    nobody_left = member.c.left_on.is_(None)
    here = nobody_left if now is None else or_(nobody_left, member.c.left_on > people.today(now))
    registered = func.sum(case((member.c.state == "registered", 1), else_=0))
    rows = await tx.execute(select(member.c.society, func.count(), registered).where(here).group_by(member.c.society))
    return {society: (int(total), int(done)) for society, total, done in rows}


def qr_content(society: Society, site: Site, login: bool = False) -> str:
    """What the QR code on a notice holds: a `mailto:` URI (RFC 6068) for a blank mail, or the login page's URL.

    Raises ValueError, in words, where the society takes no blank mails.
    """
    if login:
        return f"{site.site.web_url}/{society.id}/login"
    if society.addresses.registration is None:
        raise ValueError(
            f"{society.id} has no addresses.registration, so no blank mail can start a registration: use --login"
        )
    local, _, domain = society.addresses.registration.rpartition("@")
    # RFC 6068 section 2: what means something in a URI is percent-encoded; phones read a plain + as it stands
    return f"mailto:{quote(local, safe='!$*+')}@{domain}"


# --- lint -----------------------------------------------------------------------------------------------------------


def warnings(society: Society) -> list[Warning]:
    """Rules of the file that weaken security or surprise members, each with its reason."""
    return [Warning(rule, text) for rule, text in (*_password_rules(society), *_other_rules(society))]


def _password_rules(society: Society) -> Iterator[tuple[str, str]]:
    rule = society.password
    if rule.require:
        yield "password.require", (
            f"asks for {', '.join(rule.require)}: NIST SP 800-63B section 3.1.1.2 says not to impose composition "
            "rules; people answer them with Password1. A longer minimum protects better."
        )
    if rule.min_length < ADVISED_LENGTH:
        yield "password.min_length", (
            f"{rule.min_length} characters are few: NIST SP 800-63B asks for 15 where the password alone opens the "
            f"account, and for 8 at the very least; mailbot's own default is {ADVISED_LENGTH}."
        )
    if rule.allowed_characters is not None:
        yield "password.allowed_characters", (
            "only some signs are allowed: NIST SP 800-63B section 3.1.1.2 says to take every printing character, "
            "blanks and Unicode too; password managers stumble over such lists."
        )
    if rule.expires_days is not None:
        yield "password.expires_days", (
            f"passwords run out after {rule.expires_days} days: NIST SP 800-63B section 3.1.1.2 says to ask for a "
            "change only after a leak; people add 1 to the old one."
        )


def _other_rules(society: Society) -> Iterator[tuple[str, str]]:
    fmt = Format.parse(society.temporary.password)
    possible = len(fmt.letters) ** fmt.length
    if possible < MIN_PRINTED_COMBINATIONS:
        yield "temporary.password", (
            f"{fmt} has only {possible:,} possibilities: safe only through the pause after wrong tries; easy:10 is as "
            "quick to type."
        )
    reissue = society.reissue
    if reissue.login_id and reissue.temporary_password:
        yield "reissue", (
            "one mail carries the login ID and a temporary password: whoever reads the mailbox has the account (the "
            "OWASP Forgot Password Cheat Sheet advises a link alone)."
        )
    if society.login.pin is not None and society.login.pin.digits < ADVISED_PIN_DIGITS:
        yield "login.pin.digits", (
            f"{society.login.pin.digits} digits are few: ASVS 6.5.4 asks for 20 bits, which are {ADVISED_PIN_DIGITS} "
            "digits; safe only through the pause after wrong tries."
        )
    for name, journey in society.journeys.items():
        if Start.PAGE in journey.starts and "confirm-by-mail" not in journey.steps:
            yield f"journeys.{name}.starts", (
                "starts without a mail: the address on file is believed unproved, and the paper alone registers."
            )
    if society.formula is not None:
        more = "" if society.formula.ask_kana else " `ask_kana` asks for the name as well, which is much harder."
        yield "formula", (
            "login ID and first password follow from symbol, number and birth date, which family, employer and doctors "
            f"know: anybody of them can register in the member's name. Safe only through the limits.{more}"
        )
    digit_free, printed = society.login_id.digit_free, Format.parse(society.temporary.login_id)
    if society.login_id.keep_printed and digit_free is not None and printed.length == digit_free.length:
        yield "login_id.keep_printed", (
            f"the printed ID may be kept, but digit_free refuses most IDs of {digit_free.length} characters: members "
            "will find their printed ID refused."
        )
    yield from (
        (f"profile.disclosure.{choice.id}", "shown to the household unless the member says no: ask first.")
        for choice in society.profile.disclosure
        if choice.default
    )
    if not society.left_closes_login:
        yield "left_closes_login", "members who left keep their login: see that purge_left_days ends it some day."
    if all(channel.kind == "mail" for channel in society.help_for(HelpCase.NO_MAIL)):
        yield "help", "who gets no mail is helped only by mail: name a phone or a form for the case no-mail."
