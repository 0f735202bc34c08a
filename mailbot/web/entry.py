"""Pages before login that belong to nobody: web entry, help, larger text."""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.responses import Response

from mailbot.config import HelpCase, Start
from mailbot.registration import entry
from mailbot.registration.outcomes import Refused
from mailbot.web import cookies, sent
from mailbot.web.render import TEXT_SIZES
from mailbot.web.visit import Visit, ways_in

_YEAR_S = 365 * 24 * 3600
_PLACE = re.compile(r"/[a-z0-9/-]{1,100}")


async def index(visit: Visit) -> Response:
    return visit.go("login")


# --- web entry --------------------------------------------------------------------------------------------------------


async def ask(visit: Visit) -> Response:
    if not visit.society.journeys_for(Start.WEB_FORM):
        raise HTTPException(404)
    return visit.page("entry.html", case=HelpCase.NO_MAIL)


async def request(visit: Visit) -> Response:
    """The answer is the same page whether the address is known or not."""
    if not visit.society.journeys_for(Start.WEB_FORM):
        raise HTTPException(404)
    typed = visit.form.get("address", "")
    result = await entry.request_invitation(visit.ctx, visit.society, typed, visit.network, visit.now)
    if isinstance(result, Refused):
        return visit.refuse("entry.html", result, case=HelpCase.NO_MAIL, values={"address": typed})
    sent.remember(visit, typed)
    return visit.go("entry/sent")


async def requested(visit: Visit) -> Response:
    return visit.page("entry-sent.html", case=HelpCase.NO_MAIL, address=sent.remembered(visit))


# --- help and larger text ---------------------------------------------------------------------------------------------


async def help_page(visit: Visit) -> Response:
    """`?carrier=` opens the steps of one; whoever has no scripts can choose as well."""
    carriers = visit.ctx.settings.carriers.all
    chosen = carriers.get(visit.request.query_params.get("carrier", ""))
    return visit.page("help.html", carriers=carriers.values(), carrier=chosen, **ways_in(visit.society))


async def text_size(visit: Visit) -> Response:
    """A link, not a form: it changes nothing but this browser's own cookie."""
    size = visit.request.path_params["size"]
    if size not in TEXT_SIZES or not visit.society.pages.text_sizes:
        raise HTTPException(404)
    visit.set_cookie(cookies.TEXT, size, _YEAR_S)
    to = visit.request.query_params.get("to", "")
    prefix = visit.path("")
    ours = _PLACE.fullmatch(to) and to.startswith(prefix) and "//" not in to
    return visit.go(to.removeprefix(prefix) if ours else "login")
