"""Mailboxes elsewhere whose mail the robot takes in (RFC 3501): watches each, hands every mail to the one funnel.

Lifetime: one intake role.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mailbot.config import Settings
from mailbot.config.site import ImapMailbox
from mailbot.intake.imap.client import Connection, Denied, Lost
from mailbot.intake.imap.mailbox import Funnel, Mailbox
from mailbot.store import Store

__all__ = ["ImapIntake", "login_problem"]


class ImapIntake:
    """All `[imap.NAME]` of the configuration, a task each. None of them can harm another, or the robot."""

    def __init__(self, settings: Settings, store: Store, funnel: Funnel, clock: Callable[[], int]) -> None:
        self._mailboxes = [Mailbox(name, settings, store, funnel, clock) for name in settings.site.imap]
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(one.run(self._stop), name=f"imap-{one.name}") for one in self._mailboxes]

    async def stop(self, grace: float) -> None:
        """Batches that have begun may end within `grace` seconds; what is cut then is found again at the next start."""
        self._stop.set()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def login_problem(mailbox: ImapMailbox) -> str:
    """What keeps the robot from its work in the mailbox, in words; empty when it can log in and open the folder, and
    those where mails are moved are there (they are made) or not needed."""
    try:
        connection = await Connection.open(mailbox)
        try:
            await connection.select(mailbox.folder)
            for folder in (mailbox.done_folder, mailbox.ignored_folder) if connection.moves else ():
                if folder and not await connection.have(folder):
                    return f"folder {folder} is not there and cannot be made: mails would stay where they are"
            await connection.logout()
        finally:
            connection.abort()
    except (Denied, Lost) as error:
        return str(error)
    return ""
