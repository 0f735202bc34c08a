"""A registration from its link to its end: which step is next, who may take it, until when.

A journey row keeps the list of steps it began with. Its first step is a proof: passing it writes the row and binds it
to the browser by a random cookie, of which the row holds the SHA-256. Reading pages never writes.

The link is spent when the first of its members is done; who had passed the proof by then may still finish, once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import credentials, ratelimit
from mailbot.config import Journey, Society, Start
from mailbot.credentials import KeyRefused, LinkPurpose, LinkState
from mailbot.mail.address import stored
from mailbot.store import new_id
from mailbot.store.tables import journey as journey_table
from mailbot.store.tables import link
from mailbot.telemetry import emit

from . import limits, progress, words
from .context import Context
from .invite import LinkRequest, request_links
from .notices import MINUTE_MS, new_token, token_hash, token_of
from .outcomes import Begun, End, Field, JourneyEnd, LinkView, Moved, Refused, StepPage
from .progress import UndoneError, proof_fits
from .steps import FormStep, JourneyState, LinkedStep, ShownStep, WaitingStep, form_step, proof_step, step_named

JOURNEY_MS = 60 * MINUTE_MS
"""What is left at least after the proof, however late the link was opened."""

_MAILED = (Start.BLANK_MAIL, Start.WEB_FORM)


async def peek_link(ctx: Context, society: Society, purpose: LinkPurpose, link_id: int, now: int) -> LinkView:
    """The state of a link whose MAC fitted; reads only."""
    async with ctx.store.read() as tx:
        return await _link(tx, society, purpose, link_id, now)


def open_journeys(society: Society, start: Start, link_id: int | None) -> dict[str, Journey]:
    """The journeys that may begin this way, by name: a mailed link opens those that start with a mail or the web form,
    whichever it was."""
    if link_id is None and start in _MAILED:
        return {}
    starts = _MAILED if link_id is not None else (start,)
    return {name: one for name, one in society.journeys.items() if any(s in one.starts for s in starts)}


async def first_page(
    ctx: Context, society: Society, start: Start, link_id: int | None, now: int, journey: str | None = None
) -> StepPage | LinkState:
    """The proof step, before any row exists. With a link: LinkState when it is not LIVE (UNKNOWN also where the society
    has no such journey). `journey` chooses where several share a start; the file's first by default."""
    chosen = _choose(society, start, link_id, journey)
    if chosen is None:
        return LinkState.UNKNOWN
    name, what = chosen
    expires_at = now + JOURNEY_MS
    if link_id is not None:
        view = await peek_link(ctx, society, LinkPurpose.REGISTRATION, link_id, now)
        if view.state is not LinkState.LIVE:
            return view.state
        expires_at = view.expires_at
    step = proof_step(what.steps[0])
    assert step is not None  # held by steps.problems at start-up
    return StepPage(
        None, name, step.name, 1, _shown(what.steps), step.fields(society, what), {}, {"journey": what}, expires_at
    )


async def begin(
    ctx: Context,
    society: Society,
    start: Start,
    link_id: int | None,
    form: Mapping[str, str],
    network: str,
    now: int,
    journey: str | None = None,
    browser: str = "",
) -> Begun | Refused | LinkState:
    """POST of the proof step; its form is that step's own. `browser`: a secret of the browser, for `begun_here`."""
    chosen = _choose(society, start, link_id, journey)
    if chosen is None:
        return LinkState.UNKNOWN
    name, what = chosen
    step = proof_step(what.steps[0])
    assert step is not None
    proof = token_of(browser, link_id) if browser and link_id is not None else new_token()
    journey_id = new_id()
    async with ctx.store.begin() as tx:
        view = LinkView(LinkState.LIVE)
        if link_id is not None:
            view = await _link(tx, society, LinkPurpose.REGISTRATION, link_id, now)
            if view.state is not LinkState.LIVE:
                return view.state
        proved = await step.prove(ctx, tx, society, what, view.address, form, network, now)
        if not isinstance(proved, Refused):
            position = progress.next_place(what.steps, 0)
            waits = isinstance(step_named(what.steps[position]), WaitingStep)
            if waits and link_id is not None and not await progress.spend_link(tx, society, link_id, now):
                return LinkState.USED  # the same form twice at once: one mail with one key
            state = JourneyState(
                journey_id,
                name,
                what,
                what.steps,
                position,
                link_id,
                view.address or proved.address,
                proved.member_id,
                proved.answers,
                ctx.ring.active(now).kid,
                0,
                max(view.expires_at, now + JOURNEY_MS),
            )
            await tx.execute(
                insert(journey_table).values(
                    society=society.id,
                    id=journey_id,
                    name=name,
                    steps=json.dumps(what.steps),
                    position=position,
                    link_id=link_id,
                    address=state.address,
                    member_id=proved.member_id,
                    proof_hash=token_hash(proof),
                    sealed=progress.sealed_answers(ctx, society, journey_id, proved.answers, now),
                    kid=state.kid,
                    started_at=now,
                    expires_at=state.expires_at,
                )
            )
            await progress.arrive(ctx, tx, society, state, now)
    if isinstance(proved, Refused):
        emit("journey.refused", society=society.id, reason=step.name)
        return proved
    ctx.store.wake("outbox")
    emit("journey.begun", society=society.id, reason=name)
    return Begun(journey_id, proof, what.steps[position])


