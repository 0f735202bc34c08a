"""The code of a mail, typed with the address: what opens, what does not, and that nobody learns anything by trying."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select, update

from mailbot.credentials import LinkPurpose, short_code
from mailbot.delivery import suppression
from mailbot.delivery.mails import ClaimedMail
from mailbot.delivery.suppression import Note, Source
from mailbot.mail.address import parse_typed
from mailbot.mail.causes import Cause
from mailbot.registration import codes, limits, mailfacts
from mailbot.registration.codes import CodeOpens
from mailbot.registration.invite import CODE_TRIES, LinkRequest, request_links
from mailbot.registration.outcomes import Refused
from mailbot.store import new_id
from mailbot.store.tables import budget, link, outbox
from mailbot.store.tables import suppression as suppression_table
from tests.support.factory import HOUR, MINUTE, NETWORK, NOW, World, texts

ADDRESS = "hanako@docomo.ne.jp"
WRONG = "2222 2222"


async def enter(here: World, code: str, address: str = ADDRESS, network: str = NETWORK) -> Any:
    return await codes.enter(here.ctx, here.society("yokokou"), address, code, network, here.now)


async def code_of(here: World, link_id: int, society: str = "yokokou") -> str:
    (row,) = await here.rows(select(link).where(link.c.society == society, link.c.id == link_id))
    return short_code(here.ctx.ring, LinkPurpose(row.purpose), society, row.id, row.kid, row.generation)


async def put_link(here: World, purpose: LinkPurpose, address: str = ADDRESS, **columns: Any) -> int:
    link_id, mailbox = new_id(), parse_typed(address)
    row = {
        "society": "yokokou",
        "id": link_id,
        "purpose": purpose.value,
        "address": mailbox.text,
        "address_key": mailbox.key,
        "kid": here.ctx.ring.active(here.now).kid,
        "created_at": here.now,
        "expires_at": here.now + 3 * HOUR,
        **columns,
    }
    async with here.ctx.store.begin() as tx:
        await tx.execute(insert(link).values(row))
    return link_id


async def failures(here: World, link_id: int) -> int:
    (row,) = await here.rows(select(link.c.code_failures).where(link.c.id == link_id))
    return int(row[0])


async def filtered(
    here: World, address: str = ADDRESS, cause: Cause = Cause.FILTERED, source: Source = Source.REPORT
) -> None:
    async with here.ctx.store.begin() as tx:
        note = Note("yokokou", parse_typed(address), cause, source, "550 5.7.1 refused")
        await suppression.note(tx, [note], here.now)


async def facts(here: World, mails: list[ClaimedMail]) -> list[Any]:
    async with here.ctx.store.read() as tx:
        return list(await mailfacts.mail_facts(here.ctx, tx, mails, here.now))


# -- what opens ------------------------------------------------------------------------------------------------------


async def test_the_code_of_the_mail_opens_what_its_url_opens(here: World) -> None:
    link_id = await here.link("yokokou", ADDRESS)
    (mail,) = await facts(here, await here.mails("invitation"))
    assert await enter(here, mail["code"]) == CodeOpens(link_id, LinkPurpose.REGISTRATION)
    assert await enter(here, mail["code"].upper().replace(" ", "－"), " Hanako@Docomo.ne.jp ") == CodeOpens(
        link_id, LinkPurpose.REGISTRATION
    )


@pytest.mark.parametrize("purpose", LinkPurpose)
async def test_every_link_has_one(here: World, purpose: LinkPurpose) -> None:
    link_id = await put_link(here, purpose)
    assert await enter(here, await code_of(here, link_id)) == CodeOpens(link_id, purpose)


async def test_of_several_live_links_any_code_does(here: World) -> None:
    links = [await put_link(here, LinkPurpose.REGISTRATION, created_at=NOW - n) for n in range(3)]
    links.append(await put_link(here, LinkPurpose.REISSUE, generation=4, format="letters:8"))
    for link_id in links:
        found = await enter(here, await code_of(here, link_id))
        assert found.link_id == link_id
    assert [await failures(here, link_id) for link_id in links] == [0, 0, 0, 0]


async def test_what_was_used_is_opened_as_its_url_is(here: World) -> None:
    link_id = await put_link(here, LinkPurpose.REGISTRATION, spent_at=NOW)
    assert (await enter(here, await code_of(here, link_id))).link_id == link_id


async def test_a_right_code_uses_up_nothing(here: World) -> None:
    code = await code_of(here, await here.link("yokokou", ADDRESS))
    for _ in range(60):
        assert isinstance(await enter(here, code), CodeOpens)


# -- what does not ---------------------------------------------------------------------------------------------------


async def test_one_sentence_whatever_is_wrong(here: World) -> None:
    live = await code_of(here, await here.link("yokokou", ADDRESS))
    other = await code_of(here, await here.link("yokokou", "taro@docomo.ne.jp"))
    elsewhere = await code_of(here, await here.link("shochiku", ADDRESS), "shochiku")
    expired = await code_of(here, await put_link(here, LinkPurpose.REGISTRATION, expires_at=NOW))
    revoked = await code_of(here, await put_link(here, LinkPurpose.REGISTRATION, revoked_at=NOW))
    token = "abcdefghijklmnopqrstuvwxyz234567ab"
    answers = [
        await enter(here, WRONG),
        await enter(here, live, "nobody@docomo.ne.jp"),
        await enter(here, other),
        await enter(here, elsewhere),
        await enter(here, expired),
        await enter(here, revoked),
    ]
    assert {tuple(texts(one)) for one in answers} == {tuple(texts(answers[0]))}
    assert {one.status for one in answers} == {422}
    assert "違うか、期限が過ぎています" in texts(answers[0])[0]
    rule, again = "code: コードは、英字と数字の8文字です。", "メールの文字と見比べて、もう一度入力してください。"
    assert texts(await enter(here, token)) == [f"{rule}いま34文字入力されています。{again}"]
    assert texts(await enter(here, "k7mp 3wx0")) == [f"{rule}数字の0と1、英字のI・L・Oは使っていません。{again}"]


async def test_a_wish_that_nobody_answered_yet_has_no_code(here: World) -> None:
    link_id = await put_link(here, LinkPurpose.REGISTRATION)
    code = await code_of(here, link_id)
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(link).values(purpose="reissue-request"))
    assert isinstance(await enter(here, code), Refused)


@pytest.mark.parametrize(
    ("address", "code", "fields"),
    [
        ("", "", ["address", "code"]),
        ("hanako", WRONG, ["address"]),
        (ADDRESS, "", ["code"]),
        (ADDRESS, "\0", ["code"]),
        (ADDRESS, "2222 222", ["code"]),
        ("a@b@c", "l" * 8, ["address", "code"]),
    ],
)
async def test_what_cannot_be_right_is_told_beside_its_field_and_counts_nowhere(
    here: World, address: str, code: str, fields: list[str]
) -> None:
    link_id = await here.link("yokokou", ADDRESS)
    refused = await enter(here, code, address)
    assert [complaint.field for complaint in refused.complaints] == fields
    assert await failures(here, link_id) == 0
    assert await here.count(budget, budget.c.scope.in_(["code", "code-network"])) == 0


async def test_known_and_unknown_addresses_cost_the_same_statements(here: World) -> None:
    await here.link("yokokou", ADDRESS)
    seen: list[str] = []
    engine = here.ctx.store.engine.sync_engine

    def listen(_c: object, _k: object, statement: str, _p: object, _x: object, _m: object) -> None:
        seen.append(statement.split("WHERE")[0])

    async def statements(address: str) -> list[str]:
        seen.clear()
        await enter(here, WRONG, address)
        return list(seen)

    event.listen(engine, "before_cursor_execute", listen)
    try:
        assert await statements(ADDRESS) == await statements("nobody@docomo.ne.jp")
        assert any("UPDATE link" in one for one in seen)
    finally:
        event.remove(engine, "before_cursor_execute", listen)


# -- guessing --------------------------------------------------------------------------------------------------------


async def test_ten_wrong_tries_end_the_code_and_not_the_link(here: World) -> None:
    link_id = await here.link("yokokou", ADDRESS)
    code = await code_of(here, link_id)
    for n in range(CODE_TRIES):
        assert (await enter(here, code)).link_id == link_id, n
        assert isinstance(await enter(here, WRONG, network=f"203.0.{n}.0/24"), Refused)
    assert await failures(here, link_id) == CODE_TRIES
    assert texts(await enter(here, code)) == texts(await enter(here, WRONG))
    async with here.ctx.store.read() as tx:
        row = (await tx.execute(select(link).where(link.c.id == link_id))).one()
    assert (row.spent_at, row.revoked_at) == (None, None)
    fresh = await put_link(here, LinkPurpose.REGISTRATION, created_at=NOW + 1)
    assert (await enter(here, await code_of(here, fresh))).link_id == fresh


async def test_the_51st_wrong_try_waits_and_the_right_code_still_opens(here: World) -> None:
    link_id = await here.link("yokokou", ADDRESS)
    for known in (ADDRESS, "nobody@docomo.ne.jp"):
        tries = [(await enter(here, WRONG, known, f"203.0.{n}.0/24")).status for n in range(limits.CODES_A_DAY + 2)]
        assert tries == [422] * limits.CODES_A_DAY + [429] * 2, known
    assert await failures(here, link_id) == limits.CODES_A_DAY + 2
    worn = await enter(here, await code_of(here, link_id), network="203.1.0.0/24")
    assert (worn.status, "メールのURLが開けるときは" in texts(worn)[0]) == (429, True)
    here.now += 1
    fresh = await put_link(here, LinkPurpose.REGISTRATION)
    for n in range(CODE_TRIES - 1):
        assert (await enter(here, WRONG, network=f"203.2.{n}.0/24")).status == 429
    assert (await enter(here, await code_of(here, fresh))).link_id == fresh
    assert await failures(here, fresh) == CODE_TRIES - 1
    await enter(here, WRONG)
    assert (await enter(here, await code_of(here, fresh))).status == 429


async def test_as_many_codes_are_compared_for_everybody(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    links = [await put_link(here, LinkPurpose.REGISTRATION, created_at=NOW - n) for n in range(codes.COMPARED + 1)]
    compared = []

    def is_code(typed: str, expected: str) -> bool:
        compared.append(expected)
        return typed == expected

    monkeypatch.setattr(codes, "is_code", is_code)
    for address in (ADDRESS, "nobody@docomo.ne.jp"):
        for code in (WRONG, await code_of(here, links[0])):
            compared.clear()
            await enter(here, code, address)
            assert len(compared) == codes.COMPARED


async def test_the_eighth_link_has_a_code_and_the_ninth_has_none(here: World) -> None:
    links = [await put_link(here, LinkPurpose.REGISTRATION, created_at=NOW - n) for n in range(codes.COMPARED + 1)]
    assert (await enter(here, await code_of(here, links[7]))).link_id == links[7]
    assert isinstance(await enter(here, await code_of(here, links[8])), Refused)
    assert [await failures(here, one) for one in links] == [1] * 8 + [0]


async def test_many_at_once_are_as_many(here: World) -> None:
    link_id = await here.link("yokokou", ADDRESS)
    code = await code_of(here, link_id)
    await asyncio.gather(*(enter(here, WRONG) for _ in range(CODE_TRIES)))
    assert await failures(here, link_id) == CODE_TRIES
    assert isinstance(await enter(here, code), Refused)


async def test_a_network_that_guesses_is_stopped_and_another_is_not(here: World) -> None:
    limit = 6 * here.ctx.settings.site.budgets.link_failures_per_10_minutes
    for n in range(limit):
        assert (await enter(here, WRONG, f"nobody{n}@docomo.ne.jp")).status == 422
    code = await code_of(here, await here.link("yokokou", ADDRESS))
    refused = await enter(here, code)
    assert refused.status == 429
    assert "16時51分から" in texts(refused)[0]
    assert isinstance(await enter(here, code, network="203.0.113.0/24"), CodeOpens)
    here.now += HOUR
    assert isinstance(await enter(here, code), CodeOpens)


# -- the letter without a URL ----------------------------------------------------------------------------------------


async def letters(here: World) -> list[str]:
    return [row[0] for row in await here.rows(select(outbox.c.letter).order_by(outbox.c.created_at))]


async def test_after_a_filtered_mail_the_next_invitation_has_no_url(here: World) -> None:
    first = await here.link("yokokou", ADDRESS)
    await filtered(here)
    here.now += MINUTE
    assert await here.link("yokokou", ADDRESS) == first
    assert await here.link("yokokou", "taro@docomo.ne.jp") != first
    assert await here.link("shochiku", ADDRESS) != first
    assert sorted(await letters(here)) == ["invitation"] * 3 + ["invitation-plain"]
    (mail,) = await here.mails("invitation-plain")
    (usual, *_) = await here.mails("invitation")
    assert (mail.lane, mail.deadline_at, mail.recipient) == (usual.lane, usual.deadline_at, ADDRESS)
    (said,) = await facts(here, [mail])
    carrier = here.ctx.settings.carriers.all["docomo"]
    assert said == {
        "code": await code_of(here, first),
        "expires_at": NOW + 3 * HOUR,
        "carrier": carrier.name,
        "steps": "\n".join(carrier.steps),
    }
    assert (await enter(here, said["code"])).link_id == first


async def ask(here: World, *addresses: str, proved: bool = True) -> None:
    async with here.ctx.store.begin() as tx:
        requests = [LinkRequest("yokokou", parse_typed(one), proved=proved) for one in addresses]
        await request_links(here.ctx, tx, requests, here.now)


@pytest.mark.parametrize(
    ("address", "cause", "proved", "letter", "kept"),
    [
        (ADDRESS, Cause.FULL, True, "invitation", None),
        (ADDRESS, Cause.COMPLAINT, True, "invitation", "complaint"),
        (ADDRESS, Cause.FILTERED, True, "invitation-plain", "filtered"),
        # carriers say so of a refusal list, too; who writes from there has a mailbox
        (ADDRESS, Cause.UNKNOWN_USER, True, "invitation-plain", "filtered"),
        (ADDRESS, Cause.UNKNOWN_USER, False, "invitation", "unknown-user"),
        ("hanako@gmail.com", Cause.UNKNOWN_USER, True, "invitation", None),
    ],
)
async def test_what_was_known_of_the_address_decides_the_letter(
    here: World, address: str, cause: Cause, proved: bool, letter: str, kept: str | None
) -> None:
    await filtered(here, address, cause)
    await filtered(here, "taro@docomo.ne.jp", Cause.UNKNOWN_USER)
    await ask(here, address, proved=proved)
    assert await letters(here) == [letter]
    found = dict(await here.rows(select(suppression_table.c.address, suppression_table.c.cause)))
    assert found == {"taro@docomo.ne.jp": "unknown-user"} | ({address: kept} if kept else {})


async def test_a_stop_by_staff_ends_with_a_proved_mail_and_was_no_refusal_list(here: World) -> None:
    await filtered(here, ADDRESS, Cause.UNKNOWN_USER, Source.STAFF)
    await ask(here, ADDRESS)
    assert await letters(here) == ["invitation"]
    assert await here.count(suppression_table) == 0


async def test_a_proved_mail_costs_no_statement_more_where_nothing_is_known(here: World) -> None:
    seen: list[str] = []
    engine = here.ctx.store.engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda _c, _k, statement, *_: seen.append(statement))
    await ask(here, ADDRESS, "taro@docomo.ne.jp")
    assert [one.split()[0] for one in seen if "suppression" in one] == ["SELECT"]


async def wear_out(here: World) -> None:
    async with here.ctx.store.begin() as tx:
        await tx.execute(update(link).values(code_failures=CODE_TRIES))


async def test_after_a_worn_out_code_the_next_letter_brings_another_and_no_url_ends(here: World) -> None:
    worn = await here.link("yokokou", ADDRESS)
    await wear_out(here)
    here.now += 1000
    fresh = await here.link("yokokou", ADDRESS)
    assert fresh != worn
    assert (await enter(here, await code_of(here, fresh))).link_id == fresh
    await wear_out(here)
    here.now += 1000
    assert await here.link("yokokou", ADDRESS) == fresh
    rows = await here.rows(select(link.c.revoked_at).where(link.c.id.in_([worn, fresh])))
    assert [row.revoked_at for row in rows] == [None, None]


async def test_a_letter_without_a_url_always_has_a_code_that_works(here: World) -> None:
    await filtered(here)
    seen = set()
    for _ in range(3):
        fresh = await here.link("yokokou", ADDRESS)
        assert (await enter(here, await code_of(here, fresh))).link_id == fresh
        seen.add(fresh)
        await wear_out(here)
        here.now += 1000
    assert len(seen) == 3


async def test_the_end_of_the_registration_clears_the_note(here: World) -> None:
    await filtered(here)
    await filtered(here, "taro@docomo.ne.jp")
    await here.register(await here.join("yokokou"), "hanako", ADDRESS)
    found = await here.rows(select(suppression_table.c.address))
    assert [row[0] for row in found] == ["taro@docomo.ne.jp"]
    await here.link("yokokou", ADDRESS)
    assert "invitation" in await letters(here)


async def test_no_code_is_stored(here: World) -> None:
    code = (await code_of(here, await here.link("yokokou", ADDRESS))).replace(" ", "")
    await enter(here, code)
    await enter(here, WRONG)
    async with here.ctx.store.read() as tx:
        for table in (link, outbox, budget):
            for row in await tx.execute(select(table)):
                assert not any(code in str(value) or WRONG in str(value) for value in row)
        assert await tx.scalar(select(func.count()).select_from(link)) == 1
