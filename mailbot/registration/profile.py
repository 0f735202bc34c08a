"""What a member may see and change: login ID, nickname, addresses, wanted mails, disclosure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy import update as sql_update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import audit, credentials, ratelimit
from mailbot.config import Society
from mailbot.credentials import LinkPurpose, LinkState
from mailbot.store.tables import link, member

from . import addresses, choices, formula, limits, notices, password, people, words
from .context import Context
from .outcomes import Complaint, ProfileAddress, ProfileView, Refused, Updated

_COLUMNS = (
    member.c.login_id,
    member.c.login_kind,
    member.c.sealed,
    member.c.sealed_nickname,
    member.c.choices,
    member.c.household,
    member.c.password_set_at,
    member.c.left_on,
)


async def view(ctx: Context, society: Society, member_id: int, now: int) -> ProfileView:
    """The profile page's facts. Raises LookupError when the member is gone."""
    async with ctx.store.read() as tx:
        row = await _member(tx, society, member_id)
        proved = await notices.proved_addresses(tx, society.id, member_id)
        ticked = await addresses.ticked(tx, society, member_id)
        dead = await addresses.unreachable(tx, society.id, member_id)
        pending = await addresses.pending(tx, society, member_id, now)
        household = await _household(ctx, tx, society, member_id, row, now)
    chosen = json.loads(row.choices)
    return ProfileView(
        _login_id(ctx, society, member_id, row),
        _nickname(ctx, society, member_id, row.sealed_nickname),
        tuple(ProfileAddress(slot, text, slot in ticked, key in dead) for slot, text, key in proved),
        pending,
        {choice.id: chosen.get("wanted", {}).get(choice.id, choice.default) for choice in society.profile.wanted},
        {c.id: chosen.get("disclosure", {}).get(c.id, c.default) for c in society.profile.disclosure},
        household,
        people.password_end(society, row.password_set_at),
        frozenset(slot for slot in range(1, society.profile.addresses + 1) if _wishes_pin(chosen, slot)),
        row.login_kind,
    )


async def own_name(ctx: Context, society: Society, member_id: int) -> str:
    """The member's name on the roster. Raises LookupError when the member is gone."""
    async with ctx.store.read() as tx:
        row = await _member(tx, society, member_id)
    return people.open_person(ctx.ring, row.sealed, society.id, member_id).name


