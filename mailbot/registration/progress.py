"""A journey's row: reading it for the browser it belongs to, and moving it on.

Arriving at a waiting step mails its link and spends the link the journey began with; arriving at the end spends it too.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import ratelimit
from mailbot.config import Journey, Society
from mailbot.credentials import LinkPurpose
from mailbot.delivery import outbox, suppression
from mailbot.delivery.outbox import Lane, NewMail
from mailbot.mail.address import stored
from mailbot.mail.causes import Cause
from mailbot.store import new_id
from mailbot.store.tables import journey as journey_table
from mailbot.store.tables import link, member

from . import addresses, formula, limits, people, words
from .context import Context
from .invite import mail_deadline
from .notices import MINUTE_MS, token_hash
from .outcomes import End, JourneyEnd, Refused
from .steps import FormStep, JourneyState, Passed, ShownStep, WaitingStep, step_named

DIED = -1
"""`position` of a journey that ended because of too many wrong tries."""


class UndoneError(Exception):
    """Rolls the transaction back: the journey has ended, or the form is refused."""

    def __init__(self, end: JourneyEnd | Refused) -> None:
        super().__init__(type(end).__name__)
        self.end = end


def proof_fits(proof_hash: bytes | None, proof: str | None) -> bool:
    """Whether a cookie is the one whose hash a row holds."""
    return proof is not None and proof_hash is not None and hmac.compare_digest(bytes(proof_hash), token_hash(proof))


async def find(tx: AsyncConnection, society: Society, journey_id: int) -> Any:
    """The row with what the end shows of its member; None when there is none."""
    c, m = journey_table.c, member.c
    shown = (m.state.label("member_state"), m.login_id, m.login_kind, m.sealed_nickname, m.login_opens_at)
    statement = (
        select(journey_table, *shown, m.sealed.label("member_sealed"))
        .outerjoin(member, (m.society == c.society) & (m.id == c.member_id))
        .where(c.society == society.id, c.id == journey_id)
    )
    return (await tx.execute(statement)).first()


async def open_for(
    ctx: Context, tx: AsyncConnection, society: Society, journey_id: int, proof: str | None, now: int
) -> JourneyState | JourneyEnd:
    """The journey, if this browser may go on with it."""
    row = await find(tx, society, journey_id)
    if row is None:
        return JourneyEnd(End.UNKNOWN)
    if not proof_fits(row.proof_hash, proof):
        return JourneyEnd(End.OTHER_BROWSER)
    return await opened(ctx, tx, society, row, now)


async def opened(
    ctx: Context, tx: AsyncConnection, society: Society, row: Any, now: int
) -> JourneyState | JourneyEnd:
    """A row of `find`, for who may see it."""
    if row.position == DIED:
        return JourneyEnd(End.TOO_MANY_TRIES)
    if now >= row.expires_at or row.member_state is None:
        return JourneyEnd(End.EXPIRED)
    if row.done_at is not None:
        place = (society.id, "member", "sealed_nickname", row.member_id)
        nickname = people.open_text(ctx.ring, row.sealed_nickname, *place)
        waiting = await addresses.pending(tx, society, row.member_id, now)
        is_open = row.login_opens_at is not None and row.login_opens_at <= now
        kept = (row.login_kind, row.login_id, row.member_sealed)
        login_id = formula.shown_id(ctx.ring, society, row.member_id, *kept)
        return JourneyEnd(End.DONE, nickname, login_id, waiting[0] if waiting else None, login_is_open=is_open)
    if row.member_state == "registered":
        return JourneyEnd(End.DONE, already=True)
    answers = ctx.ring.open(bytes(row.sealed), people.place(society.id, "journey", "sealed", row.id))
    steps = tuple(json.loads(row.steps))
    return JourneyState(
        row.id,
        row.name,
        society.journeys.get(row.name) or Journey(starts=(), steps=steps),
        steps,
        row.position,
        row.link_id,
        row.address or "",
        row.member_id,
        json.loads(answers),
        row.kid,
        row.failures,
        row.expires_at,
    )


def sealed_answers(ctx: Context, society: Society, journey_id: int, answers: Mapping[str, Any], now: int) -> bytes:
    """`journey.sealed`."""
    data = json.dumps(dict(answers), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return ctx.ring.seal(data, people.place(society.id, "journey", "sealed", journey_id), now)


def next_place(steps: tuple[str, ...], position: int) -> int:
    """The place after `position` where the journey stops again: steps that are only shown are passed by."""
    place = position + 1
    while place < len(steps) and isinstance(step_named(steps[place]), ShownStep):
        place += 1
    return place


async def advance(
    ctx: Context,
    tx: AsyncConnection,
    society: Society,
    state: JourneyState,
    step: FormStep,
    passed: Passed,
    now: int,
    *,
    position: int | None = None,
    columns: Mapping[str, Any] | None = None,
) -> None:
    """Moves the journey on from `position` (where it stands, by default) with all the step leaves behind.

    `columns`: what else changes in the row. Raises UndoneError.
    """
    target = next_place(state.steps, state.position if position is None else position)
    last = target == len(state.steps)
    coming = None if last else step_named(state.steps[target])
    if isinstance(coming, WaitingStep) and coming.counts:
        # before everything else, as everywhere: the address's budget row is the lock for its links
        typed = stored(state.address if passed.address is None else passed.address)
        hits = limits.new_addresses(ctx.settings.site, society, [typed], state.member_id)
        if (again_at := await ratelimit.wait_until(tx, hits, now)) is not None:
            raise UndoneError(Refused.whole(words.just_sent(again_at, now), 429))
    if last:
        key = society.id, stored(state.address).key
        await ratelimit.refund(tx, "", limits.EVERYWHERE, key[1])  # first, as everywhere: rows are locks
        await ratelimit.refund(tx, key[0], "address", key[1])
        if state.link_id is not None or any(isinstance(step_named(name), WaitingStep) for name in state.steps):
            # mail to there was read, so the completion mail is worth sending
            await suppression.clear(tx, [key], suppression.DISPROVED | {Cause.FILTERED})
    changes: dict[str, Any] = {"done_at": now} if last else {"position": target}
    if last or passed.answers:  # nobody reads the answers after the end: a password's hash among them stays nowhere
        answers = {} if last else {**state.answers, **passed.answers}
        changes["sealed"] = sealed_answers(ctx, society, state.id, answers, now)
    if passed.address is not None:
        changes["address"] = passed.address
    c = journey_table.c
    moved = await tx.execute(
        update(journey_table)
        .where(
            c.society == society.id,
            c.id == state.id,
            *_as_read(state),
            c.expires_at > now,  # an emergency stop ends journeys by ending their time
        )
        .values({**changes, **(columns or {})})
    )
    if moved.rowcount != 1:
        raise UndoneError(JourneyEnd(End.UNKNOWN))
    state = replace(
        state,
        position=target,
        address=state.address if passed.address is None else passed.address,
        answers={**state.answers, **passed.answers},
    )
    if last:
        await spend_link(tx, society, state.link_id, now)
    end = await step.leave(ctx, tx, society, state, passed, now)
    if end is not None:
        raise UndoneError(end)
    if not last:
        await arrive(ctx, tx, society, state, now)


def _as_read(state: JourneyState) -> tuple[ColumnElement[bool], ...]:
    """Nobody moved the journey since it was read. To and fro shows in the address: else a page of before would mail
    its link to the address of before, which then proved another one."""
    c = journey_table.c
    return c.position == state.position, func.coalesce(c.address, "") == state.address, c.done_at.is_(None)


async def hold(tx: AsyncConnection, society: Society, state: JourneyState) -> bool:
    """Locks the journey as it was read; False where it went on meanwhile. After the address's budget, as everywhere."""
    c = journey_table.c
    held = await tx.execute(
        update(journey_table)
        .where(c.society == society.id, c.id == state.id, *_as_read(state))
        .values(position=state.position)
    )
    return held.rowcount == 1


