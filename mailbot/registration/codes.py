"""The short code of a mail, typed with the mail address where its URL cannot be opened: opens what the URL opens.

Whatever is wrong gets one sentence after the same work: the same statements, and always `COMPARED` comparisons. Tries
at one address go one after the other, on its budget's row, so that a thousand at once are a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import ratelimit
from mailbot.config import Society
from mailbot.credentials import CODE_LENGTH, KeyRefused, LinkPurpose, code_text, is_code, read_code, short_code
from mailbot.ratelimit import Ledger
from mailbot.store.keys import among, values
from mailbot.store.tables import link
from mailbot.telemetry import emit

from . import choices, limits, words
from .context import Context
from .invite import CODE_TRIES
from .outcomes import Complaint, Refused

COMPARED = 8
"""Links of one address whose codes are looked at, the newest first."""

_URL_STAYS = "メールのURLが開けるときは、そのままお使いになれます。"

_LINKS = (
    select(link.c.id, link.c.purpose, link.c.kid, link.c.generation, link.c.code_failures)
    .where(link.c.purpose.in_([purpose.value for purpose in LinkPurpose]), link.c.revoked_at.is_(None))
    .order_by(link.c.created_at.desc(), link.c.id)
    .limit(COMPARED)
)


@dataclass(frozen=True, slots=True)
class CodeOpens:
    """The link whose code was typed. It is shown as its URL would be, also when it is used by now."""

    link_id: int
    purpose: LinkPurpose


async def enter(
    ctx: Context, society: Society, typed_address: str, typed_code: str, network: str, now: int
) -> CodeOpens | Refused:
    """Refused: what cannot be an address or a code, by field; 429 over a budget of the network or, for a wrong code, of
    the address; else one sentence, whether the address is unknown, the code wrong, worn out or too old."""
    address = choices.address(ctx, typed_address, "address", society.label("code.address"))
    code = read_code(typed_code)
    found = [address] if isinstance(address, Complaint) else []
    if not code:
        found.append(Complaint("code", _no_code(typed_code, society.label("code.code"))))
    if found or isinstance(address, Complaint):
        return Refused(tuple(found))
    at_address, at_network = limits.codes(ctx.settings.site, society, address, network)
    async with ctx.store.begin() as tx:
        ledger = await Ledger.lock(tx, [at_address.key, at_network.key], now)
        stopped = ledger.allow([at_network])
        over = stopped or ledger.allow([at_address])
        await ledger.save(tx)
        # anybody can use up an address's budget: its owner's right code opens all the same, for its link bounds guesses
        opens = await _look(ctx, tx, society, address.key, code, now) if stopped is None else None
        if opens is not None:
            await ratelimit.forgive(tx, [at_network] if over else [at_address, at_network])
    if opens is not None:
        emit("code.accepted", society=society.id, reason=opens.purpose.value)
        return opens
    if over is not None:
        emit("code.refused", society=society.id, reason=over.scope)
        return Refused.whole(words.too_often(ledger.again_at(over), now) + _URL_STAYS, 429)
    emit("code.refused", society=society.id, reason="wrong")
    return Refused.whole(_wrong(society))


async def _look(
    ctx: Context, tx: AsyncConnection, society: Society, address_key: str, code: str, now: int
) -> CodeOpens | None:
    c = link.c
    mine = (c.society == society.id, c.address_key == address_key, c.expires_at > now)
    rows: list[Any] = list(await tx.execute(_LINKS.where(*mine)))
    opens = None
    for place in range(COMPARED):
        row = rows[place] if place < len(rows) else None
        fits = is_code(code, _expected(ctx, society, row, now))
        if fits and row is not None and row.code_failures < CODE_TRIES:
            opens = CodeOpens(row.id, LinkPurpose(row.purpose))
    # the statement runs also where there is nothing to count at: 0 is no link's id
    tried = [(society.id, row.id) for row in rows] if opens is None else []
    wrong = update(link).where(among(c.society, c.id)).values(code_failures=c.code_failures + 1)
    await tx.execute(wrong, values([*tried, (society.id, 0)]))
    return opens


def _expected(ctx: Context, society: Society, row: Any, now: int) -> str:
    """The row's code; for no row, and for one whose key is refused, the code of a link that does not exist."""
    try:
        if row is not None:
            return short_code(ctx.ring, LinkPurpose(row.purpose), society.id, row.id, row.kid, row.generation)
    except KeyRefused:
        pass
    return short_code(ctx.ring, LinkPurpose.REGISTRATION, society.id, 0, ctx.ring.active(now).kid, 0) + "x"


def _no_code(typed: str, label: str) -> str:
    if not typed.strip():
        return f"{label}を入力してください。"
    length = len(code_text(typed))
    why = f"いま{length}文字入力されています。" if length else ""
    if length == CODE_LENGTH:
        why = "数字の0と1、英字のI・L・Oは使っていません。"
    return f"{label}は、英字と数字の8文字です。{why}メールの文字と見比べて、もう一度入力してください。"


def _wrong(society: Society) -> str:
    return (
        f"{society.label('code.address')}または{society.label('code.code')}が違うか、期限が過ぎています。"
        "メールの文字と見比べて、もう一度入力してください。"
        f"{CODE_TRIES}回違うと、その{society.label('code.code')}は使えなくなります。"
        "そのときは、もう一度お申し込みください。お申し込みの入り口は、この画面の下にあります。"
    )
