"""What a change of keys means for the rows: which keys they need, what dies or is sealed anew with a lost one."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import and_, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit
from mailbot.credentials import KeyRing, sealed_kid
from mailbot.registration.context import Context
from mailbot.store.tables import help_request, journey, link, member, roster_change, temporary

CHUNK = 2000

_SEALED = (
    (member, "sealed"),
    (member, "sealed_nickname"),
    (temporary, "sealed_login_id"),
    (temporary, "sealed_password"),
    (journey, "sealed"),
    (roster_change, "sealed_before"),
    (help_request, "sealed"),
)


async def live_kids(tx: AsyncConnection) -> dict[int, int]:
    """kid -> rows that still need it: live links, live letters and every sealed column."""
    found: Counter[int] = Counter()
    for table, live in (
        (link, and_(link.c.spent_at.is_(None), link.c.revoked_at.is_(None))),
        (temporary, temporary.c.state == "live"),
    ):
        for kid, count in await tx.execute(select(table.c.kid, func.count()).where(live).group_by(table.c.kid)):
            found[kid] += count
    for table, name in _SEALED:
        column = table.c[name]
        # the second byte of a sealed value names its key
        head = func.substr(column, 1, 2)
        for value, count in await tx.execute(select(head, func.count()).where(column.is_not(None)).group_by(head)):
            found[bytes(value)[1]] += count
    return dict(found)


async def after_compromise(ctx: Context, ring: KeyRing, actor: str, now: int) -> str:
    """Kills links and letters made with compromised keys; seals everything anew. -> a sentence with the counts."""
    bad = {key.kid for key in ring.keys if key.compromised}
    async with ctx.store.begin() as tx:
        links = await tx.execute(
            update(link)
            .where(link.c.kid.in_(bad), link.c.spent_at.is_(None), link.c.revoked_at.is_(None))
            .values(revoked_at=now)
        )
        letters = await tx.execute(
            update(temporary)
            .where(temporary.c.kid.in_(bad), temporary.c.state == "live")
            .values(state="revoked", ended_at=now)
        )
        counts = {"links": links.rowcount, "letters": letters.rowcount}
        await audit.record(tx, actor, "keys.compromised", "", None, counts, now)
    sealed = 0
    for table, name in _SEALED:
        sealed += await _reseal(ctx, ring, table, name, bad, now)
    return f"{counts['links']} links and {counts['letters']} letters died, {sealed} values were sealed anew"


async def _reseal(ctx: Context, ring: KeyRing, table: object, name: str, bad: set[int], now: int) -> int:
    """In chunks, so that no transaction holds SQLite's write lock for long."""
    from sqlalchemy import Table

    assert isinstance(table, Table)
    column, keys = table.c[name], list(table.primary_key.columns)
    done = 0
    while True:
        async with ctx.store.begin() as tx:
            marks = [b"\x01" + bytes([kid]) for kid in bad]
            rows = (
                await tx.execute(
                    select(*keys, column).where(column.is_not(None), func.substr(column, 1, 2).in_(marks)).limit(CHUNK)
                )
            ).all()
            for row in rows:
                *key, blob = row
                where = and_(*(k == v for k, v in zip(keys, key, strict=True)))
                context = _context(table.name, name, dict(zip((k.name for k in keys), key, strict=True)))
                assert sealed_kid(blob) in bad
                await tx.execute(
                    update(table).where(where).values({name: ring.seal(ring.open(blob, context), context, now)})
                )
        done += len(rows)
        if len(rows) < CHUNK:
            return done


def _context(table: str, column: str, key: dict[str, object]) -> str:
    row = key.get("id") or key.get("member_id")
    if table == "roster_change":
        row = f"{key['batch_id']}/{key['member_id']}"
    return f"{key['society']}/{table}/{column}/{row}"
