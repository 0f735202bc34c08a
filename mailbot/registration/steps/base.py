"""What every step offers: its fields as data, how it checks them, and what it leaves behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Journey, Society

from ..context import Context
from ..outcomes import Field, JourneyEnd, Refused


@dataclass(frozen=True, slots=True)
class JourneyState:
    """A journey row, opened."""

    id: int
    name: str
    steps: tuple[str, ...]
    position: int
    """Index into `steps` of the step to take next."""
    link_id: int | None
    address: str
    """The address the journey registers: invited, or on file."""
    member_id: int
    answers: Mapping[str, Any] = field(repr=False)
    expires_at: int
    done_at: int | None


@dataclass(frozen=True, slots=True)
class Proved:
    """Whom a proof step found. `address`: the one on file, for a journey that began without a mail."""

    member_id: int
    address: str
    answers: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Passed:
    """A checked form, ready to be written: everything slow (hashing) is done."""

    values: Mapping[str, Any] = field(repr=False)


class Step(ABC):
    """One kind of step."""

    name: str

    def problems(self, society: Society, journey: Journey) -> list[str]:
        """What keeps this step from working in this journey."""
        return []

    @abstractmethod
    def fields(self, society: Society) -> tuple[Field, ...]:
        """What it asks, in order."""


class ProofStep(Step):
    """A first step: it finds the member. It counts only for the browser that passed it."""

    @abstractmethod
    async def prove(
        self,
        ctx: Context,
        tx: AsyncConnection,
        society: Society,
        journey: Journey,
        form: Mapping[str, str],
        network: str,
        now: int,
    ) -> Proved | Refused:
        """Checks and counts in one transaction, so that many guesses at once are many guesses."""


class FormStep(Step):
    """A later step."""

    registers = False
    """True for the step that makes the member registered."""

    @abstractmethod
    async def values(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState
    ) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        """(prefilled values, facts for the page)."""

    @abstractmethod
    async def check(
        self, ctx: Context, society: Society, state: JourneyState, form: Mapping[str, str], now: int
    ) -> Passed | Refused:
        """Checks the form outside of any write transaction."""

    @abstractmethod
    async def leave(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, passed: Passed, now: int
    ) -> JourneyEnd | None:
        """Writes what the step leaves behind; an end stops the journey, and nothing it wrote before may stay behind."""

    async def conflict(
        self, ctx: Context, tx: AsyncConnection, society: Society, state: JourneyState, passed: Passed
    ) -> Refused | None:
        """After a unique key refused `leave`: the words for it, None when it is none of this step's."""
        return None
