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

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Settings
from mailbot.credentials import verp
from mailbot.intake.budgets import ALARMS, CROWDS, SILENT, STRANGERS, Asker, Budgets
from mailbot.intake.lookups import UNANSWERED, LookupTrouble
from mailbot.intake.screening import HEARD, Action, OwnAddresses, Reason, Tier, Verdict, judge, silence
from mailbot.mail import status
from mailbot.mail.address import Address
from mailbot.mail.authentication import Authentication, Source
from mailbot.mail.bodytext import Words, words
from mailbot.mail.envelope import Envelope, Purpose
from mailbot.mail.inbound import Inbound, facts, inbox_key
from mailbot.mail.status import Status
from mailbot.ratelimit import Ledger
from mailbot.registration import bounces, helpdesk, stops
from mailbot.registration.bounces import BounceMail
from mailbot.registration.context import Context
from mailbot.registration.helpdesk import HelpMail
from mailbot.registration.invite import LinkRequest, request_links
from mailbot.store.alarms import Alarm, raise_alarm
from mailbot.store.bulk import Bulk
from mailbot.store.engine import OUTAGES
from mailbot.store.keys import among, values
from mailbot.store.tables import inbox
from mailbot.telemetry import emit

WINNING = (Purpose.REGISTRATION, Purpose.HELP, Purpose.BOUNCE, Purpose.POSTMASTER, Purpose.ABUSE, Purpose.NO_REPLY)
"""A DATA with several recipients is one mail with one answer: the first purpose here that one of them serves."""

LOOPS = (Reason.LOOP, Reason.TOO_MANY_RECEIVED)
"""Reasons that staff hear of: something keeps sending."""

GATHER_SECONDS = 0.005


NOTICE_TAG = re.compile(r"[a-z2-7]{8}")
_NOTE = Bulk(any=inbox.insert())
_SEEN = select(inbox.c.society, inbox.c.inbox_key).where(among(inbox.c.society, inbox.c.inbox_key))


TRIES_KEPT = 10_000
QUIET_MS = 600_000
"""Staff are told again of trouble with look-ups after this at the earliest."""
FAULT = "senders cannot be checked by a fault of ours, so mails get 451: the log has it as mail.unauthenticated"
STORM = "senders whom nothing vouches for are over their share of this hour: they get no answer"


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
    bounce: BounceMail | None
    """For a bounce address."""
    vouched: bool
    """By all that is known of its sender, also where senders are only observed."""
    answer: asyncio.Future[Status] = field(repr=False)

    @property
    def sender(self) -> Address:
        """Whom budgets count; there is one wherever something is answered or heard."""
        sender = self.verdict.address or self.inbound.from_address or self.envelope.reverse_path
        assert sender is not None
        return sender

    @property
    def asker(self) -> Asker:
        # A help desk hears those whom nobody would answer, too.
        proved = self.verdict.action is Action.ANSWER and self.verdict.tier is Tier.PROVED
        return Asker(self.society, self.sender, proved, self.envelope.peer if self.envelope.direct else None)

    @property
    def perhaps_proved(self) -> bool:
        """Nobody vouches for it because look-ups failed: it may be a member's as well."""
        return self.known is not None and self.known.source is Source.GIVEN_UP


