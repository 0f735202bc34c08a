"""Registrations for the portal: one line a member, as CSV."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit
from mailbot.config import Society
from mailbot.registration import formula, people
from mailbot.registration.context import Context
from mailbot.store.tables import address, consent, member

from . import sheet
from .sheet import Encoding

CHUNK = 1000
JAPAN = timedelta(hours=9)


@dataclass(frozen=True, slots=True)
class Exported:
    """How many members were written, and the characters the encoding lacks (`〓` stands for each) with their number."""

    count: int
    lacking: Mapping[str, int] = field(default_factory=dict)


async def export(
    ctx: Context,
    society: Society,
    file: Path,
    *,
    actor: str,
    now: int,
    since: int | None = None,
    encoding: Encoding = Encoding.UTF_8_MARK,
) -> Exported:
    """Writes the registered members (those registered at or after `since`, ms) with their proved addresses, choices and
    consents. Raises OSError where the file exists. Times are Japanese."""
    lacking: Counter[str] = Counter()
    count = await sheet.write(file, _head(society), _rows(ctx, society, since), encoding, lacking)
    async with ctx.store.begin() as tx:
        facts = {"count": count, "since": since}
        await audit.record(tx, actor, "members-exported", society.id, None, facts, now)
    return Exported(count, dict(lacking.most_common()))


def _head(society: Society) -> list[str]:
    return [
        "個人キー",
        "記号",
        "番号",
        "氏名",
        "カナ氏名",
        "生年月日",
        "ログインID",
        "ニックネーム",
        "登録日時",
        "最終ログイン日時",
        *(f"メールアドレス{slot}" for slot in range(1, society.profile.addresses + 1)),
        *(f"配信: {choice.label}" for choice in society.profile.wanted),
        *(f"公開: {choice.label}" for choice in society.profile.disclosure),
        "同意",
        "保護",
        "資格喪失日",
    ]


async def _rows(ctx: Context, society: Society, since: int | None) -> AsyncIterator[list[str]]:
    """One piece of the roster after the other, in the order of the ids: nothing is held but the piece."""
    m, after = member.c, 0
    wanted = [m.society == society.id, m.state == "registered"]
    if since is not None:
        wanted.append(m.registered_at >= since)
    while True:
        async with ctx.store.read() as tx:
            piece = select(member).where(*wanted, m.id > after).order_by(m.id).limit(CHUNK)
            rows = (await tx.execute(piece)).all()
            ids = [row.id for row in rows]
            addresses = await _addresses(tx, society, ids)
            consents = await _consents(tx, society, ids)
        for row in rows:
            yield _row(ctx, society, row, addresses.get(row.id, {}), consents.get(row.id, ()))
        if len(rows) < CHUNK:
            return
        after = rows[-1].id


async def _addresses(tx: AsyncConnection, society: Society, ids: Sequence[int]) -> dict[int, dict[int, str]]:
    c = address.c
    found: dict[int, dict[int, str]] = {}
    statement = select(c.member_id, c.slot, c.address).where(c.society == society.id, c.member_id.in_(ids))
    for member_id, slot, text in await tx.execute(statement):
        found.setdefault(member_id, {})[slot] = text
    return found


async def _consents(tx: AsyncConnection, society: Society, ids: Sequence[int]) -> dict[int, list[str]]:
    """Member -> `text version time`, oldest first."""
    c = consent.c
    found: dict[int, list[str]] = {}
    statement = select(c.member_id, c.text_id, c.version, c.agreed_at).where(
        c.society == society.id, c.member_id.in_(ids)
    )
    for row in await tx.execute(statement.order_by(c.member_id, c.agreed_at, c.text_id)):
        found.setdefault(row.member_id, []).append(f"{row.text_id} {row.version} {_moment(row.agreed_at)}")
    return found


def _row(
    ctx: Context, society: Society, row: Any, addresses: Mapping[int, str], consents: Sequence[str]
) -> list[str]:
    person = people.open_person(ctx.ring, row.sealed, society.id, row.id)
    chosen = json.loads(row.choices)
    wanted, disclosure = chosen.get("wanted", {}), chosen.get("disclosure", {})
    return [
        bytes(row.person_key).hex(),
        person.symbol,
        person.number,
        person.name,
        person.kana,
        person.birth_date,
        formula.shown_id(ctx.ring, society, row.id, row.login_kind, row.login_id, row.sealed),
        people.open_text(ctx.ring, row.sealed_nickname, society.id, "member", "sealed_nickname", row.id),
        _moment(row.registered_at),
        _moment(row.last_login_at),
        *(addresses.get(slot, "") for slot in range(1, society.profile.addresses + 1)),
        *(_yes(wanted.get(choice.id, choice.default)) for choice in society.profile.wanted),
        *(_yes(disclosure.get(choice.id, choice.default)) for choice in society.profile.disclosure),
        "; ".join(consents),
        _yes(row.protected) if row.protected else "",
        row.left_on or "",
    ]


def _moment(ms: int | None) -> str:
    return (datetime.fromtimestamp(ms / 1000, UTC) + JAPAN).strftime("%Y-%m-%d %H:%M:%S") if ms else ""


def _yes(value: object) -> str:
    return "はい" if value else "いいえ"
