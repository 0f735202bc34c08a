"""From a claimed row to a signed message: gathers the facts, renders, signs. OpenSSL frees the GIL while it signs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.delivery.mails import Cancelled, ClaimedMail, Expired, PutBack, Settlement
from mailbot.mail.address import Address
from mailbot.registration.context import Context
from mailbot.store.alarms import Alarm
from mailbot.store.engine import OUTAGES
from mailbot.telemetry import emit

SIGNED_TOGETHER = 16
"""Mails a thread signs before their senders get them."""

FACTS_PAUSE_MS = 5000
"""Mails whose facts could not be read, because the database was away, are due again after this."""

Facts = Mapping[str, str | int]
FactsHook = Callable[
    [Context, AsyncConnection, Sequence[ClaimedMail], int],
    Awaitable[Sequence[dict[str, str | int] | Cancelled | PutBack]],
]


class Renderer(Protocol):
    """What is asked of `mailbot.letters`. Called from threads."""

    def render(
        self,
        society_id: str,
        letter: str,
        facts: Facts,
        *,
        recipient: Address,
        message_id: str,
        date_ms: int,
        in_reply_to: str | None,
    ) -> bytes: ...


class Signing(Protocol):
    """What is asked of `mailbot.mail.dkim`. Called from threads."""

    def sign(self, message: bytes, now: int | None = None) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Ready:
    """A signed mail."""

    mail: ClaimedMail
    recipient: Address
    message: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """A mail that a fault of ours keeps from being made."""

    mail: ClaimedMail
    reason: Alarm
    error: Exception


class Desk:
    """Where mails are made. Lifetime: that of its courier."""

    def __init__(
        self,
        ctx: Context,
        letters: Renderer,
        signer: Signing,
        facts: FactsHook,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._ctx = ctx
        self._letters = letters
        self._signer = signer
        self._hook = facts
        self._threads = threads

    async def prepare(self, mails: Sequence[ClaimedMail], now: int) -> AsyncIterator[Ready | Settlement | Fault]:
        """One item for each mail, as soon as it is known. Never raises."""
        wanted: list[ClaimedMail] = []
        for mail in mails:
            if now >= mail.last_moment:
                yield Settlement(mail, Expired())
            elif mail.society not in self._ctx.settings.societies:
                yield Settlement(mail, Cancelled("society-gone"))
            else:
                wanted.append(mail)
        known: list[tuple[ClaimedMail, Facts]] = []
        for item in await self._facts(wanted, now) if wanted else ():
            if isinstance(item, tuple):
                known.append(item)
            else:
                yield item
        loop = asyncio.get_running_loop()
        for signing in [
            loop.run_in_executor(self._threads, self._sign, known[at : at + SIGNED_TOGETHER], now)
            for at in range(0, len(known), SIGNED_TOGETHER)
        ]:
            for made in await signing:
                yield made

    async def _facts(
        self, mails: Sequence[ClaimedMail], now: int
    ) -> list[tuple[ClaimedMail, Facts] | Settlement | Fault]:
        """What each letter says about its member. A mail whose facts fail is a fault, without harm to its batch."""
        try:
            async with self._ctx.store.read() as tx:
                found = await self._hook(self._ctx, tx, mails, now)
            return [
                Settlement(mail, facts) if isinstance(facts, Cancelled | PutBack) else (mail, facts)
                for mail, facts in zip(mails, found, strict=True)
            ]
        except OUTAGES as error:
            emit("courier.error", reason="facts", error=error)
            return [Settlement(mail, PutBack(now + FACTS_PAUSE_MS)) for mail in mails]
        except Exception as error:
            if len(mails) == 1:
                return [Fault(mails[0], Alarm.FACTS_ERROR, error)]
            return [item for mail in mails for item in await self._facts([mail], now)]

    def _sign(self, chunk: Sequence[tuple[ClaimedMail, Facts]], now: int) -> list[Ready | Fault]:
        """Runs in a thread."""
        made: list[Ready | Fault] = []
        for mail, facts in chunk:
            try:
                # The stored form is the canonical, never quoted one; the constructor checks it once more.
                local, _, domain = mail.recipient.rpartition("@")
                recipient = Address(local, domain)
                message = self._letters.render(
                    mail.society,
                    mail.letter,
                    facts,
                    recipient=recipient,
                    message_id=mail.message_id,
                    date_ms=mail.created_at,
                    in_reply_to=mail.in_reply_to,
                )
                made.append(Ready(mail, recipient, self._signer.sign(message, now)))
            except Exception as error:
                made.append(Fault(mail, Alarm.RENDER_ERROR, error))
        return made
