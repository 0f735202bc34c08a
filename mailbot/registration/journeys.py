"""A registration from its link to its end: which step is next, who may take it, until when.

A journey row keeps the list of steps it began with. Its first step is a proof: passing it writes the row and binds it
to the browser by a random cookie, of which the row holds the SHA-256. Reading pages never writes.

The link is spent when the first of its members is done; who had passed the proof by then may still finish, once.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import credentials, ratelimit
from mailbot.config import Journey, Society, Start
from mailbot.credentials import LinkPurpose, LinkState
from mailbot.mail.address import stored
from mailbot.store import new_id
from mailbot.store.tables import journey as journey_table
from mailbot.store.tables import link, member
from mailbot.telemetry import emit

from . import addresses, limits, people
from .context import Context
from .invite import LinkRequest, request_links
from .notices import MINUTE_MS, new_token, token_hash
from .outcomes import Begun, End, JourneyEnd, LinkView, Moved, Refused, StepPage
from .steps import FormStep, JourneyState, Passed, form_step, proof_step

JOURNEY_MS = 60 * MINUTE_MS
"""What is left at least after the proof, however late the link was opened."""

_MAILED = (Start.BLANK_MAIL, Start.WEB_FORM)


class _UndoneError(Exception):
    """Rolls the transaction back and ends the journey."""

    def __init__(self, end: JourneyEnd) -> None:
        super().__init__(end.kind)
        self.end = end


async def peek_link(ctx: Context, society: Society, purpose: LinkPurpose, link_id: int, now: int) -> LinkView:
    """The state of a link whose MAC fitted; reads only."""
    async with ctx.store.read() as tx:
        return await _link(tx, society, purpose, link_id, now)


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
    return StepPage(None, name, step.name, 1, len(what.steps), step.fields(society), {}, {}, expires_at)


async def begin(
    ctx: Context,
    society: Society,
    start: Start,
    link_id: int | None,
    form: Mapping[str, str],
    network: str,
    now: int,
    journey: str | None = None,
) -> Begun | Refused | LinkState:
    """POST of the proof step. Form of `temporary-login`: login_id, password."""
    chosen = _choose(society, start, link_id, journey)
    if chosen is None:
        return LinkState.UNKNOWN
    name, what = chosen
    step = proof_step(what.steps[0])
    assert step is not None
    proof, journey_id = new_token(), new_id()
    async with ctx.store.begin() as tx:
        view = LinkView(LinkState.LIVE)
        if link_id is not None:
            view = await _link(tx, society, LinkPurpose.REGISTRATION, link_id, now)
            if view.state is not LinkState.LIVE:
                return view.state
        proved = await step.prove(ctx, tx, society, what, form, network, now)
        if not isinstance(proved, Refused):
            answers = json.dumps(dict(proved.answers)).encode()
            await tx.execute(
                insert(journey_table).values(
                    society=society.id,
                    id=journey_id,
                    name=name,
                    steps=json.dumps(what.steps),
                    position=1,
                    link_id=link_id,
                    address=view.address or proved.address,
                    member_id=proved.member_id,
                    proof_hash=token_hash(proof),
                    sealed=ctx.ring.seal(answers, people.place(society.id, "journey", "sealed", journey_id), now),
                    started_at=now,
                    expires_at=max(view.expires_at, now + JOURNEY_MS),
                )
            )
    if isinstance(proved, Refused):
        emit("journey.refused", society=society.id, reason=step.name)
        return proved
    emit("journey.begun", society=society.id, reason=name)
    return Begun(journey_id, proof, what.steps[1])


async def page(ctx: Context, society: Society, journey_id: int, proof: str | None, now: int) -> StepPage | JourneyEnd:
    """The current step, or why there is none. After the end the DONE facts show until the journey expires."""
    async with ctx.store.read() as tx:
        state = await _open(ctx, tx, society, journey_id, proof, now)
        if isinstance(state, JourneyEnd):
            return state
        step = form_step(state.steps[state.position])
        if step is None:  # the file dropped this step while the journey stood before it
            return JourneyEnd(End.EXPIRED)
        values, facts = await step.values(ctx, tx, society, state)
    place, total = state.position + 1, len(state.steps)
    return StepPage(
        state.id, state.name, step.name, place, total, step.fields(society), values, facts, state.expires_at
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
    """POST of a later step. Form of `credentials`: login_id, password, password_again, address, nickname."""
    async with ctx.store.read() as tx:
        state = await _open(ctx, tx, society, journey_id, proof, now)
    if isinstance(state, JourneyEnd):
        return state
    current = state.steps[state.position]
    work = form_step(current)
    if work is None:
        return JourneyEnd(End.EXPIRED)
    if step != current:
        return Moved(current)
    passed = await work.check(ctx, society, state, form, now)
    if isinstance(passed, Refused):
        return passed
    try:
        async with ctx.store.begin() as tx:
            await _take(ctx, tx, society, state, work, passed, now)
    except _UndoneError as undone:
        if undone.end.kind is End.UNKNOWN:  # the same form twice at once: the other one went through
            return await _after(ctx, society, journey_id, proof, now)
        return undone.end
    except IntegrityError:
        async with ctx.store.read() as tx:
            refused = await work.conflict(ctx, tx, society, state, passed)
        if refused is None:
            raise
        return refused
    ctx.store.wake("outbox")
    if state.position + 1 < len(state.steps):
        return Moved(state.steps[state.position + 1])
    emit("journey.done", society=society.id, reason=state.name)
    return Moved(None)


async def invite_family(ctx: Context, society: Society, journey_id: int, proof: str | None, now: int) -> bool:
    """Mails a fresh link to the address of a finished journey; False when it is not finished or over budget."""
    async with ctx.store.begin() as tx:
        row = await _row(tx, society, journey_id)
        if row is None or row.done_at is None or not proof_fits(row.proof_hash, proof) or now >= row.expires_at:
            return False
        address = stored(row.address)
        if not all(await ratelimit.hit(tx, [limits.address(ctx.settings.site, society, address)], now)):
            return False
        await request_links(ctx, tx, [LinkRequest(society.id, address)], now)
    ctx.store.wake("outbox")
    return True


def _choose(society: Society, start: Start, link_id: int | None, name: str | None) -> tuple[str, Journey] | None:
    """The journey to begin: a mailed link opens those that start with a mail or the web form, whichever it was."""
    starts = _MAILED if link_id is not None else (start,)
    if link_id is None and start in _MAILED:
        return None
    for key, journey in society.journeys.items():
        if (name is None or key == name) and any(one in journey.starts for one in starts):
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


async def _row(tx: AsyncConnection, society: Society, journey_id: int) -> Any:
    c = journey_table.c
    statement = (
        select(journey_table, member.c.state.label("member_state"), member.c.login_id, member.c.sealed_nickname)
        .outerjoin(member, (member.c.society == c.society) & (member.c.id == c.member_id))
        .where(c.society == society.id, c.id == journey_id)
    )
    return (await tx.execute(statement)).first()


def proof_fits(proof_hash: bytes | None, proof: str | None) -> bool:
    """Whether a cookie is the one whose hash a row holds."""
    return proof is not None and proof_hash is not None and hmac.compare_digest(bytes(proof_hash), token_hash(proof))


async def _open(
    ctx: Context, tx: AsyncConnection, society: Society, journey_id: int, proof: str | None, now: int
) -> JourneyState | JourneyEnd:
    """The journey, if this browser may go on with it."""
    row = await _row(tx, society, journey_id)
    if row is None:
        return JourneyEnd(End.UNKNOWN)
    if not proof_fits(row.proof_hash, proof):
        return JourneyEnd(End.OTHER_BROWSER)
    if now >= row.expires_at or row.member_state is None:
        return JourneyEnd(End.EXPIRED)
    if row.done_at is not None:
        place = (society.id, "member", "sealed_nickname", row.member_id)
        nickname = people.open_text(ctx.ring, row.sealed_nickname, *place)
        waiting = await addresses.pending(tx, society, row.member_id, now)
        return JourneyEnd(End.DONE, nickname, row.login_id or "", waiting[0] if waiting else None)
    if row.member_state == "registered":
        return JourneyEnd(End.DONE, already=True)
    answers = ctx.ring.open(bytes(row.sealed), people.place(society.id, "journey", "sealed", row.id))
    return JourneyState(
        row.id,
        row.name,
        tuple(json.loads(row.steps)),
        row.position,
        row.link_id,
        row.address,
        row.member_id,
        json.loads(answers),
        row.expires_at,
        row.done_at,
    )


async def _take(
    ctx: Context,
    tx: AsyncConnection,
    society: Society,
    state: JourneyState,
    step: FormStep,
    passed: Passed,
    now: int,
) -> None:
    """Moves the journey one step on, with all the step leaves behind. Raises _UndoneError."""
    last = state.position + 1 == len(state.steps)
    c = journey_table.c
    moved = await tx.execute(
        update(journey_table)
        .where(
            c.society == society.id,
            c.id == state.id,
            c.position == state.position,
            c.done_at.is_(None),
            c.expires_at > now,  # an emergency stop ends journeys by ending their time
        )
        .values({"done_at": now} if last else {"position": state.position + 1})
    )
    if moved.rowcount != 1:
        raise _UndoneError(JourneyEnd(End.UNKNOWN))
    if last:
        # before the link, as everywhere: the address's budget row is the lock for its links
        await ratelimit.refund(tx, society.id, "address", stored(state.address).key)
    if last and state.link_id is not None:
        # no matter if another member of the household was first: the proof was passed while the link was live
        await tx.execute(
            update(link)
            .where(link.c.society == society.id, link.c.id == state.link_id, link.c.spent_at.is_(None))
            .values(spent_at=now)
        )
    end = await step.leave(ctx, tx, society, state, passed, now)
    if end is not None:
        raise _UndoneError(end)


async def _after(ctx: Context, society: Society, journey_id: int, proof: str | None, now: int) -> Moved | JourneyEnd:
    async with ctx.store.read() as tx:
        state = await _open(ctx, tx, society, journey_id, proof, now)
    return state if isinstance(state, JourneyEnd) else Moved(state.steps[state.position])
