"""`mailbot db`."""

from __future__ import annotations

import typer
from sqlalchemy import func, select

from mailbot.cli import common
from mailbot.store import open_store, schema
from mailbot.store.tables import metadata


def register(command: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="The database: schema and size.")
    group.command("upgrade")(upgrade)
    group.command("status")(status)
    command.add_typer(group, name="db")


def upgrade() -> None:
    """Bring the database to this program's schema. Stop the robot first; make a backup."""

    async def work() -> tuple[str | None, str]:
        store = open_store(common.settings().database_url)
        try:
            before = await schema.current(store)
            await schema.upgrade(store)
            return before, schema.head()
        finally:
            await store.close()

    before, after = common.run(work())
    print(f"Schema is at revision {after}" + (" (was already)." if before == after else f" (was {before or 'empty'})."))


def status(json: common.Json = False) -> None:
    """Schema revision and rows of each table."""

    async def work() -> list[tuple[str, object]]:
        loaded = common.settings()
        store = open_store(loaded.database_url)
        try:
            found = await schema.current(store)
            facts: list[tuple[str, object]] = [
                ("engine", store.dialect),
                ("revision", found),
                ("needed", schema.head()),
            ]
            if found == schema.head():
                async with store.read() as tx:
                    facts += [
                        (table.name, await tx.scalar(select(func.count()).select_from(table)))
                        for table in metadata.sorted_tables
                    ]
            return facts
        finally:
            await store.close()

    common.fields(common.run(work()), json)
