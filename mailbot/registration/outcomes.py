"""The values use cases answer with. Expected ends are values; exceptions are outages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from mailbot.credentials import LinkState

FieldKind = Literal["text", "digits", "password", "email", "date", "choices", "tick", "shown"]
"""`date` is three fields, `<name>_year`, `<name>_month`, `<name>_day`; `choices` one tick box for each of the facts'
`choices`, `<name>.<id>`; `tick` one tick box; `shown` is text only, and nothing is sent for it."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong, as a Japanese sentence that says what to do."""

    field: str
    """Name of the form field; empty for the whole form."""
    text: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was changed but counters. `status` is the HTTP status: 422 wrong input, 429 too often."""

    complaints: tuple[Complaint, ...]
    status: int = 422

    @classmethod
    def whole(cls, text: str, status: int = 422) -> Refused:
        """A complaint about the form as a whole."""
        return cls((Complaint("", text),), status)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a step, as data for the page."""

    name: str
    """Key in the submitted form."""
    label: str
    """Key of `Society.label`."""
    kind: FieldKind
    autocomplete: str
    hint: tuple[str, ...] = ()
    """Sentences to stand before the field: the rules it is checked by."""
    required: bool = True


@dataclass(frozen=True, slots=True)
class StepPage:
    """A step to show. `values` prefill fields and hold no secret."""

    journey_id: int | None
    """None before the proof step was passed: the GET writes no row."""
    journey: str
    step: str
    position: int
    """Counted from 1."""
    total: int
    fields: tuple[Field, ...]
    values: Mapping[str, str]
    facts: Mapping[str, Any]
    expires_at: int
    waits: bool = False
    """Nothing can be done here but open the mailed link."""
    back: tuple[str, ...] = ()
    """Earlier steps this page may lead back to."""


class End(StrEnum):
    """Why a journey has no further page."""

    DONE = "done"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    OTHER_BROWSER = "other-browser"
    TOO_MANY_TRIES = "too-many-tries"


@dataclass(frozen=True, slots=True)
class PendingAddress:
    """Typed but not proved yet: it counts for nothing until its link was followed."""

    slot: int
    address: str
    until: int


@dataclass(frozen=True, slots=True)
class JourneyEnd:
    """DONE by this journey carries nickname, login ID and the typed address that waits for its proof; `already`:
    the member was registered by another tab."""

    kind: End
    nickname: str = ""
    login_id: str = ""
    waiting: PendingAddress | None = None
    already: bool = False
    login_is_open: bool = True
    """False while the completion mail is still on its way and the society waits for it."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The proof step was passed. `proof` is the value of the cookie that binds the journey to this browser."""

    journey_id: int
    proof: str = field(repr=False)
    next: str
    """Name of the step to show next."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A step was passed; `next` is the step to show, None when the journey is done. For a POST of another step than the
    current one nothing was changed and `next` is the current one."""

    next: str | None


@dataclass(frozen=True, slots=True)
class LinkView:
    """What a link's page may know. Without a live link `address` is empty."""

    state: LinkState
    address: str = ""
    expires_at: int = 0


Scope = Literal["member", "expired-password"]
"""What a session may do: everything, or nothing but set a new password."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """`session_token` is the cookie's value."""

    session_token: str = field(repr=False)
    scope: Scope


@dataclass(frozen=True, slots=True)
class PinAsked:
    """The password was right; a PIN is on its way. `proof` is the value of the cookie that binds it to this browser."""

    proof: str = field(repr=False)


class PinState(StrEnum):
    """Whether a mailed PIN opens the login."""

    LIVE = "live"
    DEAD = "dead"
    """Tried too often: a new one is needed."""
    EXPIRED = "expired"
    PAUSED = "paused"
    """The account: too many wrong tries in an hour."""
    LOCKED = "locked"
    """The account: far too many in a row."""


@dataclass(frozen=True, slots=True)
class PinPage:
    """A login that waits for its PIN. Times in ms."""

    state: PinState
    addresses: tuple[str, ...]
    """Where it was mailed to, masked."""
    digits: int
    sent_at: int
    until: int
    """End of the PIN."""
    paused_until: int | None
    may_send: bool
    """False when this login has had all its mails."""
    again_at: int
    """Before this moment asking again sends nothing."""


@dataclass(frozen=True, slots=True)
class MemberView:
    """Who a session belongs to."""

    member_id: int
    scope: Scope
    nickname: str
    """The login ID where the member has none; empty where that is no name (a number or an address)."""
    login_id: str
    last_login_at: int | None
    """The login before this one; None at the first."""
    password_expires_at: int | None


@dataclass(frozen=True, slots=True)
class Changed:
    """The password is changed; the session goes on under this new token (a new one at each step of privilege)."""

    session_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProfileAddress:
    slot: int
    address: str
    pin: bool = False
    """Whether PIN mails go there."""
    unreachable: bool = False
    """Mail does not reach it, so it proves nobody."""


@dataclass(frozen=True, slots=True)
class ProfileView:
    login_id: str
    nickname: str
    addresses: tuple[ProfileAddress, ...]
    """Proved ones, by slot."""
    pending: tuple[PendingAddress, ...]
    wanted: Mapping[str, bool]
    disclosure: Mapping[str, bool]
    household: tuple[str, ...]
    """Nicknames, one's own first; empty where the society lists no household."""
    password_expires_at: int | None
    pin_wishes: frozenset[int] = frozenset()
    """Slots that PIN mails shall go to once their address is proved."""
    login_kind: str = "chosen"
    """chosen, formula (it stays as it is) or address (it follows the first address)."""


@dataclass(frozen=True, slots=True)
class Updated:
    """The profile is saved; `proofs_sent` are new addresses that count once their mail's link was followed."""

    proofs_sent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReissuePage:
    """`asks`: what must be typed before the new password, None where the mailbox is enough."""

    asks: Literal["temporary-login", "birth-date"] | None
    expires_at: int
    login_id: str = ""
    """The member's login ID, where this browser may be told."""
    proved: bool = False
    """This browser passed what the link asks."""
