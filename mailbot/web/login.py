"""The login: ID and password on one page, or one after the other where the society wants it so.

Where first credentials follow from a formula, the same form begins a registration with them: who is at the page for the
first time need not know that it is another thing.
"""

from __future__ import annotations

from starlette.responses import Response

from mailbot.config import HelpCase, Start
from mailbot.registration import choices, formula, journeys, login
from mailbot.registration.outcomes import Begun, Complaint, PinAsked, Refused
from mailbot.web import pin, sent
from mailbot.web.cookies import FORM, LOGIN_ID
from mailbot.web.journey import bind
from mailbot.web.visit import Visit, tried_at_login, ways_in


async def ask(visit: Visit) -> Response:
    """GET: the page, or the first of two."""
    query = visit.request.query_params
    note = next((name for name in ("ended", "again", "out") if query.get(name) == "1"), "")
    return await _page(visit, "login-id.html" if visit.society.login.two_pages else "login.html", note=note)


async def submit(visit: Visit) -> Response:
    """POST of it; the first of two pages only remembers the ID, whether anybody has it or not."""
    if not visit.society.login.two_pages:
        return await _log_in(visit, "login.html")
    typed = visit.form.get("login_id", "").strip()
    refused = choices.left_empty(visit.society, visit.form, {"login_id": "login.id"})
    if refused is None and len(typed.encode()) > sent.MOST:
        text = f"{visit.society.label('login.id')}が長すぎます。お確かめください。"
        refused = Refused((Complaint("login_id", text),))
    if refused is not None:
        return await _page(visit, "login-id.html", refused)
    sent.remember(visit, typed, LOGIN_ID)
    return visit.go("login/password")


async def ask_password(visit: Visit) -> Response:
    """GET of the second page. The ID stands in its form, so that two windows are two logins."""
    login_id = sent.remembered(visit, LOGIN_ID)
    if not visit.society.login.two_pages or not login_id:
        return visit.go("login")
    return await _page(visit, "login-password.html", login_id=login_id)


async def submit_password(visit: Visit) -> Response:
    if not visit.society.login.two_pages or not visit.form.get("login_id", "").strip():
        return visit.go("login")
    return await _log_in(visit, "login-password.html")


async def _log_in(visit: Visit, page: str) -> Response:
    login_id = formula.spelled(visit.society, visit.form.get("login_id", ""))
    password = visit.form.get("password", "")
    browser = visit.cookie(FORM) or ""
    result = await login.log_in(visit.ctx, visit.society, login_id, password, visit.network, visit.now, browser)
    if isinstance(result, Refused):
        first = await _first_login(visit, result)
        if isinstance(first, Begun):
            await login.forgive(visit.ctx, visit.society, login_id, visit.network)
            return visit.go(f"j/{bind(visit, first)}")
        return await _page(visit, page, first)
    visit.drop_cookie(LOGIN_ID)
    return pin.wait(visit, result) if isinstance(result, PinAsked) else await pin.let_in(visit, result)


async def _first_login(visit: Visit, refused: Refused) -> Begun | Refused:
    """After a wrong password: the journey that begins with the formula's credentials, if they are right."""
    society = visit.society
    name = next((name for name, one in society.journeys.items() if tried_at_login(society, one)), None)
    if name is None or refused.status != 422 or any(complaint.field for complaint in refused.complaints):
        return refused
    begun = await journeys.begin(
        visit.ctx, society, Start.PAGE, None, visit.form, visit.network, visit.now, journey=name
    )
    return begun if isinstance(begun, Begun | Refused) else refused


async def _page(
    visit: Visit, page: str, refused: Refused | None = None, *, note: str = "", login_id: str | None = None
) -> Response:
    society = visit.society
    typed = visit.form.get("login_id", "") if login_id is None else login_id
    async with visit.ctx.store.read() as tx:
        closed = await formula.is_closed(tx, society, visit.now)
    tried = any(tried_at_login(society, one) for one in society.journeys.values())
    return visit.page(
        page,
        status=refused.status if refused else 200,
        case=HelpCase.LOGIN,
        complaints=refused.complaints if refused else (),
        values={"login_id": typed},
        note=note,
        closed=formula.closed_words(visit.now) if closed else "",
        formula_hint=formula.hint(society.formula) if society.formula and tried else "",
        **ways_in(society),
    )
