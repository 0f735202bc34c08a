"""Wake-up hints between processes: PostgreSQL's NOTIFY. A hint only, so whoever listens polls as well."""

from __future__ import annotations

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from mailbot.store.engine import Store

CHANNEL = "mailbot"
_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', :topic)")


async def announce(tx: AsyncConnection, topic: str) -> None:
    """Tells every process, once this transaction commits, that there is work. SQLite has one process: `Store.wake`."""
    if tx.dialect.name == "postgresql":
        await tx.execute(_NOTIFY, {"topic": topic})


async def listen(store: Store) -> None:
    """Hands hints of other processes to this one's wakers, until cancelled; returns at once on SQLite."""
    if store.dialect != "postgresql":
        return
    conninfo = store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    persistent = AsyncRetrying(retry=retry_if_exception_type(psycopg.Error), wait=wait_random_exponential(max=30))
    async for attempt in persistent:
        with attempt:
            async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                async for hint in connection.notifies():
                    store.wake(hint.payload)
                raise psycopg.OperationalError("the connection for notifications ended")