async def begun_here(ctx: Context, society: Society, link_id: int, browser: str) -> Begun | None:
    """The newest journey that this browser began, or went on with, by a link that is spent since: after a double tap it
    never saw the first answer, and asks again."""
    proof, c = token_of(browser, link_id), journey_table.c
    mailed_for = select(link.c.journey_id).where(link.c.society == society.id, link.c.id == link_id)
    statement = (
        select(c.id)
        .where(
            c.society == society.id,
            or_(c.link_id == link_id, c.id == mailed_for.scalar_subquery()),
            c.proof_hash == token_hash(proof),
        )
        .order_by(c.started_at.desc(), c.id)
        .limit(1)
    )
    async with ctx.store.read() as tx:
        journey_id = await tx.scalar(statement) if browser else None
    return None if journey_id is None else Begun(journey_id, proof, "")


async def page(ctx: Context, society: Society, journey_id: int, proof: str | None, now: int) -> StepPage | JourneyEnd:
    """The current step, or why there is none. After the end the DONE facts show until the journey expires."""
    async with ctx.store.read() as tx:
        state = await progress.open_for(ctx, tx, society, journey_id, proof, now)
        if isinstance(state, JourneyEnd):
            return state
        return await page_of(ctx, tx, society, state)


async def page_of(
    ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, behind: int | None = None
) -> StepPage | JourneyEnd:
    """The page of the step at the journey's place; `behind`: the place of the form behind its mailed link instead."""
    place = state.position if behind is None else behind
    step = step_named(state.steps[place])
    waits = behind is None and isinstance(step, WaitingStep)
    fields: tuple[Field, ...] = ()
    values: Mapping[str, str] = {}
    facts: dict[str, Any] = {"journey": state.journey, "address": state.address}
    if waits:
        for name in reversed(state.steps[: state.position]):
            before = step_named(name)
            if not isinstance(before, ShownStep):
                break
            try:
                facts |= before.facts(ctx, society, state)
            except KeyRefused:  # what the screen showed is worth nothing since: begin again
                return JourneyEnd(End.EXPIRED)
    elif isinstance(step, FormStep):
        fields = step.fields(society, state.journey)
        values, more = await step.values(ctx, tx, society, state)
        facts |= more
    else:  # the file dropped this step while the journey stood before it
        return JourneyEnd(End.EXPIRED)
    assert step is not None
    return StepPage(
        state.id,
        state.name,
        step.name,
        _shown(state.steps[: place + 1]),
        _shown(state.steps),
        fields,
        values,
        facts,
        state.expires_at,
        waits,
        tuple(_back(state, state.position)) if behind is None else (),
    )


async def submit(
    ctx: Context,
    society: Society,
    journey_id: int,
    proof: str | None,
    step: str,
    form: Mapping[str, str],
    now: int,
) -> Moved | Refused | JourneyEnd:
    """POST of a later step; its form is that step's own."""
    async with ctx.store.read() as tx:
        state = await progress.open_for(ctx, tx, society, journey_id, proof, now)
    if isinstance(state, JourneyEnd):
        return state
    current = state.steps[state.position]
    work = form_step(current)
    if isinstance(work, LinkedStep) or step != current:  # what stands behind a mailed link is reached by the link only
        return Moved(current)
    if work is None:
        return JourneyEnd(End.EXPIRED)
    passed = await work.check(ctx, society, state, form, now)
    if isinstance(passed, Refused):
        return passed
    if passed.stays:
        async with ctx.store.begin() as tx:
            await progress.keep(ctx, tx, society, state, passed.answers, now)
        return Moved(current)
    try:
        async with ctx.store.begin() as tx:
            await progress.advance(ctx, tx, society, state, work, passed, now)
    except UndoneError as undone:
        if isinstance(undone.end, JourneyEnd) and undone.end.kind is End.UNKNOWN:
            # the same form twice at once: the other one went through
            return await _after(ctx, society, journey_id, proof, now)
        return undone.end
    except IntegrityError:
        async with ctx.store.read() as tx:
            refused = await work.conflict(ctx, tx, society, state, passed)
        if refused is None:
            raise
        return refused
    ctx.store.wake("outbox")
    target = progress.next_place(state.steps, state.position)
    if target < len(state.steps):
        return Moved(state.steps[target])
    emit("journey.done", society=society.id, reason=state.name)
    return Moved(None)


