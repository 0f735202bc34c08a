"""The invented members, opened for the demo: what would stand on their notices and on their cards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date

from sqlalchemy import select

from mailbot import credentials
from mailbot.config import Society
from mailbot.credentials import Format
from mailbot.registration import people
from mailbot.registration.context import Context
from mailbot.store.tables import member, temporary


@dataclass(frozen=True)
class Someone:
    """What one person's notice and insurance card say."""

    name: str
    kana: str
    login_id: str
    login_reading: str
    password: str
    password_reading: str
    household: bytes
    registered: bool
    born: date | None
    symbol: str
    number: str
    relation: str


async def everybody(ctx: Context, society: Society, now: int) -> list[Someone]:
    """Everybody with a letter: the household with the most open letters first, the eldest of each first."""
    statement = (
        select(member, temporary)
        .join(temporary, (temporary.c.society == member.c.society) & (temporary.c.member_id == member.c.id))
        .where(member.c.society == society.id, temporary.c.state.in_(("live", "used")), member.c.protected.is_(False))
    )
    found = []
    async with ctx.store.read() as tx:
        rows = (await tx.execute(statement)).mappings().all()
    for row in rows:
        person = people.open_person(ctx.ring, row[member.c.sealed], society.id, row[member.c.id])
        if people.has_left(society, row[member.c.left_on], now):
            continue
        letter_id, fmt = row[temporary.c.id], Format.parse(row[temporary.c.format])
        login_id = people.open_text(
            ctx.ring, row[temporary.c.sealed_login_id], society.id, "temporary", "sealed_login_id", letter_id
        )
        if row[temporary.c.sealed_password] is not None:
            password = people.open_text(
                ctx.ring, row[temporary.c.sealed_password], society.id, "temporary", "sealed_password", letter_id
            )
        else:
            password = credentials.password(
                ctx.ring, row[temporary.c.kid], society.id, letter_id, row[temporary.c.generation], fmt
            )
        found.append(
            Someone(
                person.name,
                person.kana,
                login_id,
                credentials.reading(login_id),
                password,
                credentials.reading(password),
                bytes(row[member.c.household] or b""),
                row[member.c.state] == "registered",
                person.born,
                person.symbol,
                person.number,
                person.relation,
            )
        )
    still_open = Counter(letter.household for letter in found if not letter.registered)

    def place(one: Someone) -> tuple[int, bytes, bool, date, str]:
        return -still_open[one.household], one.household, one.registered, one.born or date.max, one.kana

    return sorted(found, key=place)
