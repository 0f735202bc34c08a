"""The one funnel: every mail, from SMTP or IMAP, ends here; nothing else starts an answer.

Each mail is judged alone (pure), then everything that waits goes into one transaction (group commit): seen before?
within budget? link and answer queued, or the help desk's row written; inbox row written, commit; only then each waiting
session gets its 250. If a batch fails, each mail is tried alone and only the one that fails alone gets 451.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Settings
from mailbot.intake.screening import HEARD, Action, OwnAddresses, Reason, Tier, Verdict, judge, silence
from mailbot.mail import status
from mailbot.mail.address import Address
from mailbot.mail.authentication import Authentication
from mailbot.mail.bodytext import Words, words
from mailbot.mail.envelope import Envelope, Purpose
from mailbot.mail.inbound import Inbound, facts, inbox_key
from mailbot.mail.network import network_of
from mailbot.mail.status import Status
from mailbot.ratelimit import Hit, Ledger, Limits
from mailbot.registration import helpdesk, stops
from mailbot.registration.context import Context
from mailbot.registration.helpdesk import HelpMail
from mailbot.registration.invite import LinkRequest, request_links
from mailbot.store.alarms import raise_alarm
from mailbot.store.bulk import Bulk
from mailbot.store.engine import OUTAGES
from mailbot.store.keys import among, values
from mailbot.store.tables import inbox, member
from mailbot.telemetry import emit

WINNING = (Purpose.REGISTRATION, Purpose.HELP, Purpose.BOUNCE, Purpose.POSTMASTER, Purpose.ABUSE, Purpose.NO_REPLY)
"""A DATA with several recipients is one mail with one answer: the first purpose here that one of them serves."""

LOOPS = (Reason.LOOP, Reason.TOO_MANY_RECEIVED)
"""Reasons that staff hear of: something keeps sending."""

CAP_REFRESH_MS = 60_000
GATHER_SECONDS = 0.005


NOTICE_TAG = re.compile(r"[a-z2-7]{8}")
_NOTE = Bulk(any=inbox.insert())
_SEEN = select(inbox.c.society, inbox.c.inbox_key).where(among(inbox.c.society, inbox.c.inbox_key))


TRIES_KEPT = 10_000
SILENT = frozenset({"address", "unproved", "unproved-all", helpdesk.SCOPE})
"""Budgets whose excess is taken over and dropped: one address asks too often, or nobody knows who asks."""


class Vouching(Protocol):
    """What is asked of `mailbot.intake.authentication`."""

    @property
    def binding(self) -> bool: ...

    async def check(self, envelope: Envelope, inbound: Inbound) -> Authentication | None: ...


@dataclass(slots=True)
class _Waiting:
    envelope: Envelope
    inbound: Inbound
    society: str
    purpose: Purpose
    verdict: Verdict
    known: Authentication | None
    key: bytes
    words: Words | None
    """For a help desk."""
    answer: asyncio.Future[Status] = field(repr=False)

    @property
    def sender(self) -> Address:
        """Whom budgets count; there is one wherever something is answered or heard."""
        sender = self.verdict.address or self.inbound.from_address or self.envelope.reverse_path
        assert sender is not None
        return sender


class Reception:
    """Lifetime: one intake role. `receive` may be called from any number of sessions at once."""

    def __init__(self, ctx: Context, batch: int, vouching: Vouching) -> None:
        self._ctx = ctx
        self._vouching = vouching
        self._undecided: dict[bytes, int] = {}
        self._batch = batch
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(maxsize=4 * batch)
        self._closed = False
        self._crowd = 0
        self._gathered = asyncio.Event()
        self._caps: dict[str, tuple[int, Limits]] = {}
        self._own = _own(ctx.settings)
        self._legacy_domains = frozenset(ctx.settings.site.smtp.legacy_domains)
        budgets = self._budgets = ctx.settings.site.budgets
        self._unproved = Limits(hour=budgets.unproved_per_hour, day=budgets.unproved_per_day)
        self._limits = (
            Limits(budgets.address_per_minute, budgets.address_per_hour, budgets.address_per_day),
            Limits(hour=budgets.domain_per_hour),
            Limits(hour=budgets.network_per_hour),
        )

    async def receive(self, envelope: Envelope) -> Status:
        """The answer to the end of DATA. 250 only when everything is committed."""
        inbound = facts(envelope.content, self._legacy_domains)
        society, purpose = self._route(envelope.recipients)
        key = inbox_key(society, purpose, envelope.reverse_path, inbound)
        known = await self._author(envelope, inbound, purpose, key)
        verdict = judge(envelope, inbound, purpose, self._own, known if self._vouching.binding else None)
        if verdict.action is Action.REFUSE:
            emit("mail.refused", society=society, reason=verdict.reason, peer=envelope.peer)
            return verdict.status
        heard = purpose is Purpose.HELP and verdict.reason in HEARD
        waiting = _Waiting(
            envelope,
            inbound,
            society,
            purpose,
            verdict,
            known,
            key,
            words(envelope.content) if heard else None,
            asyncio.get_running_loop().create_future(),
        )
        if self._closed:
            return status.SHUTTING_DOWN
        await self._queue.put(waiting)
        if self._queue.qsize() >= self._crowd:
            self._gathered.set()
        return await waiting.answer

    async def _author(
        self, envelope: Envelope, inbound: Inbound, purpose: Purpose, key: bytes
    ) -> Authentication | None:
        """What is known about the author of a mail that may be answered. Look-ups that failed count against the mail
        itself: after `authentication.tries` its sender is somebody nobody knows."""
        if silence(envelope, inbound, purpose, self._own) is not None:
            return None
        known = await self._vouching.check(envelope, inbound)
        if known is None or not known.undecided:
            return known
        tries = self._undecided.pop(key, 0) + 1
        if tries >= self._ctx.settings.site.authentication.tries:
            return known.settled()
        self._undecided[key] = tries
        if len(self._undecided) > TRIES_KEPT:
            del self._undecided[next(iter(self._undecided))]
        return known

    def _route(self, recipients: Sequence[Address]) -> tuple[str, Purpose]:
        routes = [self._ctx.settings.directory.route(r.local, r.domain) for r in recipients]
        found = {route.purpose: route.society for route in reversed(routes) if route is not None}
        for purpose in WINNING:
            if purpose in found:
                return found[purpose], purpose
        return "", Purpose.POSTMASTER  # the bare <Postmaster> of RFC 5321 section 4.5.1

    async def run(self) -> None:
        """Commits what waits, batch after batch, until cancelled; then what still waits gets 421."""
        crowd = 1
        batch: list[_Waiting] = []
        try:
            while True:
                batch = [await self._queue.get()]
                if crowd > 1:
                    await self._gather(min(crowd, self._batch))
                while len(batch) < self._batch and not self._queue.empty():
                    batch.append(self._queue.get_nowait())
                crowd = len(batch)
                await self._settle(batch)
        finally:
            self._closed = True
            for waiting in batch:
                _reply(waiting, status.SHUTTING_DOWN)
            while not self._queue.empty():
                _reply(self._queue.get_nowait(), status.SHUTTING_DOWN)
                await asyncio.sleep(0)  # lets in who waited for room

    async def _gather(self, crowd: int) -> None:
        """Under load, waits a moment for as many as came last time: a transaction costs as much for one as for ten."""
        self._crowd = crowd - 1
        self._gathered.clear()
        if self._queue.qsize() < self._crowd:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER_SECONDS):
                    await self._gathered.wait()

    async def _settle(self, batch: list[_Waiting]) -> bool:
        """False when the database itself is out."""
        try:
            await self._commit(batch)
        except Exception as error:
            if len(batch) == 1:
                emit("mail.deferred", reason="outage", society=batch[0].society, error=error)
                _reply(batch[0], status.OUTAGE)
                return not isinstance(error, OUTAGES)
            emit("mail.batch-split", mails=len(batch), error=error)
            for place, waiting in enumerate(batch, 1):
                if not await self._settle([waiting]):
                    for other in batch[place:]:  # they would only wait for the same lock, one after the other
                        emit("mail.deferred", reason="outage", society=other.society)
                        _reply(other, status.OUTAGE)
                    return False
        return True

    async def _commit(self, batch: list[_Waiting]) -> None:
        now = max(waiting.envelope.received_at for waiting in batch)
        ctx = self._ctx
        async with ctx.store.begin() as tx:
            answers = await self._work(ctx, tx, batch, now)
        for waiting, answer in zip(batch, answers, strict=True):
            _reply(waiting, answer)
        ctx.store.wake("outbox")

    async def _work(self, ctx: Context, tx: AsyncConnection, batch: list[_Waiting], now: int) -> list[Status]:
        await self._refresh_caps(tx, {w.society for w in batch}, now)
        hits = {id(w): self._hits(w) for w in batch if w.words is not None or w.verdict.action is Action.ANSWER}
        told = {id(w): helpdesk.told(ctx.settings.site, w.society, w.sender) for w in batch if w.words is not None}
        ledger = await Ledger.lock(tx, [hit.key for group in (*hits.values(), *told.values()) for hit in group], now)
        seen = await self._seen(tx, batch)
        paused = await stops.paused(tx)
        answers: list[Status] = []
        rows: list[dict[str, object]] = []
        wanted: list[tuple[_Waiting, dict[str, object]]] = []
        heard: list[tuple[HelpMail, dict[str, object]]] = []
        for waiting in batch:
            if (waiting.society, waiting.key) in seen:
                emit("mail.seen-before", society=waiting.society, reason=Reason.SEEN_BEFORE)
                answers.append(status.OK)
                continue
            verdict = waiting.verdict
            if verdict.action is Action.ANSWER and waiting.society in paused:
                verdict = Verdict(Action.DISCARD, status.OK, Reason.SOCIETY_PAUSED, verdict.address)
            over = None
            if verdict.action is Action.ANSWER or waiting.words is not None:
                over = ledger.allow(hits[id(waiting)])
                if over is not None:
                    verdict = Verdict(Action.DISCARD, status.OK, Reason.OVER_BUDGET, verdict.address)
                    if over.scope not in SILENT:
                        # a posting day must drop nobody: the sender's server will try again
                        text = f"{over.scope} {over.subject}".rstrip() + " is over its cap for this hour: mails get 451"
                        await raise_alarm(tx, waiting.society, f"budget-{over.scope}", text, now)
                        emit("mail.deferred", society=waiting.society, reason=Reason.OVER_BUDGET, scope=over.scope)
                        answers.append(status.OVER_LIMIT)
                        continue
            telling = waiting.words is not None and verdict.action is Action.ANSWER
            if telling and ledger.allow(told[id(waiting)]) is not None:
                verdict = Verdict(Action.DISCARD, status.OK, Reason.ACKNOWLEDGED_BEFORE, verdict.address)
            if verdict.reason in LOOPS:
                await raise_alarm(
                    tx, waiting.society, "mail-loop", f"mail from {waiting.envelope.peer} goes in circles", now
                )
            seen.add((waiting.society, waiting.key))
            row = _row(waiting, verdict)
            rows.append(row)
            answers.append(verdict.status)
            if waiting.words is not None:
                if over is None:
                    heard.append((_help_mail(waiting, waiting.words, verdict), row))
            elif verdict.action is Action.ANSWER and verdict.address is not None:
                wanted.append((waiting, row))
            emit("mail.received", society=waiting.society, reason=verdict.reason, peer=waiting.envelope.peer)
        await ledger.save(tx)
        ids = await request_links(
            ctx,
            tx,
            [
                LinkRequest(w.society, w.verdict.address, w.inbound.message_id, answer=True)
                for w, _ in wanted
                if w.verdict.address is not None
            ],
            now,
        )
        for (_, row), outbox_id in zip(wanted, ids, strict=True):
            row["outbox_id"] = outbox_id
        ids_told = await helpdesk.take(ctx, tx, [one for one, _ in heard], now)
        for (_, row), told_id in zip(heard, ids_told, strict=True):
            row["outbox_id"] = told_id
        if rows:
            # a second robot may have taken the same mail in the meantime: the unique key then fails this batch
            await _NOTE.run(tx, rows)
        return answers

    def _hits(self, waiting: _Waiting) -> list[Hit]:
        society, address = waiting.society, waiting.sender
        if waiting.words is not None:
            network = Hit(society, "network", network_of(waiting.envelope.peer), self._limits[2])
            return [*helpdesk.hits(society, address, self._caps[society][1]), network]
        by_address, by_domain, by_network = self._limits
        if waiting.verdict.tier is Tier.UNPROVED:
            # Budgets of their own: whoever forges senders can use up nothing that proved ones need.
            share = (self._caps[society][1].hour or 0) * self._budgets.unproved_percent // 100
            return [
                Hit(society, "address", address.key, by_address),
                Hit(society, "unproved", address.key, self._unproved),
                Hit(society, "unproved-all", "", Limits(hour=max(1, share))),
            ]
        return [
            Hit(society, "address", address.key, by_address),
            Hit(society, "domain", address.domain, by_domain),
            Hit(society, "network", network_of(waiting.envelope.peer), by_network),
            Hit(society, "society", "", self._caps[society][1]),
        ]

    async def _refresh_caps(self, tx: AsyncConnection, societies: set[str], now: int) -> None:
        """A society's cap follows its roster: members not yet registered, counted at most once a minute."""
        budgets = self._ctx.settings.site.budgets
        for society in societies:
            if society in self._caps and now - self._caps[society][0] < CAP_REFRESH_MS:
                continue
            waiting = await tx.scalar(
                select(func.count()).select_from(member).where(member.c.society == society, member.c.state == "invited")
            )
            cap = max(budgets.society_per_hour_min, (waiting or 0) * budgets.society_per_hour_percent // 100)
            self._caps[society] = (now, Limits(hour=cap))

    async def _seen(self, tx: AsyncConnection, batch: list[_Waiting]) -> set[tuple[str, bytes]]:
        found = await tx.execute(_SEEN, values([(w.society, w.key) for w in batch]))
        return {(society, bytes(key)) for society, key in found}


def _own(settings: Settings) -> OwnAddresses:
    directory = settings.directory
    return OwnAddresses(directory.own_keys(), directory.domains, frozenset({settings.site.site.host.lower()}))


def _help_mail(waiting: _Waiting, said: Words, verdict: Verdict) -> HelpMail:
    doubt = verdict.reason if waiting.verdict.reason is not Reason.ACCEPTED else None
    return HelpMail(
        waiting.society,
        waiting.sender,
        said,
        doubt.value if doubt else "",
        waiting.inbound.message_id,
        acknowledge=verdict.action is Action.ANSWER,
    )


def _row(waiting: _Waiting, verdict: Verdict) -> dict[str, object]:
    envelope, sender = waiting.envelope, waiting.envelope.reverse_path
    return {
        "society": waiting.society,
        "inbox_key": waiting.key,
        "source": envelope.origin,
        "purpose": waiting.purpose.value,
        "received_at": envelope.received_at,
        "address": sender.text if sender else None,
        "address_key": sender.key if sender else None,
        "from_address": waiting.inbound.from_address.text if waiting.inbound.from_address else None,
        "peer": envelope.peer,
        "size": envelope.size,
        "action": verdict.action.value,
        "reason": verdict.reason.value,
        "outbox_id": None,
        "tag": _tag(envelope.recipients),
        "tier": verdict.tier.value if verdict.action is Action.ANSWER else None,
        "authentication": waiting.known.words if waiting.known else None,
    }


def _tag(recipients: Sequence[Address]) -> str | None:
    """What stands behind the + where a printed notice has an address of its own. It decides nothing."""
    tags = (one.local.partition("+")[2].lower() for one in recipients)
    return next((tag for tag in tags if NOTICE_TAG.fullmatch(tag)), None)


def _reply(waiting: _Waiting, answer: Status) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        waiting.answer.set_result(answer)
