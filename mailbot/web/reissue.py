"""A forgotten login ID or password, as pages."""

from __future__ import annotations

from dataclasses import replace

from starlette.exceptions import HTTPException
from starlette.responses import Response

from mailbot.config import HelpCase
from mailbot.credentials import LinkPurpose, LinkState, describe
from mailbot.registration import dates, reissue, wishes
from mailbot.registration.outcomes import Begun, Refused
from mailbot.registration.wishes import Wish
from mailbot.web import sent
from mailbot.web.cookies import reissue_name
from mailbot.web.tickets import DONE, Ticket, hand_out, taken
from mailbot.web.visit import Visit

CASE = HelpCase.ADDRESS_LOST
_FIRST = {"temporary-login": "reissue-login.html", "birth-date": "reissue-birth.html"}


async def ask(visit: Visit) -> Response:
    return visit.page("reissue.html", case=CASE)


async def request(visit: Visit) -> Response:
    return await _request(visit, Wish.PASSWORD, "reissue")


async def requested(visit: Visit) -> Response:
    return visit.page("reissue-sent.html", case=CASE, address=sent.remembered(visit))


async def ask_id(visit: Visit) -> Response:
    """For a forgotten login ID, where the society keeps that apart."""
    _id_apart(visit)
    return visit.page("reissue-id.html", case=CASE)


async def request_id(visit: Visit) -> Response:
    _id_apart(visit)
    return await _request(visit, Wish.LOGIN_ID, "reissue-id")


async def id_requested(visit: Visit) -> Response:
    _id_apart(visit)
    return visit.page("reissue-id-sent.html", case=CASE, address=sent.remembered(visit))


def _id_apart(visit: Visit) -> None:
    if not visit.society.reissue.separate_login_id:
        raise HTTPException(404)


async def _request(visit: Visit, wish: Wish, place: str) -> Response:
    """The answer is the same page whether the address is known or not."""
    typed = visit.form.get("address", "")
    result = await wishes.request(visit.ctx, visit.society, typed, visit.network, visit.now, wish)
    if isinstance(result, Refused):
        return visit.refuse(f"{place}.html", result, case=CASE, values={"address": typed})
    sent.remember(visit, typed)
    return visit.go(f"{place}/sent")


# --- behind the mailed link -------------------------------------------------------------------------------------------


async def first(visit: Visit, ticket: Ticket) -> Response:
    """GET of the link: what it asks, or at once the new password."""
    return await _first(visit, ticket, None)


async def begin(visit: Visit, ticket: Ticket) -> Response:
    result = await reissue.begin(visit.ctx, visit.society, ticket.link_id, visit.form, visit.network, visit.now)
    if isinstance(result, LinkState):
        return _dead(visit, ticket)
    if isinstance(result, Begun):
        visit.set_cookie(reissue_name(ticket.name), result.proof)
        return visit.go(f"reissue/{ticket.name}")
    return await _first(visit, ticket, result)


async def _first(visit: Visit, ticket: Ticket, refused: Refused | None) -> Response:
    page = await reissue.first_page(visit.ctx, visit.society, ticket.link_id, visit.now)
    if isinstance(page, LinkState):
        return _dead(visit, ticket)
    if page.asks is None:
        return visit.go(f"reissue/{ticket.name}")
    return visit.page(
        _FIRST[page.asks],
        status=refused.status if refused else 200,
        case=CASE,
        complaints=refused.complaints if refused else (),
        values={name: visit.form.get(name, "") for name in ("login_id", *dates.FIELDS)},
        expires_at=page.expires_at,
    )


async def change(visit: Visit) -> Response:
    return await _change(visit, None)


async def finish(visit: Visit) -> Response:
    ticket = _ticket(visit)
    if ticket is None:
        return visit.failure("no-cookies")
    if "show" in visit.form:
        return await _change(visit, None, shown=True)
    form = visit.form
    proof = visit.cookie(reissue_name(ticket.name))
    result = await reissue.finish(
        visit.ctx,
        visit.society,
        ticket.link_id,
        proof,
        form.get("password", ""),
        form.get("password_again", ""),
        visit.now,
    )
    if isinstance(result, LinkState):
        return _dead(visit, ticket)
    if isinstance(result, Refused):
        return await _change(visit, result)
    hand_out(visit, replace(ticket, result=DONE))
    visit.drop_cookie(reissue_name(ticket.name))
    return visit.go("reissue/done")


async def finished(visit: Visit) -> Response:
    return visit.page("reissue-done.html", case=HelpCase.LOGIN)


async def _change(visit: Visit, refused: Refused | None, *, shown: bool = False) -> Response:
    ticket = _ticket(visit)
    if ticket is None:
        return visit.failure("no-cookies")
    proof = visit.cookie(reissue_name(ticket.name))
    page = await reissue.first_page(visit.ctx, visit.society, ticket.link_id, visit.now, proof)
    if isinstance(page, LinkState):
        return _dead(visit, ticket)
    if page.asks is not None and not page.proved:
        return visit.go(f"open/{ticket.name}")
    return visit.page(
        "reissue-change.html",
        status=refused.status if refused else 200,
        case=CASE,
        complaints=refused.complaints if refused else (),
        values={name: visit.form.get(name, "") for name in ("password", "password_again")} if shown else {},
        shown=shown,
        rules=describe(visit.society.password, visit.society.label("reissue.password")),
        login_id=page.login_id if page.asks != "temporary-login" else "",
        steps=page.asks is not None,
        expires_at=page.expires_at,
    )


def _ticket(visit: Visit) -> Ticket | None:
    ticket = taken(visit, visit.request.path_params["link"])
    return ticket if ticket is not None and ticket.purpose is LinkPurpose.REISSUE else None


def _dead(visit: Visit, ticket: Ticket) -> Response:
    return visit.go("reissue/done") if ticket.result == DONE else visit.failure("link")
