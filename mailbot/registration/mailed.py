"""Behind the mailed link of a journey: the form that carries the proof to whichever browser opened it.

The link alone opens nothing: what was shown on the screen, or the password chosen before, is asked. Wrong entries are
counted on the journey, before they are looked at, so that many at once are many; after the last one the journey ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit, credentials
from mailbot.config import Society
from mailbot.credentials import LinkPurpose, LinkState
from mailbot.store.tables import journey as journey_table
from mailbot.store.tables import link
from mailbot.telemetry import emit

from . import progress
from .context import Context
from .journeys import page_of
from .notices import new_token, token_hash, token_of
from .outcomes import Begun, End, JourneyEnd, Refused, StepPage
from .progress import UndoneError
from .steps import JourneyState, LinkedStep, linked_step


async def first_page(ctx: Context, society: Society, link_id: int, now: int) -> StepPage | JourneyEnd | LinkState:
    """The form behind the link; reads only."""
    async with ctx.store.read() as tx:
        found = await _behind(ctx, tx, society, link_id, now)
        if not isinstance(found, tuple):
            return found
        state, place, _ = found
        return await page_of(ctx, tx, society, state, place)


async def submit(
    ctx: Context, society: Society, link_id: int, form: Mapping[str, str], now: int, browser: str = ""
) -> Begun | Refused | JourneyEnd | LinkState:
    """POST behind the link. Begun: this browser goes on with the journey from now on, with a new cookie; its `next` is
    empty when the journey is done. `browser`: as in `journeys.begin`."""
    async with ctx.store.read() as tx:
        found = await _behind(ctx, tx, society, link_id, now)
    if not isinstance(found, tuple):
        return found
    state, place, step = found
    if (empty := step.empty(society, form)) is not None:
        return empty
    failures = await _count(ctx, society, state, step, now)
    if failures is None:
        async with ctx.store.read() as tx:
            found = await _behind(ctx, tx, society, link_id, now)
        # the same form twice at once: the other one went through meanwhile
        return JourneyEnd(End.TOO_MANY_TRIES) if isinstance(found, tuple) else found
    if not await step.right(ctx, society, state, form):
        if failures < step.tries:
            return step.wrong(society, step.tries - failures)
        async with ctx.store.begin() as tx:
            c = journey_table.c
            await tx.execute(
                update(journey_table)
                .where(c.society == society.id, c.id == state.id, c.done_at.is_(None), c.failures >= step.tries)
                .values(position=progress.DIED)
            )
            await progress.revoke_mailed(tx, society, state.id, now)
            facts = {"journey": state.name, "step": step.name}
            await audit.record(tx, "system", "journey-tries-used-up", society.id, state.member_id, facts, now)
        emit("journey.refused", society=society.id, reason=step.name)
        return JourneyEnd(End.TOO_MANY_TRIES)
    passed = await step.check(ctx, society, state, form, now)
    if isinstance(passed, Refused):
        return passed
    proof = token_of(browser, link_id) if browser else new_token()
    try:
        async with ctx.store.begin() as tx:
            columns = {"proof_hash": token_hash(proof), "failures": 0}
            await progress.advance(ctx, tx, society, state, step, passed, now, position=place, columns=columns)
            await progress.spend_link(tx, society, link_id, now)
    except UndoneError as undone:
        if isinstance(undone.end, JourneyEnd) and undone.end.kind is End.UNKNOWN:
            return LinkState.USED  # the same form twice at once: the other one went through
        return undone.end
    except IntegrityError:
        async with ctx.store.read() as tx:
            refused = await step.conflict(ctx, tx, society, state, passed)
        if refused is None:
            raise
        return refused
    ctx.store.wake("outbox")
    target = progress.next_place(state.steps, place)
    if target == len(state.steps):
        emit("journey.done", society=society.id, reason=state.name)
        return Begun(state.id, proof, "")
    return Begun(state.id, proof, state.steps[target])


async def _behind(
    ctx: Context, tx: AsyncConnection, society: Society, link_id: int, now: int
) -> tuple[JourneyState, int, LinkedStep] | JourneyEnd | LinkState:
    row = await _link(tx, society, link_id)
    if row is None:
        return LinkState.UNKNOWN
    found = await progress.find(tx, society, row.journey_id)
    if found is not None and found.position == progress.DIED:
        return JourneyEnd(End.TOO_MANY_TRIES)
    state = credentials.state(row.expires_at, row.spent_at, row.revoked_at, now)
    if state is not LinkState.LIVE:
        return state
    if found is None:
        return LinkState.UNKNOWN
    journey = await progress.opened(ctx, tx, society, found, now)
    if isinstance(journey, JourneyEnd):
        # another journey registered the member; nothing is told to who only holds the link
        return LinkState.USED if journey.kind is End.DONE else LinkState.EXPIRED
    behind = linked_step(journey.steps, journey.position)
    return LinkState.REVOKED if behind is None else (journey, *behind)


async def _link(tx: AsyncConnection, society: Society, link_id: int) -> Any:
    c = link.c
    statement = select(c.journey_id, c.expires_at, c.spent_at, c.revoked_at).where(
        c.society == society.id, c.id == link_id, c.purpose == LinkPurpose.MAILED_LINK.value
    )
    return (await tx.execute(statement)).first()


async def _count(ctx: Context, society: Society, state: JourneyState, step: LinkedStep, now: int) -> int | None:
    """Counts a try; how many there were with it. None when there are none left."""
    c = journey_table.c
    async with ctx.store.begin() as tx:
        counted = await tx.execute(
            update(journey_table)
            .where(c.society == society.id, c.id == state.id, c.failures < step.tries, c.position == state.position)
            .values(failures=c.failures + 1)
            .returning(c.failures)
        )
        failures: int | None = counted.scalar_one_or_none()
        return failures
