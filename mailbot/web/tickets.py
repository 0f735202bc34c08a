"""What a browser keeps of a link it opened: a cookie that says which link, made by us, without the token itself.

The cookie also remembers what this browser did with the link, so that 'used' and 'used by somebody else' differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailbot.credentials import LinkPurpose, decode_id, encode_id
from mailbot.web.cookies import link_name
from mailbot.web.visit import Visit

LETTERS = {
    "r": LinkPurpose.REGISTRATION,
    "p": LinkPurpose.REISSUE,
    "a": LinkPurpose.ADDRESS_PROOF,
    "c": LinkPurpose.MAILED_LINK,
}
_OF_PURPOSE = {purpose: letter for letter, purpose in LETTERS.items()}
DONE = "done"


@dataclass(frozen=True, slots=True)
class Ticket:
    """`result`: empty, the journey this browser began (encoded id), or `done`."""

    link_id: int
    purpose: LinkPurpose
    result: str = ""

    @property
    def name(self) -> str:
        return encode_id(self.link_id)


def hand_out(visit: Visit, ticket: Ticket) -> None:
    """Gives the browser its cookie, for as long as such a link can live and an hour more."""
    links = visit.society.links
    minutes = {
        LinkPurpose.REGISTRATION: links.registration_minutes,
        LinkPurpose.REISSUE: links.reissue_minutes,
        LinkPurpose.ADDRESS_PROOF: links.address_proof_minutes,
        LinkPurpose.MAILED_LINK: links.journey_minutes,
    }[ticket.purpose]
    letter = _OF_PURPOSE[ticket.purpose]
    mark = visit.web.marks.make(visit.now, f"link-{letter}", visit.society.id, ticket.link_id, ticket.result)
    visit.set_cookie(link_name(ticket.name), f"{letter}.{mark}.{ticket.result}", (minutes + 60) * 60)


def taken(visit: Visit, name: str) -> Ticket | None:
    """The ticket for the link with this public name, if this browser has a true one."""
    link_id = decode_id(name)
    letter, _, rest = (visit.cookie(link_name(name)) or "").partition(".")
    mark, _, result = rest.partition(".")
    if link_id is None or letter not in LETTERS:
        return None
    if not visit.web.marks.fits(mark, f"link-{letter}", visit.society.id, link_id, result):
        return None
    return Ticket(link_id, LETTERS[letter], result)
