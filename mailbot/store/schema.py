"""Brings a database to this program's schema (Alembic, versions inside the package) and ties it to its key ring."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.store.engine import Store, insert
from mailbot.store.tables import member, meta, temporary

FINGERPRINT = "key-ring"
UPGRADE_LOCK = 0x6D61696C626F74  # "mailbot"


class SchemaError(Exception):
    """The database is not at this program's schema; says what to do."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def head() -> str:
    """The newest revision this program knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


async def current(store: Store) -> str | None:
    """The database's revision; None when it is empty."""
    async with store.read() as tx:
        return await tx.run_sync(lambda c: MigrationContext.configure(c).get_current_revision())


async def upgrade(store: Store) -> None:
    """Runs what is missing, in one transaction; roles that start together take turns."""

    def run(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async with store.begin() as tx:
        if store.dialect == "postgresql":
            await tx.execute(select(func.pg_advisory_xact_lock(UPGRADE_LOCK)))
        await tx.run_sync(run)


async def require_current(store: Store) -> None:
    """Raises SchemaError unless the database is at the newest revision."""
    found = await current(store)
    if found != head():
        raise SchemaError(
            f"the database is at revision {found or 'none'}, this program needs {head()}: run `mailbot db upgrade`"
        )


async def is_empty(store: Store) -> bool:
    """True when nothing depends on a key ring yet."""
    async with store.read() as tx:
        if not await tx.run_sync(lambda c: inspect(c).has_table("meta")):
            return True
        if await tx.scalar(select(meta.c.value).where(meta.c.name == FINGERPRINT)) is not None:
            return False
        return not (await _count(tx))


async def _count(tx: AsyncConnection) -> int:
    members = await tx.scalar(select(func.count()).select_from(member))
    letters = await tx.scalar(select(func.count()).select_from(temporary))
    return (members or 0) + (letters or 0)


async def bind_ring(store: Store, fingerprint: str) -> None:
    """Remembers the ring of an empty database; raises SchemaError when this database belongs to another ring."""
    async with store.begin() as tx:
        await tx.execute(insert(tx)(meta).values(name=FINGERPRINT, value=fingerprint).on_conflict_do_nothing())
        known = await tx.scalar(select(meta.c.value).where(meta.c.name == FINGERPRINT))
    if known != fingerprint:
        raise SchemaError(
            f"this database belongs to key ring {known}, the ring given is {fingerprint}: every link, letter and name "
            "in it would be unreadable. Put the right key file back (site.keys)."
        )
