"""Opens SQLite or PostgreSQL so that the same statements are safe on both.

SQLite: WAL, synchronous=FULL (a 250 must survive power loss) and BEGIN IMMEDIATE: with the driver's plain BEGIN two
read-then-write transactions silently lose an update or fail at once with SQLITE_BUSY_SNAPSHOT.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine


def new_id() -> int:
    """A random 63-bit id: tells nothing, collides with nobody."""
    return secrets.randbits(63) or 1


class Store:
    """The database with its wake-up hint. Lifetime: one process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.dialect = engine.dialect.name
        self._wakers: dict[str, list[asyncio.Event]] = {}
        # SQLite has one writer: within the process we queue for it fairly instead of polling the file's lock
        self._writer: AbstractAsyncContextManager[Any] = asyncio.Lock() if self.dialect == "sqlite" else nullcontext()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A writing transaction; commits at the end of the block, rolls back on any exception. Not to be nested."""
        async with self._writer, self.engine.begin() as tx:
            yield tx

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A read-only transaction that never waits for SQLite's write lock."""
        async with self.engine.connect() as connection:
            tx = await connection.execution_options(sqlite_begin="BEGIN")
            async with tx.begin():
                yield tx

    def waker(self, channel: str) -> asyncio.Event:
        """An event set by `wake(channel)`: a hint, so listeners poll as well."""
        waker = asyncio.Event()
        self._wakers.setdefault(channel, []).append(waker)
        return waker

    def wake(self, channel: str) -> None:
        """Call after the commit that left work behind."""
        for waker in self._wakers.get(channel, ()):
            waker.set()

    async def close(self) -> None:
        await self.engine.dispose()


def open_store(url: str, *, pool_size: int = 8) -> Store:
    """Opens the database named by a SQLAlchemy URL (`sqlite+aiosqlite:///…` or `postgresql+psycopg://…`)."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        parsed = parsed.set(drivername="sqlite+aiosqlite")
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    else:
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = create_async_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite", pool_size=pool_size)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _sqlite_connect)
        event.listen(engine.sync_engine, "begin", _sqlite_begin)
    return Store(engine)


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we send BEGIN ourselves
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Any) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN IMMEDIATE"))


def insert(store_or_tx: Any) -> Callable[..., Any]:
    """The dialect's `insert` construct, which knows ON CONFLICT on both databases."""
    name = store_or_tx.dialect if isinstance(store_or_tx, Store) else store_or_tx.dialect.name
    if name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert
    from sqlalchemy.dialects.postgresql import insert as postgresql_insert

    return postgresql_insert
