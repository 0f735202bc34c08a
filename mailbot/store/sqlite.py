"""SQLite connections that do their short statements in the event loop's own thread, in files nobody else may read.

A statement on a few indexed rows takes SQLite less time than handing it to a thread and back, which aiosqlite does
several times a statement. So only what may really wait goes to the thread: BEGIN IMMEDIATE (another process may hold
the write lock) and COMMIT (the disk). See docs/decisions/0006.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiosqlite

BUSY_SECONDS = 5.0
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON")


def _waits(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bool:
    if arguments and isinstance(arguments[0], str):
        return arguments[0].startswith("BEGIN IMMEDIATE")
    return function.__name__ in ("commit", "close", "close_and_stop")


class _ShortConnection(aiosqlite.Connection):
    """One connection, used by one task at a time."""

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._connection is None or _waits(fn, args):
            return await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]  # aiosqlite
        return fn(*args, **kwargs)


def _make(path: Path) -> None:
    """Makes the file for its owner alone; the journal files take over its mode.

    A file that exists is never opened here: closing any descriptor of it drops the locks of all connections of this
    process, and another process would then remove the write-ahead log under them (sqlite.org/howtocorrupt.html, 2.2).
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def connector(path: Path, *, threaded: bool) -> Callable[..., Awaitable[aiosqlite.Connection]]:
    """What SQLAlchemy calls for a new connection. `threaded`: every statement in a thread, for those that read much."""

    _make(path)

    def open_file() -> sqlite3.Connection:
        # isolation_level None: BEGIN is ours to send; one connection is never used by two threads at once
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    async def connect(*_: Any, **__: Any) -> aiosqlite.Connection:
        kind = aiosqlite.Connection if threaded else _ShortConnection
        connection = kind(open_file, 64)
        connection._thread.daemon = True  # a process that must end does not wait for a pool
        return await connection

    return connect