async def update(
    ctx: Context, society: Society, member_id: int, form: Mapping[str, str], network: str, now: int
) -> Updated | Refused:
    """Saves the whole form: login_id, nickname, address_1 … address_3, pin_1 … pin_3 and `wanted.<id>` (present when
    ticked), `disclosure.<id>` ("yes" to show), and password (the current one) where login ID or an address changes.

    A new address, and one that mail did not reach where prove_1 … is ticked, is mailed a link and counts once that was
    followed; an empty address_2 or address_3 is removed.
    """
    async with ctx.store.read() as tx:
        row = await _member(tx, society, member_id)
        before = await notices.proved_addresses(tx, society.id, member_id)
        ticked = await addresses.ticked(tx, society, member_id)
        dead = await addresses.unreachable(tx, society.id, member_id)
        plan = addresses.plan(ctx, society, form, before, dead)
        typed_id, id_field = _sought(row, form, plan)
        new_id = typed_id != row.login_id
        is_taken = new_id and await choices.is_taken(ctx, tx, society, typed_id, member_id)
    found: list[Complaint] = []
    id_label = society.label("profile.login-id")
    if new_id and id_field == "login_id":
        found += choices.login_id(society, typed_id, "login_id", id_label, row.login_id)
    nickname = choices.nickname(choices.text_of(form, "nickname"))
    nickname_label = society.label("profile.nickname")
    found += choices.nickname_complaints(nickname, "nickname", nickname_label, society.profile.nickname_required)
    found += plan.complaints
    if found:
        return Refused(tuple(found))
    if is_taken and not await choices.count_taken(ctx, society, member_id, now):
        return Refused.whole(words.ENOUGH_TODAY, 429)
    if new_id or plan.changes:
        typed = choices.text_of(form, "password")
        if not typed:
            label = society.label("profile.password")
            asks = f"ログインIDやメールアドレスを変えたり、確かめ直したりするには、{label}を入力してください。"
            return Refused((Complaint("password", asks),))
        if (refused := await password.confirm(ctx, society, member_id, typed, "password", now)) is not None:
            return refused
    taken = choices.taken("login_id", id_label)
    if id_field != "login_id":
        taken = Complaint(id_field, words.address_taken(society.label("profile.address-1")))
    if is_taken:
        return Refused((taken,))
    columns: dict[str, Any] = {
        "choices": people.dump_choices(_choices(society, form, plan.pins)),
        "sealed_nickname": people.seal_text(
            ctx.ring, nickname, society.id, "member", "sealed_nickname", member_id, now
        ),
    }
    if new_id and id_field == "login_id":
        columns |= {"login_id": typed_id, "login_key": formula.login_key(ctx.ring, society, typed_id)}
    try:
        async with ctx.store.begin() as tx:
            hits = limits.new_addresses(ctx.settings.site, society, [typed for _, typed in plan.prove], member_id)
            ledger = await ratelimit.Ledger.lock(tx, [hit.key for hit in hits], now)
            if (over := ledger.allow(hits)) is not None:
                return Refused.whole(words.just_sent(ledger.again_at(over), now), 429)
            await ledger.save(tx)
            await tx.execute(
                sql_update(member).where(member.c.society == society.id, member.c.id == member_id).values(columns)
            )
            await addresses.carry_out(ctx, tx, society, member_id, plan, before, now)
            moved = any(plan.pins.get(slot, slot in ticked) is not (slot in ticked) for slot, _, _ in before)
            if new_id or plan.changes or moved:
                facts = {"login_id": new_id, "addresses": plan.changes, "pin": moved}
                await audit.record(tx, "member", "profile-changed", society.id, member_id, facts, now)
    except IntegrityError:
        async with ctx.store.read() as tx:
            if not await choices.is_taken(ctx, tx, society, typed_id, member_id):
                raise
        return Refused((taken,))
    ctx.store.wake("outbox")
    return Updated(tuple(typed.text for _, typed in plan.prove))


def _sought(row: Any, form: Mapping[str, str], plan: addresses.Plan) -> tuple[str, str]:
    """The login ID the form leads to, and the field that says so: a formula's stays, an address's follows the first."""
    if row.login_kind == "chosen":
        return credentials.login_id_text(choices.text_of(form, "login_id")), "login_id"
    first = {slot: address.text for slot, address in (*plan.prove, *plan.move)}
    return (first.get(1, row.login_id) if row.login_kind == "address" else row.login_id), "address_1"


async def prove_address(ctx: Context, society: Society, link_id: int, now: int) -> bool | Refused:
    """POST behind an address-proof link: the address counts from now, the others are told. False: link not live.

    Refused: it would be the login ID, and another account has it since.
    """
    try:
        return await _prove_address(ctx, society, link_id, now)
    except IntegrityError:
        return Refused.whole(words.address_taken(society.label("profile.address-1")))


