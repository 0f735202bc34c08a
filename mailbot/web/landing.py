"""Where links of mails arrive. The token moves into a cookie and out of the address line; a GET writes nothing."""

from __future__ import annotations

from dataclasses import replace

from starlette.responses import Response

from mailbot.config import HelpCase
from mailbot.credentials import LinkPurpose, LinkState, encode_id
from mailbot.credentials import read as read_token
from mailbot.registration import journeys, profile
from mailbot.registration.outcomes import Refused
from mailbot.web import journey, reissue
from mailbot.web.endpoint import Handler, too_many
from mailbot.web.tickets import DONE, LETTERS, Ticket, hand_out, taken
from mailbot.web.visit import Visit, ways_in


def arrive(letter: str) -> Handler:
    """GET of /r/…, /p/…, /a/… or /c/…: works any number of times, in any browser, until the link is used or expired."""
    purpose = LETTERS[letter]

    async def handler(visit: Visit) -> Response:
        link_id = read_token(visit.ctx.ring, purpose, visit.society.id, visit.request.path_params["token"])
        if link_id is None:
            again_at = visit.web.guesses.count(visit.network, visit.now)
            return visit.failure("link") if again_at is None else too_many(visit, again_at)
        return let_in(visit, link_id, purpose)

    return handler


def let_in(visit: Visit, link_id: int, purpose: LinkPurpose) -> Response:
    """To the page of a link that proved itself, by its token or its code."""
    name = encode_id(link_id)
    if (known := taken(visit, name)) is None or known.purpose is not purpose:
        hand_out(visit, Ticket(link_id, purpose))
    return visit.go(f"open/{name}")


async def show(visit: Visit) -> Response:
    ticket = taken(visit, visit.request.path_params["link"])
    if ticket is None:
        return visit.failure("no-cookies")
    match ticket.purpose:
        case LinkPurpose.REGISTRATION:
            return await journey.first(visit, ticket)
        case LinkPurpose.REISSUE:
            return await reissue.first(visit, ticket)
        case LinkPurpose.MAILED_LINK:
            return await journey.go_on(visit, ticket)
        case _:
            return await _address(visit, ticket)


async def submit(visit: Visit) -> Response:
    ticket = taken(visit, visit.request.path_params["link"])
    if ticket is None:
        return visit.failure("no-cookies")
    match ticket.purpose:
        case LinkPurpose.REGISTRATION:
            return await journey.begin(visit, ticket)
        case LinkPurpose.REISSUE:
            return await reissue.begin(visit, ticket)
        case LinkPurpose.MAILED_LINK:
            return await journey.carry_on(visit, ticket)
        case _:
            return await _prove(visit, ticket)


async def _address(visit: Visit, ticket: Ticket, refused: Refused | None = None) -> Response:
    link = await journeys.peek_link(visit.ctx, visit.society, ticket.purpose, ticket.link_id, visit.now)
    if link.state is LinkState.LIVE:
        return visit.page(
            "address-proof.html",
            status=refused.status if refused else 200,
            complaints=refused.complaints if refused else (),
            case=HelpCase.NO_MAIL,
            address=link.address,
            expires_at=link.expires_at,
            **ways_in(visit.society),
        )
    return visit.go("address/done") if ticket.result == DONE else visit.failure("link")


async def _prove(visit: Visit, ticket: Ticket) -> Response:
    proved = await profile.prove_address(visit.ctx, visit.society, ticket.link_id, visit.now)
    if isinstance(proved, Refused):
        return await _address(visit, ticket, proved)
    if proved:
        hand_out(visit, replace(ticket, result=DONE))
        return visit.go("address/done")
    return visit.go("address/done") if ticket.result == DONE else visit.failure("link")


async def address_done(visit: Visit) -> Response:
    return visit.page("address-done.html", **ways_in(visit.society))
