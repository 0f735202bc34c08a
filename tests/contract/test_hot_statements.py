"""What every mail and every click asks of the database: found by index in a large table, and silent in an error."""

import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Select, event, insert, select
from sqlalchemy.exc import IntegrityError

from mailbot import ratelimit
from mailbot.delivery import outbox, suppression
from mailbot.intake import reception
from mailbot.registration import invite, mailfacts
from mailbot.store import Store, open_store, schema
from mailbot.store.keys import among, values
from mailbot.store.tables import address, member, meta

HOT: dict[str, tuple[Select[Any], int, str]] = {
    "budget": (ratelimit._LOCK, 3, "society=? AND scope=? AND subject=?"),
    "seen": (reception._SEEN, 2, "society=? AND inbox_key=?"),
    "live links": (invite._LIVE, 2, "society=? AND purpose=? AND address_key=? AND expires_at>?"),
    "links of mails": (mailfacts._LINKS, 2, "society=? AND id=?"),
    "settled": (outbox._SETTLED, 2, "society=? AND id=?"),
    "tried": (outbox._TRIED, 2, "society=? AND outbox_id=?"),
    "members": (select(member).where(among(member.c.society, member.c.id)), 2, "society=? AND id=?"),
    "suppressed": (suppression._CAUSES, 2, "society=? AND address_key=?"),
    "addresses": (select(address).where(among(address.c.society, address.c.member_id)), 2, "society=? AND member_id=?"),
}


@pytest.mark.parametrize("name", HOT)
@pytest.mark.parametrize("many", [1, 2, 64])
async def test_rows_are_found_by_their_whole_key(tmp_path: Path, name: str, many: int) -> None:
    statement, width, found_by = HOT[name]
    store = open_store(f"sqlite:///{tmp_path / 'mailbot.sqlite3'}")
    await schema.upgrade(store)
    parts = [b"%d" % number if name == "seen" else f"{number}" for number in range(many)]
    keys = [("yokokou", *([part] * (width - 1))) for part in parts]
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, text: str, parameters: Any, *_: Any) -> None:
        sent.append((text, parameters))

    async with store.read() as tx:
        event.listen(store.engine.sync_engine, "before_cursor_execute", note)
        await tx.execute(statement, {**values(keys), **({"now": 1} if name == "live links" else {})})
        text, parameters = sent[-1]
        plan = [row[-1] for row in await tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters)]
    await store.close()
    assert any(f"({found_by})" in line for line in plan), plan
    assert not [line for line in plan if line.startswith("SCAN")], plan


def test_the_keys_of_many_rows_are_one_list_a_column() -> None:
    assert values([("a", 1), ("a", 2), ("b", 1)]) == {"key_0": ["a", "b"], "key_1": [1, 2]}


async def test_an_error_names_no_value(store: Store) -> None:
    row = {"name": "x", "value": "hanako@docomo.ne.jp"}
    with pytest.raises(IntegrityError) as caught:
        async with store.begin() as tx:
            await tx.execute(insert(meta), [row, row])
    assert "hanako" not in str(caught.value)


def _modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(file.stat().st_mode) for file in folder.glob("mailbot.sqlite3*")}


async def test_nobody_else_may_read_a_database_file(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'mailbot.sqlite3'}")
    await schema.upgrade(store)
    assert len(list(tmp_path.glob("mailbot.sqlite3*"))) == 3  # noqa: ASYNC240  a look at a folder
    assert _modes(tmp_path) == {0o600}
    await store.close()


async def test_a_clock_a_moment_behind_gives_no_budget_anew(store: Store) -> None:
    limits = ratelimit.Limits(minute=1, hour=1, day=1)
    hit = ratelimit.Hit("yokokou", "address", "a@b.example", limits)
    answers = []
    for now in (1_800_000_000_000, 1_800_000_000_000 - 40, 1_800_000_000_000 + 40):
        async with store.begin() as tx:
            answers += await ratelimit.hit(tx, [hit], now)
    assert answers == [True, False, False]


async def test_what_is_asked_every_minute_reads_no_whole_roster(tmp_path: Path) -> None:
    """How many are still to register, and who left long ago."""
    store = open_store(f"sqlite:///{tmp_path / 'mailbot.sqlite3'}")
    await schema.upgrade(store)
    async with store.read() as tx:
        for where, index in (("state = 'invited'", "ix_member_state"), ("left_on < '2026-11-20'", "ix_member_left_on")):
            text = f"EXPLAIN QUERY PLAN SELECT count(*) FROM member WHERE society = 'yokokou' AND {where}"
            plan = [row[-1] for row in await tx.exec_driver_sql(text)]
            assert any(index in line for line in plan), plan
    await store.close()
