"""The audit record: chained, serialised, verifiable after a purge."""

import asyncio

import pytest
from sqlalchemy import delete, select, update

from mailbot import audit
from mailbot.store import Store
from mailbot.store.tables import audit as table

NOW = 1_800_000_000_000


async def record(store: Store, n: int) -> None:
    async with store.begin() as tx:
        await audit.record(tx, "staff:佐藤", "tested", "one", n, {"n": n, "名": "値", "none": None}, NOW + n)


async def broken(store: Store) -> int | None:
    async with store.read() as tx:
        return await audit.verify(tx)


async def numbers(store: Store) -> list[int]:
    async with store.read() as tx:
        return list(await tx.scalars(select(table.c.number).order_by(table.c.number)))


async def test_an_empty_record_is_whole(store: Store) -> None:
    assert await broken(store) is None


async def test_many_writers_make_one_chain(store: Store) -> None:
    await asyncio.gather(*(record(store, n) for n in range(20)))
    assert await numbers(store) == list(range(1, 21))
    assert await broken(store) is None


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "staff:鈴木"},
        {"event": "other"},
        {"facts": '{"n":99}'},
        {"at": NOW},
        {"member_id": None},
        {"society": "two"},
        {"digest": b"x" * 32},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_changed_row_shows(store: Store, change: dict[str, object]) -> None:
    for n in range(1, 6):
        await record(store, n)
    async with store.begin() as tx:
        await tx.execute(update(table).where(table.c.number == 3).values(change))
    assert await broken(store) == 3


async def test_a_removed_row_shows(store: Store) -> None:
    for n in range(1, 6):
        await record(store, n)
    async with store.begin() as tx:
        await tx.execute(delete(table).where(table.c.number == 2))
    assert await broken(store) == 2


async def test_what_is_rolled_back_leaves_no_gap(store: Store) -> None:
    await record(store, 1)

    async def fails() -> None:
        async with store.begin() as tx:
            await audit.record(tx, "system", "tested", "one", None, {}, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    await record(store, 2)
    assert await numbers(store) == [1, 2]
    assert await broken(store) is None


async def test_the_chain_goes_on_after_a_purge(store: Store) -> None:
    for n in range(1, 6):
        await record(store, n)
    async with store.begin() as tx:
        assert await audit.purge(tx, NOW + 4, 2) == 2
        assert await audit.purge(tx, NOW + 4, 2) == 1
        assert await audit.purge(tx, NOW + 4, 2) == 0
    assert await numbers(store) == [4, 5]
    assert await broken(store) is None
    async with store.begin() as tx:
        assert await audit.purge(tx, NOW + 9, 9) == 2
    await record(store, 6)
    assert await numbers(store) == [6]
    assert await broken(store) is None
    async with store.begin() as tx:
        await tx.execute(delete(table).where(table.c.number == 6))
        await audit.record(tx, "system", "tested", "one", None, {}, NOW)
    assert await broken(store) is None
