"""What happened to one member, or to the mail of one address: what a clerk needs while somebody is on the phone.

Only facts that rows hold. That a link's page was opened is none of them: reading a page writes nothing, so the first
trace is the journey begun behind it. What was purged (`[retention]`) is gone from here as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot.config import Society
from mailbot.delivery.suppression import Source
from mailbot.letters import LETTERS
from mailbot.mail.address import Address, AddressError, parse_typed, stored
from mailbot.mail.causes import Cause
from mailbot.registration import people
from mailbot.registration.context import Context
from mailbot.store.tables import (
    address,
    attempt,
    audit,
    consent,
    help_request,
    imap_message,
    inbox,
    journey,
    link,
    member,
    notice_batch,
    notice_letter,
    outbox,
    pin_login,
    roster_batch,
    roster_change,
    suppression,
    temporary,
)

from . import reasons, replies

LIMIT = 200
"""Newest rows of one table that are read."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened. `event` is a word for programs, `what` a Japanese sentence. `reason`: why a mail ended
    as it did, or why mail does not reach an address (a `Cause`, or "staff"); `purpose`: of the address of ours that a
    mail came to; `mail`: the id of one that went out."""

    at: int
    event: str
    what: str
    reason: str = ""
    purpose: str = ""
    mail: int | None = None


@dataclass(frozen=True)
class _Who:
    society: Society
    id: int
    row: Any
    keys: frozenset[str]
    """Keys of addresses that are this member's: proved, invited in a journey, linked, on file."""
    texts: frozenset[str]
    """The same as they are spelt."""

    @property
    def lowered(self) -> list[str]:
        """Finds columns that hold addresses and no keys; what is found may still be somebody else's."""
        return sorted({key.lower() for key in self.keys})

    def of(self, table: Any) -> ColumnElement[bool]:
        return and_(table.c.society == self.society.id, table.c.member_id == self.id)


async def timeline(ctx: Context, society: Society, member_id: int) -> list[Moment] | None:
    """Oldest first; None when there is no such member."""
    o = outbox.c
    async with ctx.store.scan() as tx:
        who = await _who(ctx, tx, society, member_id)
        if who is None:
            return None
        anybody = and_(o.member_id.is_(None), o.recipient.in_(who.texts))
        found = [
            *await _roster(tx, who),
            *await _letters(tx, who),
            *await _incoming(tx, who),
            *await _kept_back(tx, who),
            *await _outgoing(tx, who, or_(o.member_id == who.id, anybody)),
            *await _unreached(tx, who),
            *await _links(tx, who),
            *await _journeys(tx, who),
            *await _logins(tx, who),
            *await _consents(tx, who),
            *await _audit(tx, who),
        ]
    return sorted(found, key=lambda moment: moment.at)


async def of_address(ctx: Context, society: Society, given: Address) -> list[Moment]:
    """What came from an address, what went to it and what is known of it, whoever has it; newest first. Nobody hears
    capitals on the phone: every spelling is found, also where the domain may tell them apart."""
    i = inbox.c
    columns = (outbox.c.recipient, i.address, i.from_address, imap_message.c.address, suppression.c.address)
    async with ctx.store.scan() as tx:
        texts = frozenset({given.text, *await _spellings(tx, society, given, (*columns, help_request.c.address))})
        who = _Who(society, 0, None, frozenset(stored(text).key for text in texts), texts)
        found = [
            *await _incoming(tx, who),
            *await _kept_back(tx, who),
            *await _outgoing(tx, who, outbox.c.recipient.in_(who.texts)),
            *await _unreached(tx, who),
        ]
    return sorted(found, key=lambda moment: moment.at)[::-1]


async def _spellings(tx: AsyncConnection, society: Society, given: Address, columns: Sequence[Any]) -> set[str]:
    """As `given` is spelt in these columns."""
    found: set[str] = set()
    for column in columns:
        mine = (column.table.c.society == society.id, func.lower(column) == given.text.lower())
        found |= set(await tx.scalars(select(column).where(*mine).distinct()))
    return found


async def _who(ctx: Context, tx: AsyncConnection, society: Society, member_id: int) -> _Who | None:
    mine = (member.c.society == society.id, member.c.id == member_id)
    row = (await tx.execute(select(member).where(*mine))).first()
    if row is None:
        return None
    texts = {people.open_person(ctx.ring, row.sealed, society.id, member_id).address}
    for table, column in ((address, "address"), (link, "address"), (journey, "address"), (outbox, "recipient")):
        where = (table.c.society == society.id, table.c.member_id == member_id)
        texts |= set(await tx.scalars(select(table.c[column]).where(*where).distinct()))
    texts -= {"", None}
    return _Who(society, member_id, row, frozenset(filter(None, map(_key, texts))), frozenset(texts))


