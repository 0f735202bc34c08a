"""The store on both databases: migrations, transactions that lose nothing, key ring, wake-ups, budgets."""

import asyncio
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, insert, select, update

from mailbot import ratelimit
from mailbot.ratelimit import DAY_MS, HOUR_MS, MINUTE_MS, Hit, Ledger, Limits
from mailbot.store import Store, open_store, schema
from mailbot.store.alarms import Alarm, alarms, clear, raise_alarm
from mailbot.store.tables import meta, metadata
from mailbot.store.wakeup import announce, listen
from tests.support.postgres import Postgres

NOW = 1_800_000_000_000


async def test_migrations_make_the_tables_of_this_program(tmp_path: Path, postgres_url: str) -> None:
    for url in (f"sqlite:///{tmp_path / 'new.sqlite3'}", postgres_url):
        store = open_store(url)
        assert await schema.current(store) is None
        with pytest.raises(schema.SchemaError, match="mailbot db upgrade"):
            await schema.require_current(store)
        await schema.upgrade(store)
        await schema.upgrade(store)
        await schema.require_current(store)

        def differences(connection: Connection) -> list[object]:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            return list(compare_metadata(context, metadata))

        async with store.read() as tx:
            assert await tx.run_sync(differences) == []
        await store.close()


async def test_read_then_write_loses_no_update(store: Store) -> None:
    async with store.begin() as tx:
        await tx.execute(insert(meta).values(name="n", value="0"))

    async def add(opened: Store) -> None:
        for _ in range(10):
            async with opened.begin() as tx:
                statement = select(meta.c.value).where(meta.c.name == "n").with_for_update()
                value = int((await tx.scalar(statement)) or 0)
                await asyncio.sleep(0)
                await tx.execute(update(meta).where(meta.c.name == "n").values(value=str(value + 1)))

    other = open_store(store.engine.url.render_as_string(hide_password=False))
    await asyncio.gather(*(add(opened) for opened in (store, other) for _ in range(4)))
    async with store.read() as tx:
        assert await tx.scalar(select(meta.c.value)) == "80"
    await other.close()


async def test_an_exception_rolls_back(store: Store) -> None:
    async def fail() -> None:
        async with store.begin() as tx:
            await tx.execute(insert(meta).values(name="n", value="0"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with store.begin() as tx:
        assert (await tx.execute(select(meta))).all() == []


async def test_the_database_knows_its_key_ring(store: Store) -> None:
    assert await schema.is_empty(store)
    await schema.bind_ring(store, "one")
    await schema.bind_ring(store, "one")
    assert not await schema.is_empty(store)
    with pytest.raises(schema.SchemaError, match="belongs to key ring one"):
        await schema.bind_ring(store, "another")


async def test_a_wake_up_reaches_another_process(postgres_server: Postgres) -> None:
    name = postgres_server.create()
    here, there = (open_store(postgres_server.url(name)) for _ in range(2))
    waker = there.waker("outbox")
    listening = asyncio.create_task(listen(there))
    try:
        async with asyncio.timeout(30):
            while not waker.is_set():
                async with here.begin() as tx:
                    await announce(tx, "outbox")
                    assert not waker.is_set()  # nothing before the commit
                await asyncio.sleep(0.05)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await here.close()
        await there.close()
        postgres_server.drop(name)


async def test_alarms_count_and_clear(store: Store) -> None:
    async with store.begin() as tx:
        await raise_alarm(tx, "", Alarm.RELAY, "first", NOW)
        await raise_alarm(tx, "", Alarm.RELAY, "second", NOW + 5)
        await raise_alarm(tx, "a", Alarm.RELAY, "other", NOW + 1)
        found = [(row.society, row.text, row.count, row.first_at, row.last_at) for row in await alarms(tx)]
        assert found == [("", "second", 2, NOW, NOW + 5), ("a", "other", 1, NOW + 1, NOW + 1)]
        assert await clear(tx, "", "relay")
        assert not await clear(tx, "", "relay")
        assert [row.society for row in await alarms(tx)] == ["a"]


def _hit(subject: str = "x", **limits: int) -> Hit:
    return Hit("s", "address", subject, Limits(**limits))


@pytest.mark.parametrize(
    ("limits", "length"), [({"minute": 2}, MINUTE_MS), ({"hour": 2}, HOUR_MS), ({"day": 2}, DAY_MS)]
)
async def test_a_window_holds_its_limit_and_then_begins_anew(store: Store, limits: dict[str, int], length: int) -> None:
    async def at(now: int) -> bool:
        async with store.begin() as tx:
            return (await ratelimit.hit(tx, [Hit("s", "address", "x", Limits(**limits))], now))[0]

    assert [await at(NOW), await at(NOW + 1), await at(NOW + 2), await at(NOW + length - 1)] == [
        True,
        True,
        False,
        False,
    ]
    assert await at(NOW + length)


async def test_hits_that_belong_together_count_together_or_not_at_all(store: Store) -> None:
    async with store.begin() as tx:
        ledger = await Ledger.lock(tx, [_hit("a").key, _hit("b").key], NOW)
        over = ledger.allow([_hit("a", hour=5), _hit("b", hour=0)])
        assert over is not None
        assert over.subject == "b"
        assert ledger.allow([_hit("a", hour=1)]) is None  # the refused pair took nothing from it
        await ledger.save(tx)
    async with store.begin() as tx:
        assert await ratelimit.hit(tx, [_hit("a", hour=1)], NOW) == [False]
        await ratelimit.refund(tx, "s", "address", "a")
        assert await ratelimit.hit(tx, [_hit("a", hour=1)], NOW) == [True]


async def test_two_processes_never_give_one_budget_twice(store: Store) -> None:
    other = open_store(store.engine.url.render_as_string(hide_password=False))

    async def ask(opened: Store) -> bool:
        async with opened.begin() as tx:
            return (await ratelimit.hit(tx, [_hit("a", hour=3), _hit("b", hour=100)], NOW))[0]

    answers = await asyncio.gather(*(ask(opened) for opened in (store, other) for _ in range(8)))
    assert sum(answers) == 3
    await other.close()


async def test_another_process_that_closes_the_file_leaves_the_log_of_the_robot_alone(tmp_path: Path) -> None:
    file = tmp_path / "mailbot.sqlite3"
    store = open_store(f"sqlite:///{file}")
    await schema.upgrade(store)
    other = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM meta'); c.close()"
    async with store.read() as first, store.read() as second:  # two connections: the second found the file there
        for tx in (first, second):
            await tx.execute(select(meta))
        log = tmp_path / "mailbot.sqlite3-wal"
        before = log.stat().st_ino
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", other, str(file))
        assert await process.wait() == 0
        assert log.stat().st_ino == before
    async with store.begin() as tx:
        await tx.execute(insert(meta).values(name="after", value="still here"))
    await store.close()
