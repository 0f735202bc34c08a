"""A mail on its way out, and what may become of it. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mailbot.delivery import policy
from mailbot.delivery.policy import Lane
from mailbot.mail.status import Outcome


@dataclass(frozen=True, slots=True)
class NewMail:
    """A mail to queue. `facts` are plain values for the letter: nothing secret, nothing personal.

    `dedupe_key`: the second mail of a society with the same key is dropped. `not_before`: earliest first attempt.
    """

    society: str
    letter: str
    lane: Lane
    recipient: str
    member_id: int | None = None
    link_id: int | None = None
    facts: Mapping[str, str | int] = field(default_factory=dict)
    in_reply_to: str | None = None
    dedupe_key: str | None = None
    deadline_at: int | None = None
    not_before: int | None = None


@dataclass(frozen=True, slots=True)
class ClaimedMail:
    """A mail leased for one attempt, whose number is `attempts`. The lease ends at `lease_until`.

    `unconfirmed`: an earlier attempt may have delivered it.
    """

    society: str
    id: int
    letter: str
    lane: Lane
    recipient: str
    member_id: int | None
    link_id: int | None
    facts: dict[str, str | int]
    message_id: str
    in_reply_to: str | None
    attempts: int
    created_at: int
    deadline_at: int | None
    lease_until: int
    unconfirmed: bool = False

    @property
    def last_moment(self) -> int:
        """From when on this mail is not sent any more."""
        return policy.last_moment(self.created_at, self.deadline_at)


@dataclass(frozen=True, slots=True)
class Expired:
    """The mail's secret died, or it grew too old, before it went out."""

    reason: str = "deadline"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The mail has no purpose any more: its member, address, link or society is gone."""

    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """The mail waits for staff, who `release` or `cancel` it."""

    reason: str


@dataclass(frozen=True, slots=True)
class PutBack:
    """The mail was not tried; it is due again at `at`. Its attempt stays counted."""

    at: int


Result = Outcome | Expired | Cancelled | Held | PutBack


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of one claimed mail."""

    mail: ClaimedMail
    outcome: Result
