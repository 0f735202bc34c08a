"""One clock for all hosts: PostgreSQL's, as far as this host's is near it."""

import time
from pathlib import Path

import pytest

from mailbot.store import open_store
from mailbot.store.clock import Clock, ClockSkew


async def test_a_small_offset_is_corrected_and_a_large_one_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(postgres_url)
    real = time.time_ns
    clock = Clock()
    monkeypatch.setattr("mailbot.store.clock.time.time_ns", lambda: real() - 1_500_000_000)
    await clock.synchronise(store)
    assert abs(clock.now() - real() // 1_000_000) < 500
    monkeypatch.setattr("mailbot.store.clock.time.time_ns", lambda: real() + 60_000_000_000)
    with pytest.raises(ClockSkew, match="NTP"):
        await clock.synchronise(store)
    await store.close()


async def test_sqlite_has_this_hosts_clock(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'new.sqlite3'}")
    clock = Clock()
    await clock.synchronise(store)
    assert abs(clock.now() - time.time_ns() // 1_000_000) < 500
    await store.close()