def _key(text: str) -> str:
    try:
        return parse_typed(text).key
    except AddressError:
        return ""


async def _newest(tx: AsyncConnection, statement: Any, at: Any) -> Sequence[Any]:
    return (await tx.execute(statement.order_by(at.desc()).limit(LIMIT))).all()


# --- roster and letters -----------------------------------------------------------------------------------------------

_CHANGES = {"joined": "名簿に加わった", "changed": "名簿の記載が変わった", "left": "名簿からなくなった（資格喪失）"}


async def _roster(tx: AsyncConnection, who: _Who) -> list[Moment]:
    c, b = roster_change.c, roster_batch.c
    statement = (
        select(b.at, c.kind)
        .join(roster_batch, and_(b.society == c.society, b.id == c.batch_id))
        .where(who.of(roster_change), b.state == "live")
    )
    found = [Moment(row.at, f"roster-{row.kind}", _CHANGES[row.kind]) for row in await _newest(tx, statement, b.at)]
    if not any(one.event == "roster-joined" for one in found):
        found.append(Moment(who.row.created_at, "roster-joined", _CHANGES["joined"]))
    return found


_LETTER_ENDS = {
    "used": "仮ログインIDと仮パスワードが、登録に使われて終わった",
    "revoked": "仮ログインIDと仮パスワードが取り消された",
    "dead": "仮パスワードの間違いが重なり、使えなくなった",
}


async def _letters(tx: AsyncConnection, who: _Who) -> list[Moment]:
    found = []
    for row in await _newest(tx, select(temporary).where(who.of(temporary)), temporary.c.created_at):
        found.append(Moment(row.created_at, "letter-made", "仮ログインIDと仮パスワードが作られた"))
        if row.ended_at is not None and row.state in _LETTER_ENDS:
            found.append(Moment(row.ended_at, f"letter-{row.state}", _LETTER_ENDS[row.state]))
    n, b = notice_letter.c, notice_batch.c
    printed = (
        select(b.at, b.paper, n.sheet)
        .join(notice_batch, and_(b.society == n.society, b.id == n.batch_id))
        .where(who.of(notice_letter), b.state == "printed")
    )
    papers = {"a4": "A4", "postcard": "はがき"}
    for number, row in enumerate(reversed(await _newest(tx, printed, b.at))):
        again = "もう一度" if number else ""
        what = f"お知らせが{again}印刷された（{papers.get(row.paper, row.paper)}、{row.sheet}枚目）"
        found.append(Moment(row.at, "letter-reprinted" if number else "letter-printed", what))
    return found


# --- mails ------------------------------------------------------------------------------------------------------------

_INCOMING = {
    "registration": "空メール",
    "help": "問い合わせのメール",
    "no-reply": "送信専用アドレスへのメール",
    "bounce": "返信不可のアドレスへのメール",
}


async def _incoming(tx: AsyncConnection, who: _Who) -> list[Moment]:
    if not who.keys:
        return []
    i, h = inbox.c, help_request.c
    wrote = or_(i.address_key.in_(who.keys), func.lower(i.from_address).in_(who.lowered))
    columns = (i.received_at, i.purpose, i.address, i.address_key, i.from_address, i.action, i.reason)
    rows = await _newest(tx, select(*columns).where(i.society == who.society.id, wrote), i.received_at)
    found = [
        Moment(
            row.received_at,
            "mail-in",
            f"{_INCOMING.get(row.purpose, 'メール')}が {_sender(row)} から届いた"
            f"（{_answered(row.action, row.reason)}）",
            row.reason,
            row.purpose,
        )
        for row in rows
        if row.address_key in who.keys or stored(row.from_address).key in who.keys
    ]
    asked = select(h.done_at).where(h.society == who.society.id, h.address_key.in_(who.keys), h.done_at.is_not(None))
    found += [
        Moment(row.done_at, "help-done", "問い合わせが対応済みになった") for row in await _newest(tx, asked, h.done_at)
    ]
    return found


def _sender(row: Any) -> str:
    """Who stands in From, and who sent it where that is somebody else."""
    author, sender = row.from_address, row.address
    if author is None or stored(author).key == row.address_key:
        return str(sender)
    return f"{author}（送信元は {sender}）" if sender else f"{author}（送信元のアドレスなし）"


def _answered(action: str, reason: str) -> str:
    return "返信する" if action == "answer" else f"返信しない: {reasons.why(reason)}"