async def go_back(
    ctx: Context, society: Society, journey_id: int, proof: str | None, step: str, now: int
) -> Moved | JourneyEnd:
    """Leads back to an earlier step to change what was typed; mailed links of the journey die. Moved names the step the
    journey stands at afterwards, which is the present one where `step` cannot be reached."""
    async with ctx.store.begin() as tx:
        state = await progress.open_for(ctx, tx, society, journey_id, proof, now)
        if isinstance(state, JourneyEnd):
            return state
        if step not in _back(state, state.position):
            return Moved(state.steps[state.position])
        c = journey_table.c
        moved = await tx.execute(
            update(journey_table)
            .where(c.society == society.id, c.id == state.id, c.position == state.position, c.done_at.is_(None))
            .values(position=state.steps.index(step))
        )
        if moved.rowcount:
            await progress.revoke_mailed(tx, society, state.id, now)
    return Moved(step)


async def send_again(
    ctx: Context, society: Society, journey_id: int, proof: str | None, now: int
) -> Moved | Refused | JourneyEnd:
    """The mail of the waiting step once more, within the address's budget."""
    async with ctx.store.begin() as tx:
        state = await progress.open_for(ctx, tx, society, journey_id, proof, now)
        if isinstance(state, JourneyEnd):
            return state
        current = state.steps[state.position]
        step = step_named(current)
        if not isinstance(step, WaitingStep):
            return Moved(current)
        hit = limits.address(ctx.settings.site, society, stored(state.address))
        if (again_at := await ratelimit.wait_until(tx, [hit], now)) is not None:
            return Refused.whole(words.just_sent(again_at, now), 429)
        if not await progress.hold(tx, society, state):
            return Moved(current)  # another window went back or on meanwhile; the page shows where to
        await progress.mail_again(ctx, tx, society, state, step, now)
    ctx.store.wake("outbox")
    return Moved(current)


def _shown(steps: tuple[str, ...]) -> int:
    """How many pages these steps have."""
    return sum(not isinstance(step_named(name), ShownStep) for name in steps)


def _back(state: JourneyState, place: int) -> list[str]:
    """Earlier steps that may be changed from the page at `place`: the run of editable ones right before it."""
    step = step_named(state.steps[place])
    if not (isinstance(step, FormStep | WaitingStep) and step.leads_back):
        return []
    found = []
    for name in reversed(state.steps[:place]):
        before = step_named(name)
        if isinstance(before, FormStep) and before.editable:
            found.append(name)
        elif not (isinstance(before, FormStep) and before.leads_back):
            break
    return found


async def invite_family(ctx: Context, society: Society, journey_id: int, proof: str | None, now: int) -> bool:
    """Mails a fresh link to the address of a finished journey; False when it is not finished or over budget."""
    async with ctx.store.begin() as tx:
        row = await progress.find(tx, society, journey_id)
        if row is None or row.done_at is None or not proof_fits(row.proof_hash, proof) or now >= row.expires_at:
            return False
        address = stored(row.address)
        if not all(await ratelimit.hit(tx, [limits.address(ctx.settings.site, society, address)], now)):
            return False
        await request_links(ctx, tx, [LinkRequest(society.id, address)], now)
    ctx.store.wake("outbox")
    return True


def _choose(society: Society, start: Start, link_id: int | None, name: str | None) -> tuple[str, Journey] | None:
    """The journey to begin: the one named, or the file's first."""
    for key, journey in open_journeys(society, start, link_id).items():
        if name in (None, "", key):
            return key, journey
    return None


async def _link(tx: AsyncConnection, society: Society, purpose: LinkPurpose, link_id: int, now: int) -> LinkView:
    c = link.c
    statement = select(c.address, c.expires_at, c.spent_at, c.revoked_at).where(
        c.society == society.id, c.id == link_id, c.purpose == purpose.value
    )
    row = (await tx.execute(statement)).first()
    if row is None:
        return LinkView(LinkState.UNKNOWN)
    state = credentials.state(row.expires_at, row.spent_at, row.revoked_at, now)
    return LinkView(state, row.address, row.expires_at) if state is LinkState.LIVE else LinkView(state)


async def _after(ctx: Context, society: Society, journey_id: int, proof: str | None, now: int) -> Moved | JourneyEnd:
    async with ctx.store.read() as tx:
        state = await progress.open_for(ctx, tx, society, journey_id, proof, now)
    return state if isinstance(state, JourneyEnd) else Moved(state.steps[state.position])
