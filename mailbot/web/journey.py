"""The steps of a registration as pages: which comes next is decided by the journey's row, never by the address line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from starlette.exceptions import HTTPException
from starlette.responses import Response

from mailbot.config import HelpCase, Start
from mailbot.credentials import decode_id, encode_id
from mailbot.registration import journeys
from mailbot.registration.outcomes import Begun, Complaint, End, JourneyEnd, Moved, Refused, StepPage
from mailbot.web.cookies import journey_name
from mailbot.web.tickets import Ticket, hand_out
from mailbot.web.visit import Visit

HOUR_S = 3600


MAILED = Start.BLANK_MAIL
"""A link opens the society's journey that starts with a mail, whether a blank mail or the web form asked for it."""


# --- the first step: before there is a journey ------------------------------------------------------------------------


async def first(visit: Visit, ticket: Ticket) -> Response:
    """GET behind a registration link."""
    step = await journeys.first_page(visit.ctx, visit.society, MAILED, ticket.link_id, visit.now)
    return _step(visit, step) if isinstance(step, StepPage) else await _link_is_dead(visit, ticket)


async def begin(visit: Visit, ticket: Ticket) -> Response:
    """POST behind a registration link."""
    return await _begin(visit, MAILED, ticket)


async def direct(visit: Visit) -> Response:
    """GET of the journey that needs no mail first."""
    step = await journeys.first_page(visit.ctx, visit.society, Start.PAGE, None, visit.now)
    if not isinstance(step, StepPage):
        raise HTTPException(404)
    return _step(visit, step)


async def begin_direct(visit: Visit) -> Response:
    return await _begin(visit, Start.PAGE, None)


async def _begin(visit: Visit, start: Start, ticket: Ticket | None) -> Response:
    link_id = ticket.link_id if ticket else None
    result = await journeys.begin(visit.ctx, visit.society, start, link_id, visit.form, visit.network, visit.now)
    if isinstance(result, Begun):
        name = encode_id(result.journey_id)
        hours = -(-visit.society.links.registration_minutes // 60) + 1
        visit.set_cookie(journey_name(name), result.proof, hours * HOUR_S)
        if ticket is not None:
            hand_out(visit, replace(ticket, result=name))
        return visit.go(f"j/{name}")
    if isinstance(result, Refused):
        step = await journeys.first_page(visit.ctx, visit.society, start, link_id, visit.now)
        if isinstance(step, StepPage):
            return _step(visit, step, refused=result)
    if ticket is None:
        raise HTTPException(404)
    return await _link_is_dead(visit, ticket)


async def _link_is_dead(visit: Visit, ticket: Ticket) -> Response:
    """Neutral, unless this browser itself passed the proof: then its journey goes on, or shows what it did."""
    journey_id = decode_id(ticket.result)
    if journey_id is not None:
        proof = visit.cookie(journey_name(ticket.result))
        known = await journeys.page(visit.ctx, visit.society, journey_id, proof, visit.now)
        if isinstance(known, StepPage):
            return visit.go(f"j/{ticket.result}")
        if known.kind is End.DONE:
            return visit.go(f"j/{ticket.result}/done?again=1")
    return visit.failure("link")


# --- the steps after it -----------------------------------------------------------------------------------------------


def _named(visit: Visit) -> tuple[str, int, str | None]:
    name = visit.request.path_params["journey"]
    journey_id = decode_id(name)
    if journey_id is None:
        raise HTTPException(404)
    return name, journey_id, visit.cookie(journey_name(name))


async def show(visit: Visit) -> Response:
    _, journey_id, proof = _named(visit)
    step = await journeys.page(visit.ctx, visit.society, journey_id, proof, visit.now)
    return _step(visit, step) if isinstance(step, StepPage) else _end(visit, step)


async def submit(visit: Visit) -> Response:
    name, journey_id, proof = _named(visit)
    step = visit.form.get("step", "")
    if "show" in visit.form:
        current = await journeys.page(visit.ctx, visit.society, journey_id, proof, visit.now)
        if isinstance(current, JourneyEnd):
            return _end(visit, current)
        return _step(visit, current, shown=True) if current.step == step else visit.go(f"j/{name}")
    result = await journeys.submit(visit.ctx, visit.society, journey_id, proof, step, visit.form, visit.now)
    if isinstance(result, Moved):
        return visit.go(f"j/{name}" if result.next is not None else f"j/{name}/done")
    if isinstance(result, JourneyEnd):
        return _end(visit, result)
    current = await journeys.page(visit.ctx, visit.society, journey_id, proof, visit.now)
    return _step(visit, current, refused=result) if isinstance(current, StepPage) else _end(visit, current)


async def done(visit: Visit) -> Response:
    """The facts of a finished registration: the same at every visit, and nothing happens again."""
    name, journey_id, proof = _named(visit)
    end = await journeys.page(visit.ctx, visit.society, journey_id, proof, visit.now)
    if isinstance(end, StepPage):
        return visit.go(f"j/{name}")
    if end.kind is not End.DONE:
        return _end(visit, end)
    query = visit.request.query_params
    return visit.page(
        "done.html",
        case=HelpCase.REGISTRATION,
        journey_name=name,
        end=end,
        again=end.already or query.get("again") == "1",
        family=query.get("family", ""),
    )


async def invite_family(visit: Visit) -> Response:
    name, journey_id, proof = _named(visit)
    sent = await journeys.invite_family(visit.ctx, visit.society, journey_id, proof, visit.now)
    return visit.go(f"j/{name}/done?family={'sent' if sent else 'later'}")


def _end(visit: Visit, end: JourneyEnd) -> Response:
    if end.kind is End.DONE:
        return visit.go(f"j/{visit.request.path_params['journey']}/done?again=1")
    if end.kind is End.OTHER_BROWSER:
        return visit.failure("no-cookies")
    return visit.failure("link")


def _step(visit: Visit, step: StepPage, *, refused: Refused | None = None, shown: bool = False) -> Response:
    complaints: Sequence[Complaint] = refused.complaints if refused else ()
    typed = dict(step.values)
    if refused or shown:
        secret = set() if shown else {field.name for field in step.fields if field.kind == "password"}
        typed |= {f.name: visit.form[f.name] for f in step.fields if f.name in visit.form and f.name not in secret}
    return visit.page(
        f"steps/{step.step}.html",
        status=refused.status if refused else 200,
        case=HelpCase.PAPER_LOST if step.position == 1 else HelpCase.REGISTRATION,
        complaints=complaints,
        values=typed,
        step=step,
        shown=shown,
    )
