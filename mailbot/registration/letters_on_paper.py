"""New credentials on paper for members who have none that count, or whose old ones are to die.

A letter is never changed: the old row ends as `revoked` and a new one begins, so that journeys begun with the old
password end with it, and what was printed when can still be told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import credentials
from mailbot.config import Society
from mailbot.credentials import Format
from mailbot.store import new_id
from mailbot.store.tables import member, temporary

from . import formula, people
from .context import Context
from .people import DAY_MS


async def new_letter(ctx: Context, tx: AsyncConnection, society: Society, member_id: int, now: int) -> int:
    """Makes a live letter with a login ID and a password of its own, and ends the member's older ones -> its id.

    The caller has checked that this member is to have a letter (invited, not left).
    """
    return (await new_letters(ctx, tx, society, [member_id], now))[member_id]


async def new_letters(
    ctx: Context,
    tx: AsyncConnection,
    society: Society,
    member_ids: Collection[int],
    now: int,
) -> dict[int, int]:
    """Member -> id of the new letter, as `new_letter`; each costs about as much as a row of the roster."""
    await _locked(tx, society, member_ids)
    planned = await plan(ctx, tx, society, member_ids, now)
    await _write(tx, society, planned, now)
    return planned.letters


@dataclass(frozen=True)
class Planned:
    """New letters that are not yet written: nothing has changed, and they may be printed before they count."""

    rows: tuple[dict[str, Any], ...]
    login_ids: Mapping[int, str]
    """By member."""
    before: Mapping[int, int]
    """Member -> the live letter that is to die."""

    @property
    def letters(self) -> dict[int, int]:
        """Member -> id of the new letter."""
        return {row["member_id"]: row["id"] for row in self.rows}


async def plan(
    ctx: Context,
    tx: AsyncConnection,
    society: Society,
    member_ids: Collection[int],
    now: int,
    *,
    keep_login_id: bool = False,
) -> Planned:
    """Makes up new letters and writes nothing.

    `keep_login_id`: a letter that is still live hands its login ID on (a reprint changes the password alone).
    """
    old = await _live(tx, society, member_ids)
    made = {one: new_id() for one in sorted(member_ids)}
    given = {who: row for who, row in old.items() if keep_login_id}
    login_ids = {who: _printed(ctx, society, row) for who, row in given.items()}
    login_ids |= await _drawn(ctx, tx, society, {w: i for w, i in made.items() if w not in given}, now)
    rows = (_row(ctx, society, who, letter, login_ids[who], given.get(who), now) for who, letter in made.items())
    return Planned(tuple(rows), login_ids, {who: row.id for who, row in old.items()})


async def carry_out(tx: AsyncConnection, society: Society, planned: Planned, now: int) -> bool:
    """Writes planned letters and ends the old ones. False, and nothing is written, where somebody registered meanwhile
    or has another live letter than was seen."""
    invited = await _locked(tx, society, planned.letters)
    now_live = {who: row.id for who, row in (await _live(tx, society, planned.letters)).items()}
    if invited != set(planned.letters) or now_live != dict(planned.before):
        return False
    await _write(tx, society, planned, now)
    return True


async def _write(tx: AsyncConnection, society: Society, planned: Planned, now: int) -> None:
    whose = temporary.c.member_id.in_(list(planned.letters))
    await tx.execute(
        update(temporary)
        .where(temporary.c.society == society.id, whose, temporary.c.state == "live")
        .values(state="revoked", ended_at=now)
    )
    if planned.rows:
        await tx.execute(insert(temporary), list(planned.rows))


async def _locked(tx: AsyncConnection, society: Society, members: Collection[int]) -> set[int]:
    """Locks the members' rows, so that no registration ends meanwhile -> those who are still invited."""
    m = member.c
    mine = (m.society == society.id, m.id.in_(sorted(members)))
    rows = await tx.execute(select(m.id, m.state).where(*mine).order_by(m.id).with_for_update())
    return {row.id for row in rows if row.state == "invited"}


async def _live(tx: AsyncConnection, society: Society, members: Collection[int]) -> dict[int, Any]:
    """Member -> the live letter."""
    t = temporary.c
    columns = (t.id, t.member_id, t.sealed_login_id, t.generation)
    live = select(*columns).where(t.society == society.id, t.member_id.in_(sorted(members)), t.state == "live")
    return {row.member_id: row for row in await tx.execute(live.order_by(t.created_at, t.id))}


def _printed(ctx: Context, society: Society, row: Any) -> str:
    return people.open_text(ctx.ring, row.sealed_login_id, society.id, "temporary", "sealed_login_id", row.id)


async def _drawn(
    ctx: Context, tx: AsyncConnection, society: Society, letters: Mapping[int, int], now: int
) -> dict[int, str]:
    """Member -> a login ID nobody has: generated ones may meet by chance, then the generation goes up."""
    fmt, kid = Format.parse(society.temporary.login_id), ctx.ring.active(now).kid
    found: dict[int, str] = {}
    taken: set[str] = set()
    generation = 0
    while missing := [who for who in letters if who not in found]:
        drawn = {who: credentials.login_id(ctx.ring, kid, society.id, letters[who], generation, fmt) for who in missing}
        generation += 1
        taken |= await _taken(ctx, tx, society, list(drawn.values()))
        for who, text in drawn.items():
            if text not in taken:
                taken.add(text)
                found[who] = text
    return found


async def _taken(ctx: Context, tx: AsyncConnection, society: Society, login_ids: Collection[str]) -> set[str]:
    """Those that stand on a live letter, or that a member has chosen."""
    t, m = temporary.c, member.c
    printed = {text: people.temporary_key(ctx.ring, society.id, text) for text in login_ids}
    chosen = {text: formula.login_key(ctx.ring, society, text) for text in login_ids}
    live = select(t.login_key).where(t.society == society.id, t.state == "live", t.login_key.in_(set(printed.values())))
    own = select(m.login_key).where(m.society == society.id, m.login_key.in_(set(chosen.values())))
    on_paper = {bytes(key) for key in await tx.scalars(live)}
    owned = set(await tx.scalars(own))
    return {text for text in login_ids if printed[text] in on_paper or chosen[text] in owned}


def _row(ctx: Context, society: Society, who: int, letter: int, login_id: str, old: Any, now: int) -> dict[str, Any]:
    days = society.temporary.lifetime_days
    return {
        "society": society.id,
        "id": letter,
        "member_id": who,
        "login_key": people.temporary_key(ctx.ring, society.id, login_id),
        "sealed_login_id": people.seal_text(
            ctx.ring, login_id, society.id, "temporary", "sealed_login_id", letter, now
        ),
        "kid": ctx.ring.active(now).kid,
        "generation": old.generation + 1 if old is not None else 0,
        "format": society.temporary.password,
        "state": "live",
        "expires_at": None if days is None else now + days * DAY_MS,
        "created_at": now,
    }
