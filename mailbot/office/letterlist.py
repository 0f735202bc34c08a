"""The live temporary credentials of a society as a CSV file, for whoever prints the notices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from sqlalchemy import select

from mailbot import audit
from mailbot.config import Society
from mailbot.credentials import KeyRefused
from mailbot.registration import people
from mailbot.registration.context import Context
from mailbot.registration.steps.temporary_login import printed_password
from mailbot.store.tables import member, roster_batch, temporary

from . import sheet
from .notices.sheets import rank

CHUNK = 1000
HEAD = (
    "世帯",
    "記号",
    "番号",
    "続柄",
    "氏名",
    "カナ氏名",
    "仮ニックネーム",
    "仮ログインID",
    "仮パスワード",
    "郵便番号",
    "住所",
    "メールアドレス",
    "保護",
)


async def write(
    ctx: Context, society: Society, file: Path, *, actor: str, now: int, batch_id: int | None = None
) -> int:
    """Writes every letter that can still be used (of one import only, where `batch_id` is given); how many.

    Raises OSError where the file exists already. The household column is a number of this file alone; protected
    persons get one of their own, so that they share no notice.
    """
    at = None
    if batch_id is not None:
        mine = (roster_batch.c.society == society.id, roster_batch.c.id == batch_id)
        async with ctx.store.read() as tx:
            at = await tx.scalar(select(roster_batch.c.at).where(*mine))
        at = at if at is not None else 0
    count = await sheet.write(file, HEAD, _rows(ctx, society, at, now))
    async with ctx.store.begin() as tx:
        await audit.record(tx, actor, "letters-exported", society.id, None, {"count": count}, now)
    return count


async def _rows(ctx: Context, society: Society, at: int | None, now: int) -> AsyncIterator[list[str]]:
    m, t = member.c, temporary.c
    letter = (t.id, t.sealed_login_id, t.sealed_password, t.kid, t.generation, t.format, t.expires_at)
    columns = (m.household, m.id.label("member_id"), m.sealed, m.sealed_nickname, m.protected, m.left_on, *letter)
    live = [t.society == society.id, t.state == "live", m.state == "invited"]
    if at is not None:
        live.append(t.created_at == at)
    after: tuple[bytes, int] = (b"", 0)
    count = 0
    household: bytes | None = None
    waiting: list[tuple[tuple[bool, str, int], bool, list[str]]] = []

    def together() -> Iterator[list[str]]:
        """A whole household in the order of the printed notice, numbered."""
        nonlocal count
        shared = 0
        for _, protected, line in sorted(waiting):
            if protected or not shared:
                count += 1
            if not protected:
                shared = shared or count
            yield [str(count if protected else shared), *line]
        waiting.clear()

    while True:
        later = (m.household > after[0]) | ((m.household == after[0]) & (m.id > after[1]))
        statement = (
            select(*columns)
            .join(temporary, (t.society == m.society) & (t.member_id == m.id))
            .where(*live, later)
            .order_by(m.household, m.id)
            .limit(CHUNK)
        )
        async with ctx.store.read() as tx:
            rows = (await tx.execute(statement)).all()
        for row in rows:
            after = (bytes(row.household), row.member_id)
            if people.has_left(society, row.left_on, now) or (row.expires_at is not None and row.expires_at <= now):
                continue
            try:
                password, _ = printed_password(ctx, society, row)
            except KeyRefused:  # made with a key that became known: nobody can use it
                continue
            if household != after[0]:
                for line in together():
                    yield line
                household = after[0]
            person = people.open_person(ctx.ring, row.sealed, society.id, row.member_id)
            facts = [
                person.symbol,
                person.number,
                person.relation,
                person.name,
                person.kana,
                people.open_text(
                    ctx.ring, row.sealed_nickname, society.id, "member", "sealed_nickname", row.member_id
                ),
                people.open_text(ctx.ring, row.sealed_login_id, society.id, "temporary", "sealed_login_id", row.id),
                password,
                person.postal_code,
                person.postal_address,
                person.address,
                "はい" if row.protected else "",
            ]
            waiting.append((rank(person, row.member_id), row.protected, facts))
        if len(rows) < CHUNK:
            for line in together():
                yield line
            return
