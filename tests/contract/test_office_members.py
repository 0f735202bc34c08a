"""What staff do for one member, on both databases."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update

from mailbot.delivery import outbox as queue
from mailbot.delivery import suppression
from mailbot.delivery.mails import Settlement
from mailbot.delivery.outbox import Lane, NewMail
from mailbot.delivery.suppression import Note, Source
from mailbot.intake.screening import Reason
from mailbot.mail.address import parse_typed
from mailbot.mail.causes import Cause
from mailbot.mail.status import Outcome, OutcomeKind, Status
from mailbot.office.export import export
from mailbot.office.members import correct_address
from mailbot.office.nextstep import next_step
from mailbot.office.reasons import REASONS
from mailbot.office.renotify import NotSent, Sent, renotify
from mailbot.office.sheet import Encoding
from mailbot.office.timeline import Moment, of_address, timeline
from mailbot.registration import formula, login, mailfacts, people
from mailbot.registration.outcomes import Refused
from mailbot.registration.reset import LETTER, reset
from mailbot.registration.steps.temporary_login import printed_password
from mailbot.registration.unlock import Lifted, unlock
from mailbot.store import new_id
from mailbot.store.tables import (
    address,
    audit,
    budget,
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
    session,
    temporary,
)
from tests.support.factory import HOUR, MINUTE, NETWORK, NOW, Joined, World, settings

ACTOR = "cli:sato"
FULL = Outcome(OutcomeKind.FAILED, Status(552, "5.2.2", "mailbox full"), "relay:25")
LATER = Outcome(OutcomeKind.DEFERRED, Status(451, "4.7.1", "greylisted"), "relay:25")
TAKEN = Outcome(OutcomeKind.DELIVERED, Status(250, "2.0.0", "queued"), "relay:25")
OTHER = "198.51.100.0/24"


async def registered(here: World, society: str = "yokokou", login_id: str = "hanako-one", **more: Any) -> Joined:
    who = await here.join(society, **more)
    await here.register(who, login_id)
    return who


async def settle(here: World, letter: str, outcome: Outcome) -> None:
    """What the relay answers to the mails of this kind that wait."""
    async with here.ctx.store.begin() as tx:
        claimed = [mail for mail in await queue.claim(tx, here.now, 50) if mail.letter == letter]
        settled = await queue.settle(tx, [Settlement(mail, outcome) for mail in claimed], here.now)
        await mailfacts.mail_settled(here.ctx, tx, settled, here.now)


async def events(here: World, who: Joined) -> list[Moment]:
    found = await timeline(here.ctx, who.society, who.id)
    assert found is not None
    assert [one.at for one in found] == sorted(one.at for one in found)
    return found


async def put_link(here: World, who: Joined, purpose: str, ends: int) -> int:
    link_id = new_id()
    row = {"society": who.society.id, "id": link_id, "purpose": purpose, "member_id": who.id, "kid": 0}
    where = {"address": "a@docomo.ne.jp", "address_key": "a@docomo.ne.jp"}
    async with here.ctx.store.begin() as tx:
        await tx.execute(insert(link).values(**row, **where, created_at=here.now, expires_at=ends))
    return link_id


async def test_the_timeline_tells_the_way_from_the_letter_to_the_login(here: World) -> None:
    who = await here.join("yokokou")
    here.now += HOUR
    link_id = await here.link("yokokou", "hanako@docomo.ne.jp")
    await settle(here, "invitation", LATER)
    here.now += 2 * MINUTE
    await settle(here, "invitation", TAKEN)
    assert [one.event for one in await events(here, who)] == ["roster-joined", "letter-made"]  # nobody knows who wrote
    begun = await here.begin(who, link_id)
    here.now += MINUTE
    await here.submit(who, begun, "hanako-one")
    await settle(here, "completion", TAKEN)
    here.now += MINUTE
    await here.log_in(who, "hanako-one")
    found = await events(here, who)
    order = ["mail-queued", "mail-deferred", "mail-delivered", "journey-begun", "link-used", "login"]
    seen = [one.event for one in found]
    assert [name for name in dict.fromkeys(seen) if name in order] == order
    assert {"letter-used", "registered"} <= set(seen)
    words = {one.event: one.what for one in found}
    deferred = "いまは受け取られませんでした。あとでもう一度送ります（451 4.7.1）"
    assert words["mail-deferred"] == f"「利用登録手続きのご案内」（hanako@docomo.ne.jp）: {deferred}"
    assert all(who.password not in one.what and who.login_id not in one.what for one in found)
    assert await timeline(here.ctx, who.society, 17) is None
    assert await timeline(here.ctx, here.society("shochiku"), who.id) is None


async def test_the_timeline_tells_of_paper_pins_help_and_rosters(here: World) -> None:
    who = await registered(here)
    mine, at = {"society": "yokokou", "member_id": who.id}, here.now
    batches, key = (new_id(), new_id()), "hanako@docomo.ne.jp"
    counts = {"joined": 0, "changed": 1, "left": 0, "same": 0}
    rows: list[tuple[Any, dict[str, Any]]] = [
        *((notice_batch, {"society": "yokokou", "id": one, "at": at + n, "actor": ACTOR, "paper": "a4",
                          "per": "person", "sheets": 9, "file_digest": b"x", "state": "printed"})
          for n, one in enumerate(batches)),
        *((notice_letter, {**mine, "batch_id": one, "sheet": 3, "temporary_id": who.letter, "generation": 0})
          for one in batches),
        (roster_batch, {"society": "yokokou", "id": 7, "at": at + 2, "actor": ACTOR, "file_digest": b"x",
                        "partial": False, "state": "live", **counts}),
        (roster_change, {**mine, "batch_id": 7, "kind": "changed"}),
        (pin_login, {**mine, "id": 8, "proof_hash": b"x", "kid": 0, "digits": 6, "scope": "member", "failures": 2,
                     "sends": 2, "sent_at": at + 3, "created_at": at, "pin_expires_at": at, "expires_at": at + 4,
                     "ended_at": at + 4}),
        (help_request, {"society": "yokokou", "id": 9, "received_at": at, "address": key, "address_key": key,
                        "sealed": b"x", "state": "done", "done_at": at + 5}),
        (inbox, {"society": "yokokou", "inbox_key": b"x", "source": "smtp", "purpose": "help", "received_at": at + 4,
                 "address": key, "address_key": key, "peer": "x", "size": 1, "action": "discard",
                 "reason": "over-budget"}),
    ]  # fmt: skip
    async with here.ctx.store.begin() as tx:
        for table, row in rows:
            await tx.execute(insert(table).values(**row))
    found = {one.event: one.what for one in await events(here, who)}
    assert found["letter-printed"] == "お知らせが印刷された（A4、3枚目）"
    assert found["letter-reprinted"] == "お知らせがもう一度印刷された（A4、3枚目）"
    assert found["roster-changed"] == "名簿の記載が変わった"
    assert found["pin-sent"] == "パスワードが合い、暗証キーのメールを用意した（2回目）"
    assert (found["pin-wrong"], found["pin-passed"]) == ("その暗証キーの入力が2回違った", "暗証キーが合った")
    assert found["mail-in"] == f"問い合わせのメールが {key} から届いた（返信しない: 短いあいだの数の上限を超えた）"
    assert found["help-done"] == "問い合わせが対応済みになった"


async def test_the_mail_of_an_address_nobody_knows_is_found_newest_first(here: World) -> None:
    given = parse_typed("Mi.chi@phone.example")
    society = here.society("yokokou")
    entry = society.addresses.registration

    async def at() -> tuple[list[str], str]:
        found = await of_address(here.ctx, society, given)
        assert [one.at for one in found] == sorted((one.at for one in found), reverse=True)
        return [f"{one.event} {one.what}" for one in found], next_step(society, found)

    async def came(key: bytes, **row: Any) -> None:
        here.now += MINUTE
        facts = {"society": "yokokou", "inbox_key": key, "source": "smtp", "purpose": "registration", "peer": "x",
                 "size": 1, "received_at": here.now, "address": given.text, "address_key": given.key}  # fmt: skip
        async with here.ctx.store.begin() as tx:
            await tx.execute(insert(inbox).values(**{**facts, **row}))

    assert (await at())[0] == []
    assert f"（正しいあて先は {entry}）" in (await at())[1]
    sent_by = {"address": "srs0=x@list.example", "address_key": "srs0=x@list.example"}
    other = {"from_address": "mi.chi@other.example"}
    await came(b"o", **sent_by, **other, action="discard", reason="sender-mismatch")
    await came(b"1", **sent_by, from_address=given.text, action="discard", reason="sender-mismatch")
    (line,), todo = await at()
    why = "差出人と実際の送信元が違い、ご本人のメールと確かめられない"
    sender = "Mi.chi@phone.example（送信元は srs0=x@list.example）"
    assert line == f"mail-in 空メールが {sender} から届いた（返信しない: {why}）"
    assert todo == REASONS[Reason.SENDER_MISMATCH].todo
    await came(b"2", from_address=given.text, action="answer", reason="accepted")
    await here.link("yokokou", given.text)
    lines, todo = await at()
    assert [one.partition(" ")[0] for one in lines] == ["mail-queued", "mail-in", "mail-in"]
    assert todo.startswith("順番に送り直しています")
    await settle(here, "invitation", TAKEN)
    lines, todo = await at()
    assert lines[0].startswith("mail-delivered 「利用登録手続きのご案内」")
    assert todo.startswith("迷惑メールのフォルダ")
    async with here.ctx.store.begin() as tx:
        note = Note("yokokou", given, Cause.UNKNOWN_USER, Source.RELAY, "550 5.1.1")
        await suppression.note(tx, [note], here.now + MINUTE)
        row = {"mailbox": "post", "uidvalidity": 1, "society": "yokokou", "address": given.text, "at": here.now}
        for uid, state, reason in ((1, "waiting", "4.7.1"), (2, "ignored", "too-old"), (3, "ignored", "history")):
            await tx.execute(insert(imap_message).values(**row, uid=uid, state=state, reason=reason, arrived_at=uid))
    lines, todo = await at()
    assert lines[0].startswith("address-unknown-user Mi.chi@phone.example へのメールが届かない")
    assert todo.startswith("このアドレスには何も送りません。アドレスを一字ずつ")
    assert todo.endswith(f"{entry} へもう一度空メールを送っていただきます。")
    assert [one.partition(" ")[0] for one in lines[-2:]] == ["mailbox-ignored", "mailbox-waiting"]
    assert await of_address(here.ctx, here.society("shochiku"), given) == []


async def test_why_a_mail_of_an_address_ended_and_what_it_came_to(here: World) -> None:
    given, carrier = parse_typed("michi@phone.example"), parse_typed("michi@docomo.ne.jp")
    facts = {"society": "yokokou", "source": "smtp", "purpose": "bounce", "peer": "x", "size": 1, "action": "discard",
             "reason": "automatic-reply", "received_at": here.now, "inbox_key": b"1"}  # fmt: skip
    async with here.ctx.store.begin() as tx:
        await tx.execute(insert(inbox).values(**facts, address=given.text, address_key=given.key))
        await suppression.note(tx, [Note("yokokou", carrier, Cause.UNKNOWN_USER, Source.RELAY, "")], here.now)
        await suppression.note(tx, [Note("yokokou", carrier, Cause.FULL, Source.STAFF, "")], here.now)
    await here.link("yokokou", given.text)
    await settle(here, "invitation", FULL)
    await here.link("yokokou", given.text)
    async with here.ctx.store.begin() as tx:
        row = {"state": "cancelled", "reason": "suppressed", "settled_at": here.now}
        await tx.execute(update(outbox).where(outbox.c.state == "queued").values(row))

    async def reasons(address: Any) -> set[tuple[str, str]]:
        return {(one.event, one.reason) for one in await of_address(here.ctx, here.society("yokokou"), address)}

    ended = {("mail-failed", "full"), ("mail-cancelled", "suppressed")}
    assert await reasons(given) == ended | {("mail-queued", ""), ("mail-in", "automatic-reply")}
    assert await reasons(carrier) == {("address-unknown-user", "filtered"), ("address-full", "staff")}
    (came,) = [one for one in await of_address(here.ctx, here.society("yokokou"), given) if one.event == "mail-in"]
    assert came.what.startswith(f"返信不可のアドレスへのメールが {given.text} から届いた")
    assert came.purpose == "bounce"


async def test_capitals_that_nobody_hears_and_a_sender_without_address(here: World) -> None:
    society, other = here.society("yokokou"), parse_typed("michi@phone.example")
    spelt = parse_typed("Michi@phone.example")  # this domain may tell them apart
    facts = {"society": "yokokou", "source": "smtp", "purpose": "registration", "peer": "x", "size": 1,
             "received_at": here.now, "action": "discard", "reason": "null-sender"}  # fmt: skip
    row = {"mailbox": "post", "uidvalidity": 1, "uid": 1, "society": "yokokou", "address": spelt.text, "at": here.now}
    async with here.ctx.store.begin() as tx:
        await tx.execute(insert(inbox).values(**facts, inbox_key=b"1", address=spelt.text, address_key=spelt.key))
        await tx.execute(insert(inbox).values(**facts, inbox_key=b"2", from_address=spelt.text))
        await tx.execute(insert(imap_message).values(**row, state="waiting", arrived_at=here.now))
        await suppression.note(tx, [Note("yokokou", spelt, Cause.COMPLAINT, Source.FEEDBACK, "")], here.now)
    found = sorted(one.what.partition("（返信しない")[0] for one in await of_address(here.ctx, society, other))
    assert found == [
        "Michi@phone.example へのメール: 迷惑メールとして報告されました",
        "メールが Michi@phone.example からメールボックスに届いた（まだ受け付けられず、あとでもう一度試す）",
        "空メールが Michi@phone.example から届いた",
        "空メールが Michi@phone.example（送信元のアドレスなし） から届いた",
    ]


async def test_the_timeline_of_another_member_is_another(here: World) -> None:
    who = await registered(here)
    other = await here.join("yokokou")
    assert [one.event for one in await events(here, other)] == ["roster-joined", "letter-made"]
    assert len(await events(here, who)) > 5


async def test_a_reset_leaves_nothing_of_the_registration_but_its_history(here: World) -> None:
    who = await registered(here, nickname="はなちゃん")
    token = await here.log_in(who, "hanako-one")
    async with here.ctx.store.begin() as tx:
        await tx.execute(
            insert(address).values(
                society="yokokou",
                member_id=who.id,
                slot=2,
                address="b@example.jp",
                address_key="b@example.jp",
                proved_at=here.now,
            )
        )
        await tx.execute(
            insert(consent).values(
                society="yokokou", member_id=who.id, text_id="terms", version="1", digest=b"x", agreed_at=here.now
            )
        )
        await tx.execute(update(member).values(choices='{"wanted":{"news":true}}', pin_failures=7))
    await put_link(here, who, "reissue", here.now + HOUR)
    assert isinstance(await login.log_in(here.ctx, who.society, "hanako-one", "wrong", OTHER, here.now), Refused)
    here.now += MINUTE

    done = await reset(here.ctx, who.society, who.id, actor=ACTOR, now=here.now)
    assert done is not None
    assert set(done.told) == {"hanako@docomo.ne.jp", "b@example.jp"}
    assert (done.formula, done.left) == (False, False)
    (row,) = await here.rows(select(member))
    gone = (row.login_id, row.login_key, row.password_hash, row.registered_at, row.last_login_at, row.login_opens_at)
    assert gone == (None,) * 6
    assert (row.state, row.choices, row.pin_failures, row.login_kind) == ("invited", "{}", 0, "chosen")
    place = ("yokokou", "member", "sealed_nickname", who.id)
    assert people.open_text(here.ctx.ring, row.sealed_nickname, *place) == "はなちゃん"
    assert await here.count(address) == await here.count(session) == 0
    assert await here.count(consent) == 1
    assert await here.count(link, link.c.member_id == who.id, link.c.revoked_at.is_(None)) == 0
    assert await here.count(journey, journey.c.expires_at > here.now) == 0
    assert await here.count(budget, budget.c.subject.like("%|" + OTHER), budget.c.subject.not_like("*%")) == 0
    states = {one.id: one.state for one in await here.rows(select(temporary))}
    assert states == {who.letter: "used", done.new_letter: "live"}
    assert await login.session(here.ctx, who.society, token, here.now) is None

    mails = await here.mails(LETTER)
    assert {mail.recipient for mail in mails} == set(done.told)
    async with here.ctx.store.read() as tx:
        assert await mailfacts.mail_facts(here.ctx, tx, mails, here.now) == [{"changed_at": here.now}] * 2
    last = (await here.rows(select(audit.c.actor, audit.c.event, audit.c.member_id).order_by(audit.c.number)))[-1]
    assert last == (ACTOR, "registration-reset", who.id)
    assert "registration-reset" in [one.event for one in await events(here, who)]
    assert await reset(here.ctx, who.society, who.id, actor=ACTOR, now=here.now) is None

    # afresh, with the same login ID; and who was reset may be reset again
    async with here.ctx.store.read() as tx:
        (letter,) = (await tx.execute(select(temporary).where(temporary.c.id == done.new_letter))).all()
    sealed = ("yokokou", "temporary", "sealed_login_id", letter.id)
    printed_id = people.open_text(here.ctx.ring, letter.sealed_login_id, *sealed)
    printed, _ = printed_password(here.ctx, who.society, letter)
    again = Joined(who.society, who.id, letter.id, printed_id, printed)
    await here.register(again, "hanako-one", "new@docomo.ne.jp")
    assert await reset(here.ctx, who.society, who.id, actor=ACTOR, now=here.now) is not None


async def test_who_left_or_is_not_registered_gets_no_letter(here: World) -> None:
    invited = await here.join("yokokou")
    assert await reset(here.ctx, invited.society, invited.id, actor=ACTOR, now=here.now) is None
    assert await reset(here.ctx, invited.society, 17, actor=ACTOR, now=here.now) is None
    who = await registered(here)
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).where(member.c.id == who.id).values(left_on="2020-01-01"))
    done = await reset(here.ctx, who.society, who.id, actor=ACTOR, now=here.now)
    assert done is not None
    assert (done.left, done.new_letter) == (True, None)


async def lifted(here: World, who: Joined) -> Lifted:
    done = await unlock(here.ctx, who.society, who.id, actor=ACTOR, now=here.now)
    assert done is not None
    return done


async def test_unlocking_lifts_the_pauses_of_one_member(here: World) -> None:
    who, other = await registered(here), await registered(here, login_id="other-one")
    limit = here.ctx.settings.site.budgets.login_failures_per_hour
    for network in (NETWORK, OTHER):
        for one in ("hanako-one", "other-one"):
            for _ in range(limit + 1):
                await login.log_in(here.ctx, who.society, one, "wrong", network, here.now)
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).values(pin_failures=100))
    done = await lifted(here, who)
    assert (done.networks, done.pins, done.letters, done.opened) == (2, 100, 0, False)
    assert await here.log_in(who, "hanako-one", network=OTHER)
    assert isinstance(await login.log_in(here.ctx, who.society, "other-one", "x", OTHER, here.now), Refused)
    rows = {row.id: row.pin_failures for row in await here.rows(select(member.c.id, member.c.pin_failures))}
    assert rows == {who.id: 0, other.id: 100}
    assert not (await lifted(here, who)).anything
    assert await unlock(here.ctx, who.society, 17, actor=ACTOR, now=here.now) is None
    assert [row.event for row in await here.rows(select(audit.c.event).order_by(audit.c.number))][
        -1
    ] == "member-unlocked"


async def test_a_paused_letter_opens_and_a_dead_one_does_not(here: World) -> None:
    who, dead = await here.join("yokokou"), await here.join("yokokou")
    async with here.ctx.store.begin() as tx:
        paused = {"failures": 20, "paused_until": here.now + HOUR}
        await tx.execute(update(temporary).where(temporary.c.id == who.letter).values(paused))
        await tx.execute(update(temporary).where(temporary.c.id == dead.letter).values(state="dead", failures=100))
    done = await lifted(here, who)
    assert (done.letters, done.paused_letters, done.dead_letters) == (1, 1, 0)
    assert await here.begin(who, await here.link("yokokou", "a@docomo.ne.jp"))
    done = await lifted(here, dead)
    assert (done.letters, done.dead_letters, done.anything) == (0, 1, False)


async def test_a_login_that_waited_for_its_mail_is_opened(here: World) -> None:
    who = await registered(here)
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).values(login_opens_at=None))
    assert (await lifted(here, who)).opened
    assert await here.log_in(who, "hanako-one")


async def test_tries_at_the_first_login_by_formula_are_forgotten(here: World) -> None:
    file = here.ctx.settings.folder / "societies" / "yokokou.toml"
    rule = '\n[formula]\nlogin_id = "7132-{symbol:3}{number:6}"\n'
    file.write_text(file.read_text("utf-8") + rule, "utf-8")
    loaded = settings(here.ctx.settings.folder.parent)
    here.ctx = type(here.ctx)(loaded, here.ctx.ring, here.ctx.passwords, here.ctx.store)
    who = await here.join("yokokou", symbol="12", number="3456", relation="本人", birth_date="1980-01-02")
    await here.join("yokokou", symbol="12", number="3457", relation="本人")

    async def prove(password: str, number: str = "003456") -> int | Refused:
        form = {"login_id": f"7132-012{number}", "password": password}
        rule = who.society.formula
        assert rule is not None
        async with here.ctx.store.begin() as tx:
            return await formula.prove(here.ctx, tx, who.society, rule, form, NETWORK, here.now)

    for number in ("003456", "003457"):
        for _ in range(5):
            assert isinstance(await prove("19800103", number), Refused)
    assert isinstance(await prove("19800102"), Refused)
    done = await lifted(here, who)
    assert (done.formula, done.anything) == (True, True)
    assert await prove("19800102") == who.id
    assert isinstance(await prove("19800102", "003457"), Refused)
    assert not (await lifted(here, who)).formula


async def send_again(here: World, who: Joined) -> Sent | NotSent:
    here.now += 2 * MINUTE
    return await renotify(here.ctx, who.society, who.id, actor=ACTOR, now=here.now)


async def test_an_undelivered_completion_mail_is_sent_again(here: World) -> None:
    who = await registered(here)
    waits = await send_again(here, who)
    assert isinstance(waits, NotSent)
    assert "still waits" in waits.words
    await settle(here, "completion", FULL)
    assert await send_again(here, who) == Sent("completion", "hanako@docomo.ne.jp")
    assert len(await here.mails("completion")) == 2
    assert isinstance(await renotify(here.ctx, who.society, who.id, actor=ACTOR, now=here.now), NotSent)
    await settle(here, "completion", TAKEN)
    delivered = await send_again(here, who)
    assert isinstance(delivered, NotSent)
    assert "handed over" in delivered.words
    assert [row.event for row in await here.rows(select(audit.c.event))].count("member-renotified") == 1


async def test_the_mail_of_a_journey_that_waits_is_sent_again_while_its_link_lives(here: World) -> None:
    who = await here.join("yokokou")
    ends = here.now + 3 * HOUR
    link_id = await put_link(here, who, "mailed-link", ends)
    async with here.ctx.store.begin() as tx:
        first = NewMail("yokokou", "confirm-by-mail", Lane.LINK, "a@docomo.ne.jp", member_id=who.id, link_id=link_id)
        await queue.put(tx, [first], here.now, "host.example")
    assert isinstance(await send_again(here, who), NotSent)
    await settle(here, "confirm-by-mail", FULL)
    assert await send_again(here, who) == Sent("confirm-by-mail", "a@docomo.ne.jp")
    rows = await here.rows(select(outbox.c.link_id, outbox.c.deadline_at).order_by(outbox.c.created_at))
    assert rows[1].link_id == link_id
    assert rows[1].deadline_at < ends
    here.now = ends
    instead = await send_again(here, who)
    assert isinstance(instead, NotSent)
    assert "a blank mail to touroku@yokokou.example" in instead.words


async def test_nothing_is_sent_where_nothing_waits(here: World) -> None:
    who = await here.join("yokokou")
    left = await here.join("yokokou", left_on="2020-01-01")
    assert isinstance(await send_again(here, who), NotSent)
    assert isinstance(await renotify(here.ctx, who.society, left.id, actor=ACTOR, now=here.now), NotSent)
    assert isinstance(await renotify(here.ctx, who.society, 17, actor=ACTOR, now=here.now), NotSent)
    assert await here.count(outbox) == 0
    assert await here.count(audit) == 0


async def test_an_address_that_is_anothers_login_id_is_refused_at_once(here: World) -> None:
    who, other = await registered(here), await registered(here, login_id="other-one")
    taken = {"login_kind": "address", "login_id": "a@docomo.ne.jp", "login_key": people.login_key("a@docomo.ne.jp")}
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(member).values(login_kind="address"))
        await tx.execute(update(member).where(member.c.id == other.id).values(taken))

    async def correct(typed: str, slot: int = 1) -> object:
        return await correct_address(here.ctx, who.society, who.id, typed, slot=slot, actor=ACTOR, now=here.now)

    assert "A@docomo.ne.jp" not in str(refused := await correct("A@docomo.ne.jp"))
    assert isinstance(refused, str)
    assert isinstance(await correct("no-at"), str)
    assert await here.count(link, link.c.purpose == "address-proof") == 0
    assert getattr(await correct("b@docomo.ne.jp"), "text", "") == "b@docomo.ne.jp"
    assert getattr(await correct("a@docomo.ne.jp", 2), "text", "") == "a@docomo.ne.jp"
    assert {mail.recipient for mail in await here.mails("address-proof")} == {"a@docomo.ne.jp", "b@docomo.ne.jp"}


def read(file: Path, encoding: str = "utf-8-sig") -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text(encoding).splitlines()))


async def test_the_export_has_keys_choices_and_consents(here: World, tmp_path: Path) -> None:
    who = await registered(here, name="髙橋　𠮷子", symbol="12", number="0099", birth_date="1980-01-02")
    await here.join("yokokou")
    async with here.ctx.store.begin() as tx:
        for text, version in (("privacy", "2026-04"), ("terms", "2")):
            row = {"society": "yokokou", "member_id": who.id, "text_id": text, "version": version}
            await tx.execute(insert(consent).values(**row, digest=b"x", agreed_at=NOW))
    file = tmp_path / "members.csv"
    done = await export(here.ctx, who.society, file, actor=ACTOR, now=here.now)
    assert (done.count, done.lacking) == (1, {})
    (line,) = read(file)
    (row,) = await here.rows(select(member.c.person_key).where(member.c.id == who.id))
    assert line["個人キー"] == bytes(row.person_key).hex()
    assert (line["記号"], line["番号"], line["生年月日"]) == ("12", "0099", "1980-01-02")
    assert (line["氏名"], line["メールアドレス1"]) == ("髙橋　𠮷子", "hanako@docomo.ne.jp")
    assert line["同意"] == "privacy 2026-04 2026-11-20 15:50:20; terms 2 2026-11-20 15:50:20"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.glob("*members.csv*")] == ["members.csv"]  # noqa: ASYNC240  a look at a folder


async def test_an_export_for_software_without_unicode_says_what_is_missing(here: World, tmp_path: Path) -> None:
    who = await registered(here, name="髙橋　𠮷子", kana="タカハシ　〜コ")
    file = tmp_path / "members.csv"
    done = await export(here.ctx, who.society, file, actor=ACTOR, now=here.now, encoding=Encoding.CP932)
    assert done.lacking == {"𠮷": 1}
    (line,) = read(file, "cp932")
    assert (line["氏名"], line["カナ氏名"]) == ("髙橋　〓子", "タカハシ　～コ")


async def test_only_who_registered_since(here: World, tmp_path: Path) -> None:
    await registered(here)
    here.now += HOUR
    late = await registered(here, login_id="late-one")
    file = tmp_path / "members.csv"
    done = await export(here.ctx, late.society, file, actor=ACTOR, now=here.now, since=here.now)
    assert done.count == 1
    assert [line["ログインID"] for line in read(file)] == ["late-one"]
    (row,) = await here.rows(select(audit.c.facts).where(audit.c.event == "members-exported"))
    assert row.facts == f'{{"count":1,"since":{here.now}}}'


async def test_a_formula_in_a_cell_stays_text(here: World, tmp_path: Path) -> None:
    who = await registered(here, nickname="")
    async with here.ctx.store.begin() as tx:
        nickname = people.seal_text(
            here.ctx.ring, '=HYPERLINK("http://x.example")', "yokokou", "member", "sealed_nickname", who.id, here.now
        )
        await tx.execute(update(member).values(sealed_nickname=nickname))
    file = tmp_path / "members.csv"
    await export(here.ctx, who.society, file, actor=ACTOR, now=here.now)
    (line,) = read(file)
    assert line["ニックネーム"] == '\'=HYPERLINK("http://x.example")'
