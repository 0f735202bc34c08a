"""What the ledger says about the folder that is open, so that a look costs no query a mail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mailbot.intake.imap.ledger import Entry, Folder, State

FIRST_RETRY_MS, LONGEST_RETRY_MS = 30_000, 30 * 60_000
"""A mail that got 4xx waits this long at first, then twice as long each time."""


@dataclass
class Memory:
    """Lifetime: one session."""

    folder: Folder
    ended: set[int] = field(default_factory=set)
    """UIDs that need no look any more while this session lasts."""
    recorded: dict[int, int] = field(default_factory=dict)
    """UID -> when its mail arrived, of those that ended before this session: a restored folder may have given the
    number to another mail."""
    again: set[int] = field(default_factory=set)
    """UIDs that turned out to be such other mails."""
    waiting: dict[int, Entry] = field(default_factory=dict)
    taken: dict[int, Entry] = field(default_factory=dict)
    gone: dict[int, int] = field(default_factory=dict)
    """UID -> when it was missed. A server may have been wrong: what appears again is taken."""

    def recall(self, entries: Sequence[Entry]) -> None:
        """What the ledger knew when the session began."""
        self.note(entries)
        dated = {one.uid: one.arrived_at for one in entries if one.uid in self.ended and one.arrived_at is not None}
        self.recorded = dated
        self.ended -= dated.keys()

    def note(self, entries: Sequence[Entry]) -> None:
        for one in entries:
            self.recorded.pop(one.uid, None)
            self.waiting.pop(one.uid, None)
            self.gone.pop(one.uid, None)
            if one.state is State.WAITING:
                self.waiting[one.uid] = one
                continue
            if one.state is State.GONE:
                self.gone[one.uid] = one.at
                continue
            self.ended.add(one.uid)
            if one.state is State.TAKEN:
                self.taken[one.uid] = one


def retry_at(entry: Entry) -> int:
    """When a mail that waits is tried again."""
    return entry.at + min(FIRST_RETRY_MS << min(entry.tries - 1, 10), LONGEST_RETRY_MS)