_KEPT_BACK = {
    "too-old": "届いたのが古いので、返信しない",
    "renumbered": "届いたのが古いので、返信しない",
    "refused": "送信元を確かめられないので、返信しない",
}


async def _kept_back(tx: AsyncConnection, who: _Who) -> list[Moment]:
    """Mails in a mailbox elsewhere that were not taken: they wait, or are left to staff."""
    c = imap_message.c
    mine = (c.society == who.society.id, func.lower(c.address).in_(who.lowered), c.state.in_(("waiting", "ignored")))
    found = []
    for row in await _newest(tx, select(imap_message).where(*mine), c.arrived_at):
        waits = row.state == "waiting"
        words = "まだ受け付けられず、あとでもう一度試す" if waits else _KEPT_BACK.get(row.reason)
        if words and stored(row.address).key in who.keys:
            event, what = f"mailbox-{row.state}", f"メールが {row.address} からメールボックスに届いた（{words}）"
            found.append(Moment(row.arrived_at or row.at, event, what))
    return found


async def _outgoing(tx: AsyncConnection, who: _Who, theirs: ColumnElement[bool]) -> list[Moment]:
    o, a = outbox.c, attempt.c
    statement = select(outbox).where(o.society == who.society.id, theirs)
    mails = {row.id: row for row in await _newest(tx, statement, o.created_at)}
    found = []
    for row in mails.values():
        name = f"「{_title(row.letter)}」（{row.recipient}）"
        found.append(Moment(row.created_at, "mail-queued", f"{name}を用意した", mail=row.id))
        if row.settled_at is not None and row.state not in ("delivered", "failed"):
            words = replies.ended(row.state, row.reason, row.recipient)
            ended = row.reason or ""
            found.append(Moment(row.settled_at, f"mail-{row.state}", f"{name}: {words}", ended, mail=row.id))
        elif row.state == "held":
            words = replies.ended("held", row.reason, row.recipient)
            found.append(Moment(row.next_attempt_at, "mail-held", f"{name}: {words}", mail=row.id))
    tries = select(attempt).where(a.society == who.society.id, a.outbox_id.in_(list(mails)))
    for row in await _newest(tx, tries, a.at):
        mail = mails[row.outbox_id]
        words = replies.plain(row.outcome, row.relay_reply, mail.recipient)
        what = f"「{_title(mail.letter)}」（{mail.recipient}）: {words}"
        cause = replies.cause_of(row.outcome, row.relay_reply, mail.recipient)
        found.append(Moment(row.at, f"mail-{row.outcome}", what, cause, mail=mail.id))
    return found


_UNREACHED = "（本人のものと確かめられた空メールが届くか、確認のメールが開かれるまで、送りません）"


async def _unreached(tx: AsyncConnection, who: _Who) -> list[Moment]:
    """What is known of the member's addresses, and proofs that ended."""
    s, a = suppression.c, address.c
    known = select(suppression).where(s.society == who.society.id, s.address_key.in_(who.keys))
    found = []
    for row in await _newest(tx, known, s.last_at):
        rest = _UNREACHED if row.cause == Cause.UNKNOWN_USER else ""
        told = "へのメール" if row.cause == Cause.COMPLAINT else "へのメールが届かない"
        what = f"{row.address} {told}: {replies.known_words(row.cause, row.source, row.address)}{rest}"
        cause = row.source if row.source == Source.STAFF else replies.seems(row.cause, row.address)
        found.append(Moment(row.last_at, f"address-{row.cause}", what, cause))
    ended = select(a.address, a.unreachable_at).where(who.of(address), a.unreachable_at.is_not(None))
    for row in await _newest(tx, ended, a.unreachable_at):
        what = f"{row.address} は届かないため、本人の確認（再発行など）に使えなくなった"
        found.append(Moment(row.unreachable_at, "address-unreachable", what))
    return found


def _title(letter: str) -> str:
    return LETTERS[letter].title if letter in LETTERS else letter


# --- links, journeys, logins ------------------------------------------------------------------------------------------

_PURPOSES = {
    "registration": "登録のリンク",
    "reissue": "再発行のリンク",
    "address-proof": "メールアドレス確認のリンク",
    "mailed-link": "登録を続けるリンク",
}


async def _links(tx: AsyncConnection, who: _Who) -> Iterator[Moment]:
    """Links for the member, and registration links that the member's journeys went through (they name nobody)."""
    c = link.c
    through = select(journey.c.link_id).where(who.of(journey), journey.c.link_id.is_not(None))
    statement = select(link).where(c.society == who.society.id, or_(c.member_id == who.id, c.id.in_(through)))
    return _link_moments(await _newest(tx, statement, c.created_at))


