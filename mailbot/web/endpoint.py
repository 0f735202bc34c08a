"""From a request to a Visit, through all the gates a form must pass, to a response; outages end here.

Order of the gates of a POST: size and shape (no database), our own form (no database), budget of the network, society
not paused. A GET passes only the last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mailbot.ratelimit import MINUTE_MS, Hit, Limits, hit
from mailbot.registration import login
from mailbot.store.tables import society_state
from mailbot.telemetry import emit
from mailbot.web import cookies, japan
from mailbot.web.forms import BadForm, read_form
from mailbot.web.visit import Visit, Web

Handler = Callable[[Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]

OUTAGES = (OperationalError, InterfaceError, PoolTimeout, ConnectionError)


def page(
    web: Web, show: Handler | None, submit: Handler | None = None, *, member: bool = False, pausable: bool = True
) -> Endpoint:
    """An endpoint for GET (`show`) and POST (`submit`). `member`: only with a session, which also binds the forms.

    `pausable=False` leaves out the look whether the society is paused, and with it the database.
    """

    async def endpoint(request: Request) -> Response:
        society = web.ctx.settings.societies.get(request.path_params["society"])
        if society is None:
            raise HTTPException(404)
        peer = request.client.host if request.client else None
        network = web.clients.network(peer, ", ".join(request.headers.getlist("x-forwarded-for")))
        visit = Visit(web, request, society, web.clock(), network)
        try:
            posted = request.method == "POST"
            handler = submit if posted else show
            if handler is None:
                raise HTTPException(405)
            if member:
                visit.session_token = visit.cookie(cookies.session_name(society.id))
                if visit.session_token is None:
                    return visit.go("login?again=1")
            refusal = await _form_gates(visit) if posted else None
            if refusal is not None:
                return visit.finish(refusal)
            if pausable and await paused(visit):
                return visit.failure("paused")
            if member and not await _enter(visit):
                visit.drop_cookie(cookies.session_name(society.id))
                return visit.finish(visit.go("login?ended=1"))
            return visit.finish(await handler(visit))
        except HTTPException:
            raise
        except Exception as error:
            return outage(visit, error)

    return endpoint


def outage(visit: Visit, error: Exception) -> Response:
    """503 when the database is away or locked, else 500. The member learns what to do, the log learns why."""
    away = isinstance(error, OUTAGES) or (isinstance(error, DBAPIError) and error.connection_invalidated)
    emit("web.outage" if away else "web.error", society=visit.society.id, error=error)
    visit.member = None
    visit.session_token = None
    response = visit.failure("busy" if away else "error")
    if away:
        response.headers["Retry-After"] = "60"
    return response


async def paused(visit: Visit) -> bool:
    """An emergency stop of the society."""
    async with visit.ctx.store.read() as tx:
        at = await tx.scalar(select(society_state.c.paused_at).where(society_state.c.society == visit.society.id))
    return at is not None


async def _form_gates(visit: Visit) -> Response | None:
    form = await read_form(visit.request)
    if form is BadForm.TOO_LARGE:
        response = visit.failure("too-large")
        response.headers["Connection"] = "close"
        return response
    if isinstance(form, BadForm):
        return visit.failure("bad-request")
    visit.form = form
    if _foreign(visit):
        return visit.failure("forbidden")
    if visit.session_token is None and visit.cookie(cookies.FORM) is None:
        return visit.failure("no-cookies")
    if not visit.form_is_ours():
        return visit.failure("forbidden")
    limit = Limits(minute=visit.ctx.settings.site.budgets.web_requests_per_minute)
    async with visit.ctx.store.begin() as tx:
        (within,) = await hit(tx, [Hit(visit.society.id, "form", visit.network, limit)], visit.now)
    if not within:
        return too_many(visit, visit.now + MINUTE_MS)
    return None


def too_many(visit: Visit, again_at: int) -> Response:
    response = visit.failure("too-many", again_at=japan.next_minute(again_at))
    response.headers["Retry-After"] = str(max(1, -(-(again_at - visit.now) // 1000)))
    return response


def _foreign(visit: Visit) -> bool:
    """Whether the browser says that another site sent the form. Our pages send `Origin: null` (no-referrer)."""
    headers = visit.request.headers
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return True
    return headers.get("origin", "null") not in visit.web.origins | {"null"}


async def _enter(visit: Visit) -> bool:
    assert visit.session_token is not None
    visit.member = await login.session(visit.ctx, visit.society, visit.session_token, visit.now)
    return visit.member is not None
