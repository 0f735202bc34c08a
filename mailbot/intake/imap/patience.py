"""How long a mailbox waits: between tries, for its lease, and until somebody renews a password."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Patience:
    """Waits in seconds."""

    longest: float = 300
    """Between two tries to connect: 1, 2, 4 … up to this."""
    refused: float = 300
    """After the first refused login, then twice as long each time: servers lock accounts that keep trying."""
    refused_longest: float = 1800
    alarm: float = 300
    """A mailbox that is away this long is somebody's business."""
    lease: float = 60
    beat: float = 15
    """How often the lease is made to last longer, and how often others ask for it."""


USUAL = Patience()


async def pause(stop: asyncio.Event, seconds: float, until_changed: Path | None, beat: float) -> None:
    """Waits `seconds`, but not beyond `stop` or a change of the file, which is looked at every `beat` seconds."""
    before = _changed_at(until_changed)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), min(left, beat) if until_changed else left)
            return
        if _changed_at(until_changed) != before:
            return


def _changed_at(path: Path | None) -> int:
    try:
        return path.stat().st_mtime_ns if path else 0
    except OSError:
        return 0
