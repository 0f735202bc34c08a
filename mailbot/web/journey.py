"""The steps of a registration as pages: which comes next is decided by the journey's row, never by the address line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from starlette.exceptions import HTTPException
from starlette.responses import Response

from mailbot.config import HelpCase, Start
from mailbot.credentials import decode_id, encode_id
from mailbot.registration import journeys, mailed
from mailbot.registration.outcomes import Begun, Complaint, End, Field, JourneyEnd, Moved, Refused, StepPage
from mailbot.web import captcha
from mailbot.web.cookies import journey_name
from mailbot.web.tickets import Ticket, hand_out
from mailbot.web.visit import Visit, ways_in

HOUR_S = 3600


MAILED = Start.BLANK_MAIL
"""A link opens the society's journey that starts with a mail, whether a blank mail or the web form asked for it."""


# --- the first step: before there is a journey ------------------------------------------------------------------------


async def first(visit: Visit, ticket: Ticket) -> Response:
    """GET behind a registration link."""
    return await _first(visit, MAILED, ticket)


async def begin(visit: Visit, ticket: Ticket) -> Response:
    """POST behind a registration link."""
    return await _begin(visit, MAILED, ticket)


async def direct(visit: Visit) -> Response:
    """GET of a journey that needs no mail first."""
    return await _first(visit, Start.PAGE, None)


async def begin_direct(visit: Visit) -> Response:
    return await _begin(visit, Start.PAGE, None)


async def _first(visit: Visit, start: Start, ticket: Ticket | None) -> Response:
    """Where several journeys begin this way, the page asks first which letter the person holds."""
    link_id = ticket.link_id if ticket else None
    name = visit.request.query_params.get("journey")
    step = await journeys.first_page(visit.ctx, visit.society, start, link_id, visit.now, name)
    open_now = journeys.open_journeys(visit.society, start, link_id)
    if isinstance(step, StepPage):
        if name is None and len(open_now) > 1:
            return visit.page("choose.html", case=HelpCase.PAPER_LOST, journeys=open_now, expires_at=step.expires_at)
        return _step(visit, step)
    if ticket is None or (name or next(iter(open_now), "")) not in open_now:
        raise HTTPException(404)
    return await _link_is_dead(visit, ticket)


async def _begin(visit: Visit, start: Start, ticket: Ticket | None) -> Response:
    link_id = ticket.link_id if ticket else None
    name = visit.form.get("journey")
    asks = await journeys.first_page(visit.ctx, visit.society, start, link_id, visit.now, name)
    if isinstance(asks, StepPage) and asks.facts["journey"].captcha:
        if captcha.RENEW in visit.form:
            return _step(visit, asks, kept=True)
        complaint = await visit.web.captcha.passes(visit, visit.form, visit.now)
        if complaint is not None:
            return _step(visit, asks, refused=Refused((*_left_empty(visit, asks), complaint)))
    result = await journeys.begin(
        visit.ctx, visit.society, start, link_id, visit.form, visit.network, visit.now, name, visit.binding()
    )
    if isinstance(result, Begun):
        public = bind(visit, result)
        if ticket is not None:
            hand_out(visit, replace(ticket, result=public))
        return visit.go(f"j/{public}")
    if isinstance(result, Refused):
        step = await journeys.first_page(visit.ctx, visit.society, start, link_id, visit.now, name)
        if isinstance(step, StepPage):
            return _step(visit, step, refused=result)
    if ticket is None:
        raise HTTPException(404)
    return await _link_is_dead(visit, ticket)


def _left_empty(visit: Visit, step: StepPage) -> list[Complaint]:
    """What was left empty, told at once with the captcha's complaint; the rest is looked at only behind it."""
    return [
        Complaint(field.name, f"{visit.society.label(field.label)}を入力してください。")
        for field in step.fields
        if field.required and not any(_typed(visit.form, [field], with_passwords=True).values())
    ]


