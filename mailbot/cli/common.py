"""What every command shares: settings, database, tables or JSON, and ends that people can read.

Exit status: 0 done, 1 failed, 2 wrong use.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mailbot import app
from mailbot.config import ConfigError, Settings, load
from mailbot.private import StartProblem
from mailbot.registration.context import Context
from mailbot.store.clock import Clock

T = TypeVar("T")
JST = timezone(timedelta(hours=9))
# into a pipe or file nothing is wrapped: ids are there to be copied; 2001:db8:100::1 holds no emoji
out = Console(highlight=False, soft_wrap=True, emoji=False, width=None if sys.stdout.isatty() else 4000)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Config = Annotated[
    Path, typer.Option("--config", help="Folder with mailbot.toml and societies/*.toml.", envvar="MAILBOT_CONFIG")
]
DEFAULT_CONFIG = Path("config")


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error where that is a terminal; to be told (what, done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        yield show


class Failed(Exception):
    """Ends the command with status 1 and these words."""


@dataclass
class Options:
    """What stands before the command: `mailbot --config DIR …`."""

    config: Path = DEFAULT_CONFIG


options = Options()


def settings() -> Settings:
    """Raises ConfigError."""
    return load(options.config)


def actor() -> str:
    """Who is at the keyboard, for the audit record."""
    return f"cli:{getpass.getuser()}"


@asynccontextmanager
async def opened(loaded: Settings | None = None) -> AsyncIterator[tuple[Context, int]]:
    """(context, now) on the installation's database and key ring."""
    loaded = loaded or settings()
    store = await app.open_database(loaded)
    passwords = app.open_passwords(loaded)
    clock = Clock()
    try:
        await clock.synchronise(store)
        ring = await app.open_ring(loaded, store, clock.now())
        yield Context(loaded, ring, passwords, store), clock.now()
    finally:
        await passwords.close()
        await store.close()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a command's coroutine; what people can mend becomes words and status 1, not a trace."""
    try:
        return asyncio.run(work)
    except (ConfigError, StartProblem, Failed) as error:
        raise fail(error) from None


def fail(error: Exception) -> typer.Exit:
    """Prints the words of an error -> the exit to raise."""
    for line in str(error).splitlines():
        print(line, file=sys.stderr)
    return typer.Exit(1)


def unwritten(file: Path | str, error: OSError) -> typer.Exit:
    """Says why a file could not be written -> the exit to raise."""
    also = ": nothing was written; name another file, or delete this one" if isinstance(error, FileExistsError) else ""
    return fail(Failed(f"{file}: {error.strerror}{also}"))


def moment(ms: int | None) -> str:
    """A time as staff in Japan read it."""
    return datetime.fromtimestamp(ms / 1000, JST).strftime("%Y-%m-%d %H:%M:%S") if ms else "–"


def show(rows: Iterable[Mapping[str, Any]], as_json: bool, *, title: str = "", empty: str = "Nothing here.") -> None:
    """A list of rows with the same keys, as a table or as JSON (times stay ms there)."""
    rows = list(rows)
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=1, default=str))
        return
    if not rows:
        out.print(empty)
        return
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for key in rows[0]:
        table.add_column(_heading(key), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(key, value) for key, value in row.items()))
    out.print(table)


def _heading(key: str) -> str:
    return key.removesuffix("_at").replace("_", " ")


def _cell(key: str, value: Any) -> str:
    if key.endswith("_at") and isinstance(value, int | None):
        return moment(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else str(value)


def fields(pairs: Sequence[tuple[str, Any]], as_json: bool) -> None:
    """One thing, its facts below each other."""
    if as_json:
        print(json.dumps(dict(pairs), ensure_ascii=False, indent=1, default=str))
        return
    width = max(len(_heading(name)) for name, _ in pairs)
    for name, value in pairs:
        print(f"{_heading(name).ljust(width)}  {_cell(name, value)}")


def parse_since(text: str, now: int) -> int:
    """`2026-11-20`, `2026-11-20T09:30` (Japan time) or an age such as `3h`, `2d` -> ms. Raises BadParameter."""
    units = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
    if text[:-1].isascii() and text[:-1].isdigit() and text[-1:] in units:
        return now - int(text[:-1]) * units[text[-1]]
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"--since {text}: expected an age such as 3h or 2d, or a time such as 2026-11-20T09:30"
        ) from None
    return int((when if when.tzinfo else when.replace(tzinfo=JST)).timestamp() * 1000)