async def keep(
    ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, answers: Mapping[str, Any], now: int
) -> None:
    """Keeps answers of a step the journey stays at; nothing where it went on meanwhile."""
    c = journey_table.c
    await tx.execute(
        update(journey_table)
        .where(c.society == society.id, c.id == state.id, c.position == state.position, c.done_at.is_(None))
        .values(sealed=sealed_answers(ctx, society, state.id, {**state.answers, **answers}, now))
    )


async def arrive(ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, now: int) -> None:
    """What the step at the journey's new place does by itself; a waiting step mails its link."""
    step = step_named(state.steps[state.position])
    if isinstance(step, WaitingStep):
        await _mail_link(ctx, tx, society, state, step, now)
    elif isinstance(step, FormStep):
        await step.arrive(ctx, tx, society, state, now)


async def spend_link(tx: AsyncConnection, society: Society, link_id: int | None, now: int) -> bool:
    """Closes a link to newcomers; False where that was done before. Mostly no matter: another member of the household
    was first, but the proof was passed while the link was live."""
    if link_id is None:
        return False
    spent = await tx.execute(
        update(link)
        .where(link.c.society == society.id, link.c.id == link_id, link.c.spent_at.is_(None))
        .values(spent_at=now)
    )
    return spent.rowcount == 1


async def revoke_mailed(tx: AsyncConnection, society: Society, journey_id: int, now: int) -> None:
    """Ends the mailed links of a journey."""
    await tx.execute(
        update(link)
        .where(
            link.c.society == society.id,
            link.c.journey_id == journey_id,
            link.c.spent_at.is_(None),
            link.c.revoked_at.is_(None),
        )
        .values(revoked_at=now)
    )


