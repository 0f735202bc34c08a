"""The moment a member becomes registered, whichever journey led there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit
from mailbot.config import Society
from mailbot.delivery import outbox
from mailbot.delivery.outbox import Lane, NewMail
from mailbot.mail.address import Address, stored
from mailbot.store.engine import insert as insert_or
from mailbot.store.tables import address as address_table
from mailbot.store.tables import consent, member, temporary

from .. import notices, people
from ..context import Context
from ..outcomes import End, JourneyEnd
from .base import JourneyState

LETTER_ID = "temporary"
"""Answer that holds the id of the letter a journey was proved with."""
CONSENTS = "consents"
"""Answer that holds what was agreed to: a list of {id, version, digest (hex), at}."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What makes the member registered. `typed`: the address wished for; it counts once it is proved."""

    login_id: str | None
    """None: a formula's, which is kept nowhere."""
    login_key: str
    login_kind: str
    password_hash: str = field(repr=False)
    typed: Address
    nickname: str = ""
    choices: Mapping[str, Mapping[str, bool]] | None = None


async def register(
    ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, chosen: Chosen, now: int
) -> JourneyEnd | None:
    """Writes the registration and queues its mails; an end when it cannot be. IntegrityError: the login ID is taken."""
    member_id = state.member_id
    by_letter = LETTER_ID in state.answers
    # the letter's row first: two tabs meet here, and exactly one goes on
    used = await tx.execute(
        update(temporary)
        .where(
            temporary.c.society == society.id,
            temporary.c.id == state.answers.get(LETTER_ID, 0),
            temporary.c.state == "live",
        )
        .values(state="used", ended_at=now)
    )
    c = member.c
    row = (await tx.execute(select(c.state, c.left_on).where(c.society == society.id, c.id == member_id))).first()
    if row is not None and row.state == "registered":
        return JourneyEnd(End.DONE, already=True)
    if row is None or (by_letter and used.rowcount != 1) or people.has_left(society, row.left_on, now):
        return JourneyEnd(End.EXPIRED)
    columns: dict[str, Any] = {
        "state": "registered",
        "login_id": chosen.login_id,
        "login_key": chosen.login_key,
        "login_kind": chosen.login_kind,
        "password_hash": chosen.password_hash,
        "password_set_at": now,
        "registered_at": now,
        "login_opens_at": now if society.login.opens == "at-once" else None,
    }
    if chosen.nickname:
        place = (society.id, "member", "sealed_nickname", member_id)
        columns["sealed_nickname"] = people.seal_text(ctx.ring, chosen.nickname, *place, now)
    if chosen.choices is not None:
        columns["choices"] = people.dump_choices(chosen.choices)
    registered = await tx.execute(
        update(member).where(c.society == society.id, c.id == member_id, c.state == "invited").values(columns)
    )
    if registered.rowcount != 1:
        return JourneyEnd(End.DONE, already=True)
    await tx.execute(
        update(temporary)
        .where(temporary.c.society == society.id, temporary.c.member_id == member_id, temporary.c.state == "live")
        .values(state="used", ended_at=now)
    )
    await _keep_consents(tx, society, member_id, state.answers.get(CONSENTS, ()))
    await _addresses_and_mails(ctx, tx, society, state, chosen.typed, now)
    kept = chosen.typed.key == stored(state.address).key
    facts: dict[str, str | bool] = {"journey": state.name, "kept_address": kept}
    await audit.record(tx, "member", "registered", society.id, member_id, facts, now)
    return None


async def _keep_consents(
    tx: AsyncConnection, society: Society, member_id: int, agreed: Sequence[Mapping[str, Any]]
) -> None:
    """What was agreed to; a version agreed to once before stays as it was."""
    for one in agreed:
        row = insert_or(tx)(consent).values(
            society=society.id,
            member_id=member_id,
            text_id=one["id"],
            version=one["version"],
            digest=bytes.fromhex(one["digest"]),
            agreed_at=one["at"],
        )
        await tx.execute(row.on_conflict_do_nothing())


async def _addresses_and_mails(
    ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, typed: Address, now: int
) -> None:
    """The journey's address is proved already; another one counts once its own mail was followed (SC-3)."""
    member_id, proved = state.member_id, stored(state.address)
    a = address_table.c
    await tx.execute(delete(address_table).where(a.society == society.id, a.member_id == member_id))
    await tx.execute(
        insert(address_table).values(
            society=society.id,
            member_id=member_id,
            slot=1,
            address=proved.text,
            address_key=proved.key,
            pin=society.login.pin is not None,
            proved_at=now,
        )
    )
    completion = NewMail(
        society.id,
        "completion",
        Lane.COMPLETION,
        proved.text,
        member_id=member_id,
        dedupe_key=f"completion/{member_id}/{state.id}",
    )
    await outbox.put(tx, [completion], now, ctx.host)
    if typed.key != proved.key:
        await notices.ask_proof(ctx, tx, society, member_id, 1, typed, now)