def bind(visit: Visit, begun: Begun) -> str:
    """Gives the browser the cookie of its journey; the journey's public name."""
    name = encode_id(begun.journey_id)
    links = visit.society.links
    hours = -(-max(links.registration_minutes, links.journey_minutes) // 60) + 1
    visit.set_cookie(journey_name(name), begun.proof, hours * HOUR_S)
    return name


async def _link_is_dead(visit: Visit, ticket: Ticket) -> Response:
    """Neutral, unless this browser itself passed the proof: then its journey goes on, or shows what it did."""
    journey_id = decode_id(ticket.result)
    if journey_id is None:
        begun = await journeys.begun_here(visit.ctx, visit.society, ticket.link_id, visit.binding())
        if begun is not None:
            journey_id, ticket = begun.journey_id, replace(ticket, result=bind(visit, begun))
            hand_out(visit, ticket)
    if journey_id is not None:
        proof = visit.cookie(journey_name(ticket.result))
        known = await journeys.page(visit.ctx, visit.society, journey_id, proof, visit.now)
        if isinstance(known, StepPage):
            return visit.go(f"j/{ticket.result}")
        if known.kind is End.DONE:
            return visit.go(f"j/{ticket.result}/done?again=1")
    return visit.failure("link")


# --- behind the mailed link of a journey ------------------------------------------------------------------------------


async def go_on(visit: Visit, ticket: Ticket) -> Response:
    """GET: the form that carries the journey to this browser."""
    step = await mailed.first_page(visit.ctx, visit.society, ticket.link_id, visit.now)
    if isinstance(step, StepPage):
        return _step(visit, step)
    return _end(visit, step) if isinstance(step, JourneyEnd) else await _link_is_dead(visit, ticket)


async def carry_on(visit: Visit, ticket: Ticket) -> Response:
    """POST of that form."""
    result = await mailed.submit(visit.ctx, visit.society, ticket.link_id, visit.form, visit.now, visit.binding())
    if isinstance(result, Begun):
        public = bind(visit, result)
        hand_out(visit, replace(ticket, result=public))
        return visit.go(f"j/{public}" if result.next else f"j/{public}/done")
    if isinstance(result, Refused):
        step = await mailed.first_page(visit.ctx, visit.society, ticket.link_id, visit.now)
        if isinstance(step, StepPage):
            return _step(visit, step, refused=result)
    return _end(visit, result) if isinstance(result, JourneyEnd) else await _link_is_dead(visit, ticket)


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
    if "back" in visit.form:
        moved = await journeys.go_back(visit.ctx, visit.society, journey_id, proof, visit.form["back"], visit.now)
        return _end(visit, moved) if isinstance(moved, JourneyEnd) else visit.go(f"j/{name}")
    if "again" in visit.form:
        return await _send_again(visit, name, journey_id, proof)
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


async def _send_again(visit: Visit, name: str, journey_id: int, proof: str | None) -> Response:
    result = await journeys.send_again(visit.ctx, visit.society, journey_id, proof, visit.now)
    if isinstance(result, JourneyEnd):
        return _end(visit, result)
    if isinstance(result, Moved):
        return visit.go(f"j/{name}?sent=again")
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
        **ways_in(visit.society),
    )


async def invite_family(visit: Visit) -> Response:
    if not any(visit.society.journeys_for(start) for start in (Start.BLANK_MAIL, Start.WEB_FORM)):
        raise HTTPException(404)
    name, journey_id, proof = _named(visit)
    sent = await journeys.invite_family(visit.ctx, visit.society, journey_id, proof, visit.now)
    return visit.go(f"j/{name}/done?family={'sent' if sent else 'later'}")


def _end(visit: Visit, end: JourneyEnd) -> Response:
    if end.kind is End.DONE:
        return visit.go(f"j/{visit.request.path_params['journey']}/done?again=1")
    if end.kind is End.OTHER_BROWSER:
        mine = visit.cookie(journey_name(visit.request.path_params.get("journey", ""))) is not None
        return visit.failure("elsewhere" if mine else "no-cookies")
    return visit.failure("tries" if end.kind is End.TOO_MANY_TRIES else "link")


def _step(
    visit: Visit, step: StepPage, *, refused: Refused | None = None, shown: bool = False, kept: bool = False
) -> Response:
    """`kept`: with what was typed, though nothing was refused."""
    complaints: Sequence[Complaint] = refused.complaints if refused else ()
    typed = dict(step.values)
    if refused or shown or kept:
        typed = _typed(visit.form, step.fields, with_passwords=shown) | {
            name: text
            for name, text in typed.items()
            if not any(f.name in (name, name.partition(".")[0]) and f.kind != "shown" for f in step.fields)
        }
    asks_captcha = step.journey_id is None and step.facts["journey"].captcha
    return visit.page(
        f"steps/{step.step}.html",
        status=refused.status if refused else 200,
        case=HelpCase.PAPER_LOST if step.position == 1 else HelpCase.REGISTRATION,
        complaints=complaints,
        values=typed,
        step=step,
        shown=shown,
        captcha=visit.web.captcha.fragment(visit, complaints) if asks_captcha else "",
        again=visit.request.query_params.get("sent") == "again",
    )


def _typed(form: Mapping[str, str], fields: Sequence[Field], *, with_passwords: bool) -> dict[str, str]:
    """What was typed into a step's fields, to be shown again; of choices and ticks those that were ticked."""
    typed: dict[str, str] = {}
    for field in fields:
        if field.kind == "date":
            names = [f"{field.name}_{part}" for part in ("year", "month", "day")]
        elif field.kind == "choices":
            names = [name for name in form if name.startswith(f"{field.name}.")]
        else:
            hidden = field.kind == "shown" or (field.kind == "password" and not with_passwords)
            names = [] if hidden else [field.name]
        typed |= {name: form[name] for name in names if name in form}
    return typed
