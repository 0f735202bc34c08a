"""What every step offers: its fields as data, how it checks them, and what it leaves behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Journey, Society

from ..context import Context
from ..outcomes import Field, JourneyEnd, Refused


@dataclass(frozen=True, slots=True)
class JourneyState:
    """A journey row, opened."""

    id: int
    name: str
    journey: Journey
    """The society's file on it; a journey that left the file goes on with the defaults."""
    steps: tuple[str, ...]
    position: int
    """Index into `steps` of the step to take next."""
    link_id: int | None
    address: str
    """The address the journey registers: invited, on file, or typed; empty until it is known."""
    member_id: int
    answers: Mapping[str, Any] = field(repr=False)
    kid: int
    """Key its on-screen key is derived with."""
    failures: int
    """Wrong tries behind its mailed link."""
    expires_at: int


@dataclass(frozen=True, slots=True)
class Proved:
    """Whom a proof step found. `address`: the one on file, for a journey that began without a mail; empty when a later
    step asks for it."""

    member_id: int
    address: str
    answers: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Passed:
    """A checked form, ready to be written: everything slow (hashing) is done.

    `values` are for the step's own `leave`; `answers` are kept, sealed, for later steps; `address` is the one the
    journey registers from now on.
    """

    values: Mapping[str, Any] = field(repr=False, default_factory=dict)
    answers: Mapping[str, Any] = field(repr=False, default_factory=dict)
    address: str | None = None
    stays: bool = False
    """The step is not left yet: only `answers` are kept, and its page comes again."""


class Step(ABC):
    """One kind of step."""

    name: ClassVar[str]

    def problems(self, society: Society, journey: Journey) -> list[str]:
        """What keeps this step from working in this journey, as sentences that begin with the key."""
        return []

    def fields(self, society: Society, journey: Journey) -> tuple[Field, ...]:
        """What it asks, in order."""
        return ()


class ProofStep(Step):
    """A first step: it finds the member. It counts only for the browser that passed it."""

    @abstractmethod
    async def prove(
        self,
        ctx: Context,
        tx: AsyncConnection,
        society: Society,
        journey: Journey,
        invited: str,
        form: Mapping[str, str],
        network: str,
        now: int,
    ) -> Proved | Refused:
        """Checks and counts in one transaction, so that many guesses at once are many guesses.

        `invited`: the address whose link was opened, empty for a journey that began without a mail.
        """


class FormStep(Step):
    """A later step."""

    registers: ClassVar[bool] = False
    """True for the step that makes the member registered."""
    editable: ClassVar[bool] = False
    """A later page may lead back here to change what was typed."""
    leads_back: ClassVar[bool] = False
    """Its page may lead back to an editable step."""

    async def arrive(self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, now: int) -> None:
        """What happens when the journey comes to this step, in the transaction that brought it here."""

    async def values(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState
    ) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        """(prefilled values, facts for the page)."""
        return {}, {}

    @abstractmethod
    async def check(
        self, ctx: Context, society: Society, state: JourneyState, form: Mapping[str, str], now: int
    ) -> Passed | Refused:
        """Checks the form outside of any write transaction."""

    async def leave(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, passed: Passed, now: int
    ) -> JourneyEnd | None:
        """Writes what the step leaves behind; an end stops the journey, and nothing it wrote before may stay behind."""
        return None

    async def conflict(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, passed: Passed
    ) -> Refused | None:
        """After a unique key refused `leave`: the words for it, None when it is none of this step's."""
        return None


class ShownStep(Step):
    """Asks nothing and waits for nothing: it stands on the page of the step after it, and the journey passes by."""

    @abstractmethod
    def facts(self, ctx: Context, society: Society, state: JourneyState) -> Mapping[str, Any]:
        """What it adds to that page. Raises KeyRefused."""


class WaitingStep(Step):
    """Waits for a mailed link. Arriving sends the mail; its page says to look for it.

    The link, in any browser, shows the form of `behind`: the step itself, or the one after it.
    """

    letter: ClassVar[str]
    """The mail that carries the link."""
    leads_back: ClassVar[bool] = False
    """Its page may lead back to an editable step, which ends the link."""
    counts: ClassVar[bool] = False
    """Its mail uses the address's budget: true where the address was typed by somebody without a mail from it."""


class LinkedStep(FormStep):
    """A step whose form stands behind the mailed link. A wrong entry counts; after `tries` the journey ends."""

    tries: ClassVar[int]

    @abstractmethod
    async def right(self, ctx: Context, society: Society, state: JourneyState, form: Mapping[str, str]) -> bool:
        """Whether what was typed is right; slow work (hashing) happens here, outside of any transaction."""

    @abstractmethod
    def wrong(self, society: Society, left: int) -> Refused:
        """The sentence for a wrong entry; `left` tries remain."""

    @abstractmethod
    def empty(self, society: Society, form: Mapping[str, str]) -> Refused | None:
        """What was left empty: no try."""

    async def check(
        self, ctx: Context, society: Society, state: JourneyState, form: Mapping[str, str], now: int
    ) -> Passed | Refused:
        return Passed()