async def _prove_address(ctx: Context, society: Society, link_id: int, now: int) -> bool:
    c = link.c
    async with ctx.store.begin() as tx:
        columns = (c.member_id, c.slot, c.address, c.address_key, c.expires_at, c.spent_at, c.revoked_at)
        statement = (
            select(*columns, member.c.choices)
            .join(member, (member.c.society == c.society) & (member.c.id == c.member_id))
            .where(
                c.society == society.id,
                c.id == link_id,
                c.purpose == LinkPurpose.ADDRESS_PROOF.value,
                member.c.state == "registered",
            )
            .with_for_update(of=member)  # member before link, as everywhere
        )
        row = (await tx.execute(statement)).first()
        if row is None or row.slot > society.profile.addresses:
            return False
        if credentials.state(row.expires_at, row.spent_at, row.revoked_at, now) is not LinkState.LIVE:
            return False
        spent = await tx.execute(
            sql_update(link)
            .where(c.society == society.id, c.id == link_id, c.spent_at.is_(None), c.revoked_at.is_(None))
            .values(spent_at=now)
        )
        if spent.rowcount != 1:
            return False
        before = await notices.proved_addresses(tx, society.id, row.member_id)
        pin = society.login.pin is not None and _wishes_pin(json.loads(row.choices), row.slot)
        await addresses.place(tx, society.id, row.member_id, row.slot, row.address, row.address_key, now, pin)
        # who reads mail sent there needs no completion mail to show that mail arrives
        mine = (member.c.society == society.id, member.c.id == row.member_id, member.c.login_opens_at.is_(None))
        await tx.execute(sql_update(member).where(*mine).values(login_opens_at=now))
        others = [one for one in before if one[2] != row.address_key]
        await notices.tell(ctx, tx, society, row.member_id, addresses.LETTER, others, {"changed_at": now}, now)
        await audit.record(tx, "member", "address-proved", society.id, row.member_id, {"slot": row.slot}, now)
    ctx.store.wake("outbox")
    return True


async def _member(tx: AsyncConnection, society: Society, member_id: int) -> Any:
    statement = select(*_COLUMNS).where(
        member.c.society == society.id, member.c.id == member_id, member.c.state == "registered"
    )
    row = (await tx.execute(statement)).first()
    if row is None:
        raise LookupError("no such member")
    return row


def _nickname(ctx: Context, society: Society, member_id: int, sealed: bytes | None) -> str:
    return people.open_text(ctx.ring, sealed, society.id, "member", "sealed_nickname", member_id)


def _login_id(ctx: Context, society: Society, member_id: int, row: Any) -> str:
    return formula.shown_id(ctx.ring, society, member_id, row.login_kind, row.login_id, row.sealed)


async def _household(
    ctx: Context, tx: AsyncConnection, society: Society, member_id: int, own: Any, now: int
) -> tuple[str, ...]:
    """Nicknames of the household, one's own first, then by age; nobody who is protected or has left."""
    if not society.profile.household:
        return ()
    names = [_nickname(ctx, society, member_id, own.sealed_nickname) or _login_id(ctx, society, member_id, own)]
    if own.household is not None:
        c = member.c
        others = await tx.execute(
            select(c.id, c.sealed, c.sealed_nickname, c.left_on)
            .where(c.society == society.id, c.household == own.household, c.id != member_id, c.protected.is_(False))
            .order_by(c.id)
        )
        by_age: list[tuple[str, str]] = []
        for row in others:
            name = _nickname(ctx, society, row.id, row.sealed_nickname)
            if name and not people.has_left(society, row.left_on, now):
                by_age.append((people.open_person(ctx.ring, row.sealed, society.id, row.id).birth_date, name))
        names += [name for _, name in sorted(by_age)]
    return tuple(names)


def _choices(society: Society, form: Mapping[str, str], pins: Mapping[int, bool]) -> dict[str, dict[str, bool]]:
    """`pin`: wishes for slots whose address still has to be proved."""
    wishes = {"pin": {str(slot): wanted for slot, wanted in pins.items()}} if pins else {}
    return wishes | {
        "wanted": {one.id: f"wanted.{one.id}" in form for one in society.profile.wanted},
        "disclosure": {one.id: form.get(f"disclosure.{one.id}") == "yes" for one in society.profile.disclosure},
    }


def _wishes_pin(chosen: Mapping[str, Mapping[str, bool]], slot: int) -> bool:
    return chosen.get("pin", {}).get(str(slot), False)