async def mail_again(
    ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, step: WaitingStep, now: int
) -> None:
    """The mail of a waiting step once more, with the same link while it lives: mails cross."""
    c = link.c
    statement = (
        select(c.id, c.expires_at)
        .where(
            c.society == society.id,
            c.journey_id == state.id,
            c.spent_at.is_(None),
            c.revoked_at.is_(None),
            c.expires_at > now,
        )
        .order_by(c.expires_at.desc())
    )
    row = (await tx.execute(statement)).first()
    if row is None:
        await _mail_link(ctx, tx, society, state, step, now)
    else:
        await _put_mail(ctx, tx, society, state, step, row.id, row.expires_at, now)


async def _mail_link(
    ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, step: WaitingStep, now: int
) -> None:
    """The link row and its mail; the journey lives as long as the link."""
    link_id, address = new_id(), stored(state.address)
    expires_at = now + society.links.journey_minutes * MINUTE_MS
    c = journey_table.c
    await tx.execute(
        update(journey_table)
        .where(c.society == society.id, c.id == state.id, c.expires_at < expires_at)
        .values(expires_at=expires_at)
    )
    await spend_link(tx, society, state.link_id, now)
    await revoke_mailed(tx, society, state.id, now)
    await tx.execute(
        insert(link).values(
            society=society.id,
            id=link_id,
            purpose=LinkPurpose.MAILED_LINK.value,
            address=address.text,
            address_key=address.key,
            member_id=state.member_id,
            journey_id=state.id,
            kid=ctx.ring.active(now).kid,
            created_at=now,
            expires_at=expires_at,
        )
    )
    await _put_mail(ctx, tx, society, state, step, link_id, expires_at, now)


async def _put_mail(
    ctx: Context,
    tx: AsyncConnection,
    society: Society,
    state: JourneyState,
    step: WaitingStep,
    link_id: int,
    expires_at: int,
    now: int,
) -> None:
    mail = NewMail(
        society.id,
        step.letter,
        Lane.LINK,
        stored(state.address).text,
        member_id=state.member_id,
        link_id=link_id,
        deadline_at=mail_deadline(now, expires_at),
    )
    await outbox.put(tx, [mail], now, ctx.host)
