"""仮ログイン: the login ID and temporary password from the letter.

Whatever is wrong, the answer is one sentence. A letter pauses after ten wrong passwords for half an hour, doubling to a
day, and is dead at a hundred (five and fifty where no mail comes first); while it pauses even the right one is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit, credentials, ratelimit
from mailbot.config import Journey, Society, Start
from mailbot.credentials import Format, KeyRefused
from mailbot.mail.address import AddressError, stored
from mailbot.store.tables import member, temporary

from .. import choices, limits, people, words
from ..context import Context
from ..outcomes import Field, Refused
from .base import ProofStep, Proved
from .register import LETTER_ID

FAILURES_A_PAUSE = 10
PAUSES = 10
FIRST_PAUSE_MS = 30 * 60_000
LONGEST_PAUSE_MS = 24 * 3_600_000


def pause_ms(failures: int, strict: bool) -> int | None:
    """How long a letter pauses after this failure: 0 = not at all, None = for ever."""
    step = FAILURES_A_PAUSE // 2 if strict else FAILURES_A_PAUSE
    count, rest = divmod(failures, step)
    if count >= PAUSES:
        return None
    return 0 if rest else int(min(FIRST_PAUSE_MS << (count - 1), LONGEST_PAUSE_MS))


class TemporaryLogin(ProofStep):
    """Finds the member by the letter's credentials; the letter stays live until the registration is finished."""

    name = "temporary-login"

    def problems(self, society: Society, journey: Journey) -> list[str]:
        if Start.PAGE in journey.starts and not journey.requires_address_on_file:
            return ["a start by page sends no mail first: requires_address_on_file must be true"]
        return []

    def fields(self, society: Society, journey: Journey) -> tuple[Field, ...]:
        return (
            Field("login_id", "temporary.id", "text", "off"),
            Field("password", "temporary.password", "text", "off"),
        )

    async def prove(
        self,
        ctx: Context,
        tx: AsyncConnection,
        society: Society,
        journey: Journey,
        invited: str,
        form: Mapping[str, str],
        network: str,
        now: int,
    ) -> Proved | Refused:
        labels = {field.name: field.label for field in self.fields(society, journey)}
        if (empty := choices.left_empty(society, form, labels)) is not None:
            return empty
        strict = journey.requires_address_on_file
        hits = limits.printed_credentials(ctx.settings.site, society, network, strict)
        if (again_at := await ratelimit.wait_until(tx, hits, now)) is not None:
            return Refused.whole(words.too_often(again_at, now), 429)
        row = await _letter(ctx, tx, society, form.get("login_id", ""))
        # an unknown ID costs what a known one costs: one secret made, one update sent
        right = _right(ctx, society, row, form.get("password", ""), now)
        open_now = row is not None and not (row.paused_until is not None and now < row.paused_until)
        failures = row.failures + 1 if row is not None and open_now and not right else 0
        await _count(tx, society, row.id if row is not None and open_now else 0, failures, strict, now)
        if row is None or not open_now or not right:
            if row is not None and failures and pause_ms(failures, strict) != 0:
                facts = {"letter": row.id, "failures": failures}
                await audit.record(tx, "system", "letter-paused", society.id, row.member_id, facts, now)
            return Refused.whole(words.wrong_letter(society))
        expired = row.expires_at is not None and now >= row.expires_at
        if expired or row.member_state != "invited" or people.has_left(society, row.left_on, now):
            return Refused.whole(words.wrong_letter(society))
        address = ""
        if strict:
            person = people.open_person(ctx.ring, row.sealed, society.id, row.member_id)
            try:
                address = stored(person.address).text
            except AddressError:
                return Refused.whole(words.wrong_letter(society))
        # behind one address of a carrier or an employer many members are right in the same hour
        await ratelimit.forgive(tx, [hit for hit in hits if hit.scope != "web"])
        return Proved(row.member_id, address, {LETTER_ID: row.id})


async def _letter(ctx: Context, tx: AsyncConnection, society: Society, login_id: str) -> Any:
    """The live letter of a printed login ID with its member, locked against other guesses."""
    statement = (
        select(
            temporary.c.id,
            temporary.c.member_id,
            temporary.c.sealed_password,
            temporary.c.kid,
            temporary.c.generation,
            temporary.c.format,
            temporary.c.failures,
            temporary.c.paused_until,
            temporary.c.expires_at,
            member.c.state.label("member_state"),
            member.c.left_on,
            member.c.sealed,
        )
        .join(member, (member.c.society == temporary.c.society) & (member.c.id == temporary.c.member_id))
        .where(
            temporary.c.society == society.id,
            temporary.c.login_key == people.temporary_key(ctx.ring, society.id, login_id),
            temporary.c.state == "live",
        )
        .with_for_update(of=temporary)
    )
    return (await tx.execute(statement)).first()


def printed_password(ctx: Context, society: Society, row: Any) -> tuple[str, bool]:
    """(temporary password of a letter's row, whether upper and lower case differ). Raises KeyRefused, SealBroken."""
    if row.sealed_password is not None:
        blob = row.sealed_password
        return people.open_text(ctx.ring, blob, society.id, "temporary", "sealed_password", row.id), True
    fmt = Format.parse(row.format)
    return credentials.password(ctx.ring, row.kid, society.id, row.id, row.generation, fmt), fmt.cased


def _right(ctx: Context, society: Society, row: Any, typed: str, now: int) -> bool:
    if row is None:
        fmt = Format.parse(society.temporary.password)
        nobody = credentials.password(ctx.ring, ctx.ring.active(now).kid, society.id, 0, 0, fmt)
        credentials.same(typed, nobody)
        return False
    try:
        expected, cased = printed_password(ctx, society, row)
    except KeyRefused:  # a compromised key: its letters are dead
        return False
    return credentials.same(typed, expected, any_case=not cased)


async def _count(tx: AsyncConnection, society: Society, letter_id: int, failures: int, strict: bool, now: int) -> None:
    """Writes the letter's failures (0 after the right password), its pause and its death."""
    pause = pause_ms(failures, strict) if failures else 0
    dead = pause is None
    await tx.execute(
        update(temporary)
        .where(temporary.c.society == society.id, temporary.c.id == letter_id)
        .values(
            failures=failures,
            paused_until=now + pause if pause else None,
            state="dead" if dead else "live",
            ended_at=now if dead else None,
        )
    )


TEMPORARY_LOGIN = TemporaryLogin()
