"""The second page of a login: the PIN that was mailed."""

from __future__ import annotations

from starlette.responses import Response

from mailbot.config import HelpCase
from mailbot.registration import login, pin
from mailbot.registration.outcomes import LoggedIn, PinAsked, Refused
from mailbot.web import cookies
from mailbot.web.visit import Visit

_COOKIE_S = 3600
"""Longer than any login waits: a phone may close the browser while its owner reads the mail."""


async def let_in(visit: Visit, done: LoggedIn) -> Response:
    """Hands the new session out; the one this browser had ends."""
    name = cookies.session_name(visit.society.id)
    if (old := visit.cookie(name)) is not None:
        await login.log_out(visit.ctx, visit.society, old)
    visit.set_cookie(name, done.session_token)
    visit.drop_cookie(cookies.FORM)
    return visit.go("home" if done.scope == "member" else "password")


def wait(visit: Visit, asked: PinAsked) -> Response:
    """After the right password: on to the page that asks for the PIN."""
    visit.set_cookie(cookies.pin_name(visit.society.id), asked.proof, _COOKIE_S)
    return visit.go("pin")


async def ask(visit: Visit) -> Response:
    return await _page(visit, None)


async def submit(visit: Visit) -> Response:
    """The PIN, or the button that asks for another mail."""
    name = cookies.pin_name(visit.society.id)
    proof = visit.cookie(name)
    if "resend" in visit.form:
        sent = await pin.send_again(visit.ctx, visit.society, proof, visit.now)
        return await _page(visit, sent) if isinstance(sent, Refused) else visit.go("pin?sent=1" if sent else "pin")
    result = await login.log_in_with_pin(visit.ctx, visit.society, proof, visit.form.get("pin", ""), visit.now)
    if isinstance(result, LoggedIn):
        visit.drop_cookie(name)
        return await let_in(visit, result)
    return await _page(visit, result)


async def _page(visit: Visit, refused: Refused | None) -> Response:
    name = cookies.pin_name(visit.society.id)
    page = await pin.page(visit.ctx, visit.society, visit.cookie(name), visit.now)
    if page is None:
        visit.drop_cookie(name)
        return visit.go("login?ended=1")
    return visit.page(
        "pin.html",
        status=refused.status if refused else 200,
        case=HelpCase.NO_MAIL,
        complaints=refused.complaints if refused else (),
        pin=page,
        sent=visit.request.query_params.get("sent") == "1",
    )
