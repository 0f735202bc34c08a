"""The page for the short code of a mail, where the mail's URL cannot be opened; its address line prefills nothing."""

from __future__ import annotations

from starlette.responses import Response

from mailbot.config import HelpCase
from mailbot.registration import codes
from mailbot.registration.outcomes import Refused
from mailbot.web import landing
from mailbot.web.endpoint import too_many
from mailbot.web.visit import Visit, ways_in


async def ask(visit: Visit) -> Response:
    return visit.page("code.html", case=HelpCase.NO_MAIL, **ways_in(visit.society))


async def submit(visit: Visit) -> Response:
    """Right: what the URL would have done. A wrong code counts for the network as a wrong link does; from a network
    that guessed too often nothing is looked at."""
    if (again_at := visit.web.guesses.again_at(visit.network, visit.now)) is not None:
        return too_many(visit, again_at)
    form = visit.form
    address, code = form.get("address", ""), form.get("code", "")
    result = await codes.enter(visit.ctx, visit.society, address, code, visit.network, visit.now)
    if not isinstance(result, Refused):
        return landing.let_in(visit, result.link_id, result.purpose)
    if result.status == 422 and not any(complaint.field for complaint in result.complaints):
        visit.web.guesses.count(visit.network, visit.now)
    values = {"address": address, "code": code}
    return visit.refuse("code.html", result, case=HelpCase.NO_MAIL, values=values, **ways_in(visit.society))
