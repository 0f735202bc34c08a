"""How fast a full mailbox is emptied: `python -m bench.imap [MAILS]`, by the robot's intake (SQLite) from a Dovecot."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import uvloop

from mailbot import telemetry
from mailbot.store import open_store
from mailbot.store.tables import metadata
from tests.support.dovecot import PASSWORD, dovecot
from tests.support.factory import NOW, world
from tests.support.imap import blank_mail, hands, imap_toml, watching


async def empty(folder: Path, mails: int) -> None:
    store = open_store(f"sqlite+aiosqlite:///{folder / 'mailbot.sqlite3'}")
    async with store.begin() as tx:
        await tx.run_sync(metadata.create_all)
    made = world(store, folder)
    with dovecot() as server:
        toml = imap_toml("box", server.port, server.ca_file, folder, "bench", PASSWORD, done_folder="Done")
        at = hands(made.ctx, folder, toml)
        async with watching(at):
            await at.learnt()
        people = [f"p{n}@phone{n % 50}.example" for n in range(mails)]
        server.deliver("bench", *(blank_mail(one, one) for one in people), at=NOW)
        begun = time.monotonic()
        async with watching(at):

            async def filed() -> bool:
                states = Counter(state for state, _ in await at.ledger())
                return states["filed"] == mails

            while not await filed():  # noqa: ASYNC110  # a database has no event
                await asyncio.sleep(0.5)
        seconds = time.monotonic() - begun
        answers = Counter(await at.answers())
        assert answers == Counter(people), "every mail has one answer"
        left = len(server.folders("bench")["INBOX"])
    await made.ctx.passwords.close()
    await store.close()
    print(
        f"{mails} waiting mails: {seconds:.1f} s, {mails / seconds:.0f} mails/s; one answer each, {left} not moved"
    )


if __name__ == "__main__":
    telemetry.configure("error", "text")
    with tempfile.TemporaryDirectory() as name:
        uvloop.run(empty(Path(name), int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
