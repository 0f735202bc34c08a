"""利用者情報入力: new login ID, password, address and nickname; with it the member is registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit
from mailbot import credentials as secrets_room
from mailbot.config import Society
from mailbot.credentials import KeyRefused
from mailbot.delivery import outbox
from mailbot.delivery.outbox import Lane, NewMail
from mailbot.mail.address import Address, stored
from mailbot.store.tables import address as address_table
from mailbot.store.tables import member, temporary

from .. import choices, notices, people, words
from ..context import Context
from ..outcomes import Complaint, End, Field, JourneyEnd, Refused
from ..people import Person
from .base import FormStep, JourneyState, Passed
from .temporary_login import printed_password


@dataclass(frozen=True, slots=True)
class _Known:
    person: Person
    nickname: str
    printed_id: str
    printed_password: str


class Credentials(FormStep):
    """The last step of a registration."""

    name = "credentials"
    registers = True

    def fields(self, society: Society) -> tuple[Field, ...]:
        id_label, password_label = society.label("credentials.login-id"), society.label("credentials.password")
        id_rules = secrets_room.describe_login_id(society.login_id, id_label, choices.reserved(society))
        rules = secrets_room.describe(society.password, password_label)
        return (
            Field("login_id", "credentials.login-id", "text", "username", tuple(id_rules)),
            Field("password", "credentials.password", "password", "new-password", tuple(rules)),
            Field("password_again", "credentials.password-again", "password", "new-password"),
            Field("address", "credentials.address", "email", "email"),
            Field("nickname", "credentials.nickname", "text", "nickname", required=False),
        )

    async def values(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState
    ) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        known = await _known(ctx, tx, society, state)
        printed = known.printed_id if known is not None and society.login_id.keep_printed else ""
        nickname = known.nickname if known is not None else ""
        return {"login_id": printed, "address": state.address, "nickname": nickname}, {}

    async def check(
        self, ctx: Context, society: Society, state: JourneyState, form: Mapping[str, str], now: int
    ) -> Passed | Refused:
        async with ctx.store.read() as tx:
            known = await _known(ctx, tx, society, state)
            typed_id = secrets_room.login_id_text(choices.text_of(form, "login_id"))
            is_taken = await choices.is_taken(ctx, tx, society, typed_id, state.member_id)
        if known is None:
            return Passed({})  # the letter died meanwhile; `leave` says how the journey ends
        id_label = society.label("credentials.login-id")
        found = choices.login_id(society, typed_id, "login_id", id_label, known.printed_id)
        if is_taken and not found:
            if not await _may_hear_taken(ctx, society, state, now):
                return Refused.whole(words.TOO_OFTEN, 429)
            found.append(choices.taken("login_id", id_label))
        typed_address = choices.text_of(form, "address")
        address: Address | Complaint = stored(state.address)
        if typed_address.strip() != state.address:  # else it was accepted when the mail came, whatever its dots
            address = choices.address(ctx, typed_address, "address", society.label("credentials.address"))
        facts = choices.known_facts(
            society,
            known.person,
            (typed_id, known.printed_id),
            (state.address, *((address.text,) if isinstance(address, Address) else ())),
            known.printed_password,
        )
        password = choices.text_of(form, "password")
        found += choices.password(
            society,
            password,
            choices.text_of(form, "password_again"),
            ("password", "password_again"),
            society.label("credentials.password"),
            facts,
        )
        if isinstance(address, Complaint):
            found.append(address)
        nickname = choices.nickname(choices.text_of(form, "nickname"))
        found += choices.nickname_complaints(nickname, "nickname", society.label("credentials.nickname"), False)
        if found or isinstance(address, Complaint):
            return Refused(tuple(found))
        password_hash = await ctx.passwords.hash(password)
        return Passed({"login_id": typed_id, "hash": password_hash, "address": address, "nickname": nickname})

    async def leave(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, passed: Passed, now: int
    ) -> JourneyEnd | None:
        member_id, values = state.member_id, passed.values
        # the letter's row first: two tabs meet here, and exactly one goes on
        used = await tx.execute(
            update(temporary)
            .where(
                temporary.c.society == society.id,
                temporary.c.id == state.answers.get("temporary", 0),
                temporary.c.state == "live",
            )
            .values(state="used", ended_at=now)
        )
        row = (
            await tx.execute(
                select(member.c.state, member.c.left_on).where(member.c.society == society.id, member.c.id == member_id)
            )
        ).first()
        if row is not None and row.state == "registered":
            return JourneyEnd(End.DONE, already=True)
        if row is None or not values or used.rowcount != 1 or people.has_left(society, row.left_on, now):
            return JourneyEnd(End.EXPIRED)
        columns: dict[str, Any] = {
            "state": "registered",
            "login_id": values["login_id"],
            "login_key": secrets_room.fold(values["login_id"]),
            "password_hash": values["hash"],
            "password_set_at": now,
            "registered_at": now,
            "login_opens_at": now,
        }
        if values["nickname"]:
            place = (society.id, "member", "sealed_nickname", member_id)
            columns["sealed_nickname"] = people.seal_text(ctx.ring, values["nickname"], *place, now)
        registered = await tx.execute(
            update(member)
            .where(member.c.society == society.id, member.c.id == member_id, member.c.state == "invited")
            .values(columns)
        )
        if registered.rowcount != 1:
            return JourneyEnd(End.DONE, already=True)
        await tx.execute(
            update(temporary)
            .where(temporary.c.society == society.id, temporary.c.member_id == member_id, temporary.c.state == "live")
            .values(state="used", ended_at=now)
        )
        await self._addresses_and_mails(ctx, tx, society, state, values["address"], now)
        facts = {"journey": state.name, "kept_address": values["address"].key == stored(state.address).key}
        await audit.record(tx, "member", "registered", society.id, member_id, facts, now)
        return None

    async def _addresses_and_mails(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, typed: Address, now: int
    ) -> None:
        """The invited address is proved already; another one counts once its own mail was followed (SC-3)."""
        member_id, invited = state.member_id, stored(state.address)
        await tx.execute(
            delete(address_table).where(address_table.c.society == society.id, address_table.c.member_id == member_id)
        )
        await tx.execute(
            insert(address_table).values(
                society=society.id,
                member_id=member_id,
                slot=1,
                address=invited.text,
                address_key=invited.key,
                proved_at=now,
            )
        )
        completion = NewMail(
            society.id,
            "completion",
            Lane.COMPLETION,
            invited.text,
            member_id=member_id,
            dedupe_key=f"completion/{member_id}/{state.id}",
        )
        await outbox.put(tx, [completion], now, ctx.host)
        if typed.key != invited.key:
            await notices.ask_proof(ctx, tx, society, member_id, 1, typed, now)

    async def conflict(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, passed: Passed
    ) -> Refused | None:
        """Two members chose one ID in the same moment."""
        if await choices.is_taken(ctx, tx, society, passed.values["login_id"], state.member_id):
            return Refused((choices.taken("login_id", society.label("credentials.login-id")),))
        return None


async def _known(ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState) -> _Known | None:
    """What the roster and the letter say; None when one of them is gone."""
    statement = (
        select(
            temporary.c.id,
            temporary.c.sealed_login_id,
            temporary.c.sealed_password,
            temporary.c.kid,
            temporary.c.generation,
            temporary.c.format,
            member.c.sealed,
            member.c.sealed_nickname,
        )
        .join(member, (member.c.society == temporary.c.society) & (member.c.id == temporary.c.member_id))
        .where(
            temporary.c.society == society.id,
            temporary.c.id == state.answers.get("temporary", 0),
            temporary.c.member_id == state.member_id,
            temporary.c.state == "live",
        )
    )
    row = (await tx.execute(statement)).first()
    if row is None:
        return None
    try:
        printed, _ = printed_password(ctx, society, row)
    except KeyRefused:
        return None
    return _Known(
        people.open_person(ctx.ring, row.sealed, society.id, state.member_id),
        people.open_text(ctx.ring, row.sealed_nickname, society.id, "member", "sealed_nickname", state.member_id),
        people.open_text(ctx.ring, row.sealed_login_id, society.id, "temporary", "sealed_login_id", row.id),
        printed,
    )


async def _may_hear_taken(ctx: Context, society: Society, state: JourneyState, now: int) -> bool:
    async with ctx.store.begin() as tx:
        return await choices.may_hear_taken(tx, society, state.member_id, now)


CREDENTIALS = Credentials()
