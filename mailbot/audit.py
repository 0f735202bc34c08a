"""The chained record of staff and security events, written in the transaction of what it records.

Each row's digest is SHA-256 over the digest before and the row, so that a changed, removed or slipped-in row shows.
Writers are serialised until their commit: `record` belongs at the end of a transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.store.engine import insert as upsert
from mailbot.store.tables import audit, meta

ANCHOR = "audit.anchor"
"""Row of `meta` that holds number and digest of the last purged record: the chain goes on from there."""
_LOCK = 0x6D61696C_61756469  # one number for all processes; only PostgreSQL needs it


async def record(
    tx: AsyncConnection,
    actor: str,
    event: str,
    society: str,
    member_id: int | None,
    facts: Mapping[str, str | int | bool | None],
    now: int,
) -> None:
    """Appends a record. `actor`: `member`, `system`, or `staff:<name>`. `facts` hold no secret and no address."""
    if tx.dialect.name == "postgresql":
        # a lock on the last row would not do: the one who waited for it would still see it as the last
        await tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    number, before = await _last(tx)
    body = json.dumps(dict(facts), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    digest = _digest(before, number + 1, now, actor, event, society, member_id, body)
    await tx.execute(
        insert(audit).values(
            number=number + 1,
            at=now,
            actor=actor,
            event=event,
            society=society,
            member_id=member_id,
            facts=body,
            digest=digest,
        )
    )


async def verify(tx: AsyncConnection) -> int | None:
    """The number of the first record that does not follow from the one before; None when the chain is whole."""
    number, before = await _anchor(tx)
    async with tx.stream(select(audit).order_by(audit.c.number)) as rows:
        async for row in rows:
            number += 1
            fields = (row.at, row.actor, row.event, row.society, row.member_id, row.facts)
            if row.number != number or bytes(row.digest) != _digest(before, number, *fields):
                return number
            before = bytes(row.digest)
    return None


async def purge(tx: AsyncConnection, before: int, limit: int) -> int:
    """Removes up to `limit` of the oldest records made before `before` (ms); the chain stays verifiable."""
    statement = select(audit.c.number, audit.c.at, audit.c.digest).order_by(audit.c.number).limit(limit)
    old = []
    for row in await tx.execute(statement):
        if row.at >= before:
            break
        old.append(row)
    if not old:
        return 0
    last = old[-1]
    value = f"{last.number}:{bytes(last.digest).hex()}"
    anchor = upsert(tx)(meta).values(name=ANCHOR, value=value)
    await tx.execute(anchor.on_conflict_do_update(index_elements=["name"], set_={"value": value}))
    await tx.execute(delete(audit).where(audit.c.number <= last.number))
    return len(old)


async def _last(tx: AsyncConnection) -> tuple[int, bytes]:
    row = (await tx.execute(select(audit.c.number, audit.c.digest).order_by(audit.c.number.desc()).limit(1))).first()
    return (row.number, bytes(row.digest)) if row is not None else await _anchor(tx)


async def _anchor(tx: AsyncConnection) -> tuple[int, bytes]:
    value = await tx.scalar(select(meta.c.value).where(meta.c.name == ANCHOR))
    if value is None:
        return 0, b""
    number, _, digest = value.partition(":")
    return int(number), bytes.fromhex(digest)


def _digest(before: bytes, *fields: object) -> bytes:
    return hashlib.sha256(before + json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()).digest()
