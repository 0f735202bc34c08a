"""A member's addresses: what a submitted profile means for them, and carrying it out.

A slot takes an address at once when it is proved already (two slots swapped); a new one keeps the slot's old address in
force until its own mail was followed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Society
from mailbot.credentials import LinkPurpose
from mailbot.mail.address import Address, stored
from mailbot.store.engine import insert
from mailbot.store.tables import address as address_table
from mailbot.store.tables import link, member

from . import choices, notices, people
from .context import Context
from .outcomes import Complaint, PendingAddress

LETTER = "address-changed"
Proved = Sequence[tuple[int, str, str]]
"""(slot, address, key) of the addresses a member proved."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a submitted form changes."""

    complaints: tuple[Complaint, ...]
    prove: tuple[tuple[int, Address], ...]
    """New addresses, each with its slot."""
    move: tuple[tuple[int, Address], ...]
    """Proved addresses that go to another slot."""
    remove: tuple[int, ...]
    """Slots that become empty."""
    pins: Mapping[int, bool]
    """Slot -> whether PIN mails go there; empty where the society mails none."""

    @property
    def changes(self) -> bool:
        return bool(self.prove or self.move or self.remove)


def plan(
    ctx: Context, society: Society, form: Mapping[str, str], before: Proved, dead: Collection[str] = frozenset()
) -> Plan:
    """Reads address_1 … against what is proved. A field that is missing from the form leaves its slot alone.

    `dead`: keys of addresses that mail does not reach; with prove_1 … ticked they are proved anew.
    """
    by_slot = {slot: key for slot, _, key in before}
    by_key = {key: text for _, text, key in before}
    texts = {text for _, text, _ in before}
    pins: dict[int, bool] = {}
    complaints: list[Complaint] = []
    prove: list[tuple[int, Address]] = []
    move: list[tuple[int, Address]] = []
    remove: list[int] = []
    seen: set[str] = set()
    for slot in range(1, society.profile.addresses + 1):
        field = f"address_{slot}"
        if field not in form:
            continue
        label, typed = society.label(f"profile.address-{slot}"), choices.text_of(form, field)
        if society.login.pin is not None:
            pins[slot] = f"pin_{slot}" in form
        if not typed.strip() and slot > 1:
            if slot in by_slot:
                remove.append(slot)
            continue
        # what was proved once is good as it stands, even where such dots are not taken from a form
        known = typed.strip() in texts
        address = stored(typed.strip()) if known else choices.address(ctx, typed, field, label)
        if isinstance(address, Complaint):
            complaints.append(address)
        elif address.key in seen:
            complaints.append(
                Complaint(field, f"{label}は、ほかの欄と同じです。別のメールアドレスを入力してください。")
            )
        elif by_slot.get(slot) != address.key:
            if address.key in by_key:
                move.append((slot, stored(by_key[address.key])))
            else:
                prove.append((slot, address))
        elif address.key in dead and f"prove_{slot}" in form:
            prove.append((slot, address))
        if isinstance(address, Address):
            seen.add(address.key)
    proved = {*by_slot, *(slot for slot, _ in move)}.difference(remove)
    if pins and not any(pins.get(slot) for slot in proved):
        text = "を受け取るメールアドレスに、1つ以上の印を付けてください。確認待ちのメールアドレスは、まだ使えません。"
        complaints.append(Complaint("pin_1", society.label("pin.code") + text))
    return Plan(tuple(complaints), tuple(prove), tuple(move), tuple(remove), pins)


async def carry_out(
    ctx: Context, tx: AsyncConnection, society: Society, member_id: int, what: Plan, before: Proved, now: int
) -> None:
    """Removes, moves and ticks at once, telling all addresses there were; asks new ones for their proof."""
    c = address_table.c
    dead = await unreachable(tx, society.id, member_id)
    if what.remove:
        await tx.execute(
            delete(address_table).where(c.society == society.id, c.member_id == member_id, c.slot.in_(what.remove))
        )
    for slot in what.remove:
        await notices.revoke_proofs(tx, society.id, member_id, slot, now)
    for slot, address in what.move:
        await notices.revoke_proofs(tx, society.id, member_id, slot, now)
        since = dead.get(address.key)
        await place(tx, society.id, member_id, slot, address.text, address.key, now, unreachable_at=since)
    for pin in (True, False):
        slots = [slot for slot, wanted in what.pins.items() if wanted is pin]
        mine = (c.society == society.id, c.member_id == member_id, c.slot.in_(slots))
        if slots:
            await tx.execute(update(address_table).where(*mine).values(pin=pin))
    if what.remove or what.move:
        await notices.tell(ctx, tx, society, member_id, LETTER, before, {"changed_at": now}, now)
    for slot, address in what.prove:
        await notices.ask_proof(ctx, tx, society, member_id, slot, address, now)


async def place(
    tx: AsyncConnection,
    society: str,
    member_id: int,
    slot: int,
    address: str,
    address_key: str,
    now: int,
    pin: bool = False,
    unreachable_at: int | None = None,
) -> None:
    """Puts a proved address into a slot. `pin`: whether PIN mails go to a slot that was empty; others keep theirs.
    `unreachable_at`: of an address that moves; one that was just proved is reached.

    Where the address is the login ID, that follows the first one; IntegrityError: another account has it.
    """
    if slot == 1:
        m = member.c
        mine = (m.society == society, m.id == member_id, m.login_kind == "address")
        key = people.login_key(address)
        await tx.execute(update(member).where(*mine).values(login_id=address, login_key=key))
    values = {"address": address, "address_key": address_key, "proved_at": now, "unreachable_at": unreachable_at}
    row = insert(tx)(address_table).values(society=society, member_id=member_id, slot=slot, pin=pin, **values)
    await tx.execute(row.on_conflict_do_update(index_elements=["society", "member_id", "slot"], set_=values))


async def ticked(tx: AsyncConnection, society: Society, member_id: int) -> frozenset[int]:
    """Slots of proved addresses that PIN mails go to."""
    c = address_table.c
    mine = (c.society == society.id, c.member_id == member_id, c.pin.is_(True))
    return frozenset(await tx.scalars(select(c.slot).where(*mine)))


async def unreachable(tx: AsyncConnection, society: str, member_id: int) -> dict[str, int]:
    """Address key -> since when mail does not reach it, of the member's addresses of which that is known."""
    c = address_table.c
    mine = (c.society == society, c.member_id == member_id, c.unreachable_at.is_not(None))
    rows = await tx.execute(select(c.address_key, c.unreachable_at).where(*mine))
    return {row.address_key: row.unreachable_at for row in rows}


async def pending(tx: AsyncConnection, society: Society, member_id: int, now: int) -> tuple[PendingAddress, ...]:
    """Typed addresses whose mailed link nobody has followed yet, by slot."""
    c = link.c
    rows = await tx.execute(
        select(c.slot, c.address, c.expires_at)
        .where(
            c.society == society.id,
            c.member_id == member_id,
            c.purpose == LinkPurpose.ADDRESS_PROOF.value,
            c.spent_at.is_(None),
            c.revoked_at.is_(None),
            c.expires_at > now,
        )
        .order_by(c.slot)
    )
    return tuple(PendingAddress(slot, text, until) for slot, text, until in rows)
