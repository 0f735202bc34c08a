"""The same tests on both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailbot.store import Store, open_store
from mailbot.store.tables import metadata
from tests.support.factory import World, world
from tests.support.postgres import Postgres


async def _create(url: str) -> None:
    store = open_store(url)
    async with store.begin() as tx:
        await tx.run_sync(metadata.create_all)
    await store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty database with all tables."""
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path / 'mailbot.sqlite3'}"
        await _create(url)
        opened = open_store(url)
        yield opened
        await opened.close()
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    template = await asyncio.to_thread(server.template, "tables", lambda url: asyncio.run(_create(url)))
    name = await asyncio.to_thread(server.create, template)
    opened = open_store(server.url(name))
    yield opened
    await opened.close()
    await asyncio.to_thread(server.drop, name)


@pytest.fixture
async def here(store: Store, tmp_path: Path) -> AsyncIterator[World]:
    """The shipped societies, with nobody on their rosters yet."""
    made = world(store, tmp_path)
    yield made
    await made.ctx.passwords.close()
