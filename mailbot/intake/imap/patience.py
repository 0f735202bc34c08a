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
    between_looks: float = 1
    """However often a server announces mail."""
    beat: float = 15
    """How often the lease is made to last longer, and how often others ask for it."""


USUAL = Patience()


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was before it was read."""

    path: Path
    changed_at: int

    @classmethod
    def now(cls, path: Path) -> Seen:
        return cls(path, _changed_at(path))

    def changed(self) -> bool:
        return _changed_at(self.path) != self.changed_at


async def pause(stop: asyncio.Event, seconds: float, file: Seen | None = None, beat: float = 1) -> None:
    """Waits `seconds`, but not beyond `stop` or a change of the file, which is looked at every `beat` seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0 and not (file and file.changed()):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), min(left, beat) if file else left)
            return


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
