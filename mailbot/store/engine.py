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
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from mailbot.store.sqlite import connector

OUTAGES = (OperationalError, InterfaceError, PoolTimeout, OSError)
"""What passes by itself. Any other exception is a fault of ours."""


_PATIENCE = {"connect_timeout": 5, "tcp_user_timeout": 15_000}
"""PostgreSQL: seconds for a new connection, milliseconds that sent data may stay unacknowledged (libpq's names).
Without them a cut network would hold mail sessions and pages for a quarter of an hour."""


def new_id() -> int:
    """A random 63-bit id: tells nothing, collides with nobody."""
    return secrets.randbits(63) or 1


class Store:
    """The database with its wake-up hint. Lifetime: one process."""

    def __init__(self, engine: AsyncEngine, scans: AsyncEngine) -> None:
        self.engine = engine
        self._scans = scans
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
        async with _reading(self.engine) as tx:
            yield tx

    @asynccontextmanager
    async def scan(self) -> AsyncIterator[AsyncConnection]:
        """As `read`, for statements that look at many rows: on SQLite they run in a thread."""
        async with _reading(self._scans) as tx:
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
        for engine in {self.engine, self._scans}:
            await engine.dispose()


@asynccontextmanager
async def _reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    async with engine.connect() as connection:
        tx = await connection.execution_options(sqlite_begin="BEGIN")
        async with tx.begin():
            yield tx


def open_store(url: str, *, pool_size: int = 8) -> Store:
    """Opens the database named by a SQLAlchemy URL (`sqlite:///…` or `postgresql://…`, with any driver named)."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        engine = create_async_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            pool_size=pool_size,
            hide_parameters=True,
            connect_args=_PATIENCE,
        )
        return Store(engine, engine)
    parsed = parsed.set(drivername="sqlite+aiosqlite")
    path = Path(parsed.database or "")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engines = []
    for threaded in (False, True):
        creator = connector(path, threaded=threaded)
        # an error that is logged names its statement, never the addresses and login IDs it was about
        engine = create_async_engine(parsed, pool_size=pool_size, async_creator=creator, hide_parameters=True)
        event.listen(engine.sync_engine, "begin", _sqlite_begin)
        engines.append(engine)
    return Store(*engines)


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