class Reception:
    """Lifetime: one intake role. `receive` may be called from any number of sessions at once."""

    def __init__(self, ctx: Context, batch: int, vouching: Vouching) -> None:
        self._ctx = ctx
        self._vouching = vouching
        self._undecided: dict[bytes, int] = {}
        self._lookups = LookupTrouble()
        self._told_at: dict[str, int] = {}
        self._batch = batch
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(maxsize=4 * batch)
        self._closed = False
        self._crowd = 0
        self._gathered = asyncio.Event()
        self._own = _own(ctx.settings)
        self._legacy_domains = frozenset(ctx.settings.site.smtp.legacy_domains)
        self._budgets = Budgets(ctx.settings)

    async def receive(self, envelope: Envelope) -> Status:
        """The answer to the end of DATA. 250 only when everything is committed."""
        inbound = facts(envelope.content, self._legacy_domains)
        society, purpose = self._route(envelope.recipients)
        key = inbox_key(society, purpose, envelope.reverse_path, inbound)
        known = await self._author(envelope, inbound, purpose, key)
        verdict = strict = judge(envelope, inbound, purpose, self._own, known if self._vouching.binding else None)
        if known is not None and not self._vouching.binding:
            strict = judge(envelope, inbound, purpose, self._own, known)
            if (strict.reason, strict.tier) != (verdict.reason, verdict.tier):
                emit("mail.observed", society=society, reason=strict.reason, tier=strict.tier, peer=envelope.peer)
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
            await self._bounce(envelope, society) if purpose is Purpose.BOUNCE else None,
            strict.action is Action.ANSWER and strict.tier is Tier.PROVED,
            asyncio.get_running_loop().create_future(),
        )
        if self._closed:
            return status.SHUTTING_DOWN
        await self._queue.put(waiting)
        if self._queue.qsize() >= self._crowd:
            self._gathered.set()
        return await waiting.answer

    def place(self, envelope: Envelope) -> tuple[str, Purpose, bytes]:
        """Society, purpose and inbox key of a mail: what `receive` will know it by."""
        society, purpose = self._route(envelope.recipients)
        inbound = facts(envelope.content, self._legacy_domains)
        return society, purpose, inbox_key(society, purpose, envelope.reverse_path, inbound)

    async def _author(
        self, envelope: Envelope, inbound: Inbound, purpose: Purpose, key: bytes
    ) -> Authentication | None:
        """What is known about the author of a mail that may be answered. Look-ups that failed count against the mail
        itself: after `authentication.tries` its sender is somebody nobody knows."""
        if silence(envelope, inbound, purpose, self._own) is not None:
            return None
        known, now = await self._vouching.check(envelope, inbound), envelope.received_at
        if known is not None and known.answered:
            self._lookups.answered(now)
        if known is None or not known.undecided:
            return known
        if known.source is Source.FAULT:
            await self._tell(Alarm.AUTHENTICATION, FAULT, now)
        elif inbound.from_address and self._lookups.worth_telling(inbound.from_address.domain, key, now):
            await self._tell(Alarm.DNS, UNANSWERED, now)
        tries = self._undecided.pop(key, 0) + 1
        if tries >= self._ctx.settings.site.authentication.tries:
            return known.settled()
        self._undecided[key] = tries
        if len(self._undecided) > TRIES_KEPT:
            del self._undecided[next(iter(self._undecided))]
        return known

    async def _tell(self, kind: Alarm, text: str, now: int) -> None:
        if now >= self._told_at.get(kind, 0) + QUIET_MS:
            self._told_at[kind] = now
            with contextlib.suppress(*OUTAGES):
                async with self._ctx.store.begin() as tx:
                    await raise_alarm(tx, "", kind, text, now)

    async def _bounce(self, envelope: Envelope, society: str) -> BounceMail:
        """What came to a bounce address; its tag stands behind the + of whichever recipient has one."""
        tags = [one.local.partition("+")[2] for one in envelope.recipients]
        tag = next((one for one in tags if len(one) == verp.TAG_CHARS), "")
        return await asyncio.to_thread(bounces.opened, self._ctx, society, tag, envelope.content)

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
        budgets = self._budgets
        await budgets.refresh(tx, {w.society for w in batch}, now)
        heeded = [(w, w.asker) for w in batch if w.words is not None or w.verdict.action is Action.ANSWER]
        hits = {id(w): budgets.answer(who) if w.words is None else budgets.request(who) for w, who in heeded}
        told = {id(w): budgets.word(who) for w, who in heeded if w.words is not None}
        warnings = {who.society: budgets.warning(who.society) for _, who in heeded if not who.proved}
        every = [hit for group in (*hits.values(), *told.values(), warnings.values()) for hit in group]
        ledger = await Ledger.lock(tx, [hit.key for hit in every], now)
        seen = await self._seen(tx, batch)
        paused = await stops.paused(tx)
        answers: list[Status] = []
        alarms: dict[tuple[str, Alarm], str] = {}
        rows: list[dict[str, object]] = []
        wanted: list[tuple[_Waiting, dict[str, object]]] = []
        heard: list[tuple[HelpMail, dict[str, object]]] = []
        bounced: list[tuple[BounceMail, dict[str, object]]] = []
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
                    unlucky = waiting.perhaps_proved and over.scope in CROWDS
                    if over.scope not in SILENT or unlucky:
                        # a posting day must drop nobody: the sender's server will try again
                        text = f"{over.scope} {over.subject}".rstrip() + " is over its cap for this hour: mails get 451"
                        if unlucky:
                            alarms["", Alarm.DNS] = UNANSWERED
                        else:
                            alarms[waiting.society, ALARMS[over.scope]] = text
                        emit("mail.deferred", society=waiting.society, reason=Reason.OVER_BUDGET, scope=over.scope)
                        answers.append(status.OVER_LIMIT)
                        continue
                    if over.scope == STRANGERS and ledger.allow([warnings[waiting.society]]) is None:
                        alarms[waiting.society, Alarm.BUDGET_UNPROVED] = STORM
            telling = waiting.words is not None and verdict.action is Action.ANSWER
            if telling and ledger.allow(told[id(waiting)]) is not None:
                verdict = Verdict(Action.DISCARD, status.OK, Reason.ACKNOWLEDGED_BEFORE, verdict.address)
            if verdict.reason in LOOPS:
                alarms[waiting.society, Alarm.MAIL_LOOP] = f"mail from {waiting.envelope.peer} goes in circles"
            seen.add((waiting.society, waiting.key))
            row = _row(waiting, verdict)
            rows.append(row)
            answers.append(verdict.status)
            if waiting.words is not None:
                if over is None:
                    heard.append((_help_mail(waiting, waiting.words, verdict), row))
            elif verdict.action is Action.ANSWER and verdict.address is not None:
                wanted.append((waiting, row))
            elif waiting.bounce is not None:
                bounced.append((waiting.bounce, row))
                continue
            emit("mail.received", society=waiting.society, reason=verdict.reason, peer=waiting.envelope.peer)
        await ledger.save(tx)
        for (society, kind), text in sorted(alarms.items()):  # one a batch; in order, for the rows are locks
            await raise_alarm(tx, society, kind, text, now)
        taken = await bounces.take(ctx, tx, [one for one, _ in bounced], now)
        asked = [(w.society, w.verdict.address, w) for w, _ in wanted if w.verdict.address is not None]
        requests = [
            LinkRequest(society, author, w.inbound.message_id, answer=True, proved=w.vouched)
            for society, author, w in asked
        ]
        ids = await request_links(ctx, tx, requests, now)
        for (_, row), outbox_id in zip(wanted, ids, strict=True):
            row["outbox_id"] = outbox_id
        ids_told = await helpdesk.take(ctx, tx, [one for one, _ in heard], now)
        for (_, row), told_id in zip(heard, ids_told, strict=True):
            row["outbox_id"] = told_id
        for (_, row), one in zip(bounced, taken, strict=True):
            row["reason"], row["outbox_id"] = one.reason.value, one.outbox_id
            emit("mail.received", society=row["society"], reason=one.reason, peer=row["peer"])
        if rows:
            # a second robot may have taken the same mail in the meantime: the unique key then fails this batch
            await _NOTE.run(tx, rows)
        await bounces.tell(ctx, tx, taken, now)
        return answers

    async def _seen(self, tx: AsyncConnection, batch: list[_Waiting]) -> set[tuple[str, bytes]]:
        found = await tx.execute(_SEEN, values([(w.society, w.key) for w in batch]))
        return {(society, bytes(key)) for society, key in found}


def _own(settings: Settings) -> OwnAddresses:
    directory = settings.directory
    boxes = (address for mailbox in settings.site.imap.values() for address in mailbox.addresses)
    shared = {address.rpartition("@")[2].lower() for address in boxes}  # a provider's, or where members work
    return OwnAddresses(
        directory.own_keys(), directory.domains - shared, frozenset({settings.site.site.host.lower()})
    )


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