def _link_moments(rows: Sequence[Any]) -> Iterator[Moment]:
    for row in rows:
        if row.purpose not in _PURPOSES:
            continue
        name = f"{_PURPOSES[row.purpose]}（{row.address}）"
        if row.purpose == "reissue":
            yield Moment(row.created_at, "reissue-requested", f"再発行の申し込みを受けた（{row.address}）")
        if row.spent_at is not None:
            yield Moment(row.spent_at, "link-used", f"{name}が使われた")
        elif row.revoked_at is not None:
            yield Moment(row.revoked_at, "link-revoked", f"{name}が無効になった")


async def _journeys(tx: AsyncConnection, who: _Who) -> list[Moment]:
    found = []
    for row in await _newest(tx, select(journey).where(who.of(journey)), journey.c.started_at):
        if row.name not in who.society.journeys:
            found.append(Moment(row.started_at, "reissue-begun", "再発行の画面で本人の確認を通った"))
            continue
        steps = len(json.loads(row.steps))
        found.append(Moment(row.started_at, "journey-begun", "登録の手続きを始めた（本人の確認を通った）"))
        if row.done_at is None:
            at = f"{row.position + 1}/{steps}番目の画面まで" if row.position >= 0 else "間違いが重なって終わった"
            found.append(Moment(row.expires_at, "journey-ends", f"その手続きの期限。完了していない（{at}）"))
    return found


async def _logins(tx: AsyncConnection, who: _Who) -> list[Moment]:
    times = {who.row.last_login_at, who.row.previous_login_at} - {None}
    found = [Moment(at, "login", "ログインした") for at in times]
    for row in await _newest(tx, select(pin_login).where(who.of(pin_login)), pin_login.c.created_at):
        again = f"（{row.sends}回目）" if row.sends > 1 else ""
        found.append(Moment(row.sent_at, "pin-sent", f"パスワードが合い、暗証キーのメールを用意した{again}"))
        if row.failures:
            found.append(Moment(row.sent_at, "pin-wrong", f"その暗証キーの入力が{row.failures}回違った"))
        if row.ended_at is not None:
            found.append(Moment(row.ended_at, "pin-passed", "暗証キーが合った"))
    return found


async def _consents(tx: AsyncConnection, who: _Who) -> list[Moment]:
    titles = {one.id: one.title for one in who.society.consents}
    return [
        Moment(row.agreed_at, "consent", f"「{titles.get(row.text_id, row.text_id)}」（{row.version}版）に同意した")
        for row in await _newest(tx, select(consent).where(who.of(consent)), consent.c.agreed_at)
    ]


# --- what the audit record says ---------------------------------------------------------------------------------------

_AUDITED = {
    "registered": "利用登録が完了した",
    "password-changed": "パスワードを変更した",
    "password-reissued": "再発行の手続きでパスワードを変えた",
    "reissue-needs-staff": "再発行の申し込みがあったが、メールだけでは進められず、窓口への連絡をお願いした",
    "reissue-link-revoked": "再発行の画面で生年月日の間違いが重なり、リンクが使えなくなった",
    "profile-changed": "プロフィール（ログインIDかメールアドレス）を変更した",
    "address-proved": "新しいメールアドレスが確認された",
    "letter-paused": "仮パスワードの間違いが重なり、仮ログインが一時停止した",
    "journey-tries-used-up": "認証キーなどの間違いが重なり、手続きが終わった",
    "pin-locked": "暗証キーの間違いが重なり、ログインが止まった",
    "completion-undelivered": "登録完了のメールを届けられなかった",
    "credentials-undelivered": "仮のIDとパスワードのメールを届けられなかった",
    "help-shown": "係員がこの方のアドレスからの問い合わせを読んだ",
    "address-corrected": "係員が新しいメールアドレスへ確認のメールを送った",
    "registration-reset": "係員が利用登録を取り消した",
    "member-unlocked": "係員が一時停止を解除した",
    "member-renotified": "係員がメールをもう一度送った",
    "member-revealed": "係員がこの方の情報を表示した",
    "notices-revoked": "係員がお知らせの仮パスワードを取り消した",
}


async def _audit(tx: AsyncConnection, who: _Who) -> list[Moment]:
    found = []
    for row in await _newest(tx, select(audit).where(who.of(audit)), audit.c.number):
        by = f"（{row.actor}）" if row.actor not in ("member", "system") else ""
        found.append(Moment(row.at, row.event, _AUDITED.get(row.event, f"記録: {row.event}") + by))
    return found
