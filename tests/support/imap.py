"""The robot's IMAP intake in the process of the test, on a world of its own: mailboxes, reception, a clock to turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

from sqlalchemy import select

from mailbot.config import load
from mailbot.intake.imap.ledger import overview
from mailbot.intake.imap.mailbox import Funnel, Mailbox
from mailbot.intake.imap.patience import Patience
from mailbot.intake.reception import Reception
from mailbot.registration.context import Context
from mailbot.store.tables import imap_message, outbox
from tests.support.factory import NOW, UNCHECKED

ADDRESS = "touroku@yokokou.example"
QUICK = Patience(longest=0.2, refused=0.3, between_looks=0.02, beat=0.1)
AMPLE = "domain_per_hour = 1000000\nsociety_per_hour_min = 1000000\nother_domain_percent = 100\n"


def blank_mail(
    sender: str,
    number: object = 1,
    *,
    to: str = ADDRESS,
    headers: str = "",
    text: str = "",
    return_path: str | None = None,
    date: int = NOW,
) -> bytes:
    """A mail as a server stores it. `return_path` as written, else the sender's."""
    path = f"<{sender}>" if return_path is None else return_path
    lines = f"Return-Path: {path}\r\n" if path else ""
    lines += f"From: {sender}\r\nTo: {to}\r\nDate: {formatdate(date / 1000)}\r\n"
    return f"{lines}Message-ID: <{number}@phone.example>\r\n{headers}\r\n{text}".encode()


def imap_toml(name: str, port: int, ca_file: Path, path: Path, user: str, password: str, /, **more: Any) -> str:
    """An `[imap.NAME]` of mailbot.toml. `more`: further keys; a value is TOML where it is no text."""
    word = path / f"{name}.password"
    word.write_text(password + "\n")
    word.chmod(0o600)
    given = {
        "host": "127.0.0.1",
        "port": port,
        "user": user,
        "password_file": str(word),
        "ca_file": str(ca_file),
        "addresses": [ADDRESS],
        **more,
    }
    lines = [f"{key} = {value!r}" for key, value in given.items() if value is not None]
    return "\n".join([f"[imap.{name}]", *lines, ""])


@dataclass
class Hands:
    """The test's grip on the running intake."""

    ctx: Context
    now: int = NOW

    def clock(self) -> int:
        return self.now

    async def answers(self) -> list[str]:
        async with self.ctx.store.read() as tx:
            return list(await tx.scalars(select(outbox.c.recipient).order_by(outbox.c.recipient)))

    async def ledger(self) -> list[tuple[str, str | None]]:
        """(state, reason) of every mail, by UID."""
        c = imap_message.c
        async with self.ctx.store.read() as tx:
            found = await tx.execute(select(c.state, c.reason).order_by(c.mailbox, c.uidvalidity, c.uid))
            return [(row.state, row.reason) for row in found]

    async def until(self, question: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not await question():  # noqa: ASYNC110  # a database has no event
                await asyncio.sleep(0.02)

    async def until_ledger(self, *wanted: tuple[str, str | None], seconds: float = 20) -> None:
        """Until the ledger holds exactly these."""
        found: list[tuple[str, str | None]] = []
        try:
            async with asyncio.timeout(seconds):
                while (found := await self.ledger()) != list(wanted):  # noqa: ASYNC110  the robot writes it
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"the ledger has {found}") from None

    async def learnt(self, mailboxes: int = 1) -> None:
        """Until every mailbox has been opened once."""

        async def known() -> bool:
            async with self.ctx.store.read() as tx:
                return len(await overview(tx)) == mailboxes

        await self.until(known)


def hands(ctx: Context, folder: Path, toml: str, budgets: str = AMPLE) -> Hands:
    """The world's context with these mailboxes."""
    (folder / "config" / "mailbot.toml").write_text(f"{toml}\n[budgets]\n{budgets}")
    return Hands(replace(ctx, settings=load(folder / "config", {"MAILBOT_SITE_DATA": f'"{folder}"'})))


@asynccontextmanager
async def watching(
    at: Hands, *, patience: Patience = QUICK, wrap: Callable[[Reception], Funnel] = lambda made: made
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """One robot's intake -> the task of each mailbox. It stops cleanly at the end."""
    reception = Reception(at.ctx, 64, UNCHECKED)
    running = asyncio.create_task(reception.run())
    stop = asyncio.Event()
    names = at.ctx.settings.site.imap
    made = [Mailbox(name, at.ctx.settings, at.ctx.store, wrap(reception), at.clock, patience) for name in names]
    tasks = [asyncio.create_task(one.run(stop)) for one in made]
    try:
        yield tasks
    finally:
        stop.set()
        await asyncio.wait(tasks, timeout=20)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
