"""利用者情報入力: what is refused, in words, and what stays behind."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from mailbot.registration import journeys, people
from mailbot.registration.outcomes import Begun, JourneyEnd, Moved, PendingAddress, Refused, StepPage
from mailbot.store.tables import address, journey, link, member, outbox
from tests.support.factory import DAY, PASSWORD, Joined, World, texts

ADDRESS = "hanako@docomo.ne.jp"


async def at_credentials(here: World, society: str, **person: Any) -> tuple[Joined, Begun]:
    who = await here.join(society, **person)
    return who, await here.begin(who, await here.link(society, ADDRESS))


@pytest.mark.parametrize("login_id", ["abcdef12", "ABCDEF7x", "abcdefx7", "abcdef١٢", "abc\0def", "\ud800abcd"])
async def test_ids_that_break_the_rule(here: World, login_id: str) -> None:
    who, begun = await at_credentials(here, "yokokou")
    refused = await here.submit(who, begun, login_id)
    assert isinstance(refused, Refused)
    assert {one.field for one in refused.complaints} == {"login_id"}


@pytest.mark.parametrize("login_id", ["abcdefgh", "123456ab", "abcdef123", "abc12", "１２３４５６ＡＢ"])
async def test_other_ids_are_free_of_that(here: World, login_id: str) -> None:
    who, begun = await at_credentials(here, "yokokou")
    assert await here.submit(who, begun, login_id) == Moved(None)


async def test_the_printed_id_cannot_be_kept_where_its_digits_forbid_it(here: World) -> None:
    who, begun = await at_credentials(here, "yokokou")
    assert isinstance(await here.submit(who, begun, who.login_id), Refused)


async def test_the_printed_id_may_be_kept_where_the_file_says_so(here: World) -> None:
    who, begun = await at_credentials(here, "shochiku")
    page = await journeys.page(here.ctx, who.society, begun.journey_id, begun.proof, here.now)
    assert isinstance(page, StepPage)
    assert page.values["login_id"] == who.login_id
    stranger = await here.join("shochiku")
    somebody_elses = await here.submit(who, begun, stranger.login_id)
    assert isinstance(somebody_elses, Refused)
    assert await here.submit(who, begun, who.login_id) == Moved(None)


async def test_an_id_printed_for_somebody_else_is_taken(here: World) -> None:
    await here.join("shochiku", login_id="hanako-2026")
    who, begun = await at_credentials(here, "shochiku")
    assert "ほかの方が使っています" in texts(await here.submit(who, begun, "Hanako-2026"))[0]


@pytest.mark.parametrize("login_id", ["taro-2026", "TARO-2026", "ｔａｒｏ－２０２６", " taro-2026 ", "tar0-2026"])
async def test_an_id_somebody_has_is_refused_in_words(here: World, login_id: str) -> None:
    await here.register(await here.join("yokokou"), "Taro-2026")
    who, begun = await at_credentials(here, "yokokou")
    assert texts(await here.submit(who, begun, login_id)) == [
        "login_id: その新ログインIDは、ほかの方が使っています。数字を足すなど、別のIDにしてください。"
    ]


async def test_who_asks_for_taken_ids_all_day_hears_no_more(here: World) -> None:
    await here.register(await here.join("yokokou"), "Taro-2026")
    who, begun = await at_credentials(here, "yokokou")
    statuses = [(await here.submit(who, begun, "Taro-2026")).status for _ in range(11)]
    assert statuses == [422] * 10 + [429]


async def test_two_who_choose_one_id_in_the_same_moment(here: World) -> None:
    pairs = [await at_credentials(here, "yokokou") for _ in range(2)]
    answers = await asyncio.gather(*(here.submit(who, begun, "same-id-1") for who, begun in pairs))
    assert answers.count(Moved(None)) == 1
    (refused,) = [one for one in answers if isinstance(one, Refused)]
    assert "ほかの方が使っています" in texts(refused)[0]
    again = pairs[answers.index(refused)]
    assert await here.submit(*again, "other-id-1") == Moved(None)


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("", "入力してください"),
        ("umi9", "8文字以上"),
        ("UMINOMIERU9", "英小文字"),
        ("uminomieru", "数字"),
        ("umi.no.mieru9", "「.」"),
        ("password1", "よく使われる"),
        ("19800102a", "生年月日"),
        ("yama-no-99x", None),
    ],
)
async def test_passwords(here: World, password: str, says: str | None) -> None:
    who, begun = await at_credentials(here, "yokokou")
    answer = await here.submit(who, begun, "hanako", password=password, password_again=password)
    if says is None:
        assert answer == Moved(None)
    else:
        assert any(text.startswith("password: ") and says in text for text in texts(answer))


async def test_the_password_on_paper_cannot_be_kept(here: World) -> None:
    who, begun = await at_credentials(here, "shochiku", password="kinoko77yama")
    refused = await here.submit(who, begun, who.login_id, password="kinoko77yama", password_again="kinoko77yama")
    (text,) = texts(refused)
    assert text.startswith("password: いままでと違う")


async def test_the_password_is_typed_twice(here: World) -> None:
    who, begun = await at_credentials(here, "yokokou")
    refused = await here.submit(who, begun, "hanako", password_again=PASSWORD + "x")
    assert texts(refused)[0].startswith("password_again: ")


async def test_a_megabyte_is_refused_without_a_hash(here: World) -> None:
    who, begun = await at_credentials(here, "yokokou")
    before = here.ctx.passwords.hashes_run
    big = "a1" * 500_000
    refused = await here.submit(who, begun, big, password=big, password_again=big, nickname=big, address=big)
    assert {one.field for one in refused.complaints} == {"login_id", "password", "nickname", "address"}
    assert all(len(one.text) < 200 for one in refused.complaints)
    assert here.ctx.passwords.hashes_run == before


async def test_all_complaints_come_at_once(here: World) -> None:
    who, begun = await at_credentials(here, "yokokou")
    refused = await here.submit(who, begun, "", password="", password_again="", address="", nickname="x" * 41)
    assert [one.field for one in refused.complaints] == ["login_id", "password", "address", "nickname"]


async def test_an_empty_nickname_keeps_the_rosters(here: World) -> None:
    who, begun = await at_credentials(here, "yokokou", nickname="はな")
    await here.submit(who, begun, "hanako")
    assert await nickname(here, who) == "はな"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("{{7*7}}", "{{7*7}}"),
        ("' OR 1=1--", "' OR 1=1--"),
        ("はな\r\nBcc: x@example.jp", "はな Bcc: x@example.jp"),
        ("　はな　子　", "はな 子"),
    ],
)
async def test_a_nickname_is_kept_as_typed_on_one_line(here: World, typed: str, kept: str) -> None:
    who, begun = await at_credentials(here, "yokokou")
    assert await here.submit(who, begun, "hanako", nickname=typed) == Moved(None)
    assert await nickname(here, who) == kept


async def nickname(here: World, who: Joined) -> str:
    (row,) = await here.rows(select(member.c.sealed_nickname).where(member.c.id == who.id))
    return people.open_text(here.ctx.ring, row[0], who.society.id, "member", "sealed_nickname", who.id)


async def test_another_address_counts_once_proved(here: World) -> None:
    who, begun = await at_credentials(here, "shochiku")
    assert await here.submit(who, begun, who.login_id, address="Hana@private.example") == Moved(None)
    assert await here.rows(select(address.c.slot, address.c.address)) == [(1, ADDRESS)]
    (proof,) = await here.mails("address-proof")
    assert (proof.recipient, proof.member_id) == ("Hana@private.example", who.id)
    (row,) = await here.rows(select(link).where(link.c.id == proof.link_id))
    assert (row.purpose, row.slot, row.address) == ("address-proof", 1, "Hana@private.example")
    assert [one.recipient for one in await here.mails("completion")] == [ADDRESS]
    end = await journeys.page(here.ctx, who.society, begun.journey_id, begun.proof, here.now)
    assert isinstance(end, JourneyEnd)
    assert end.waiting == PendingAddress(1, "Hana@private.example", row.expires_at)


async def test_the_same_address_in_capitals_is_the_same(here: World) -> None:
    who, begun = await at_credentials(here, "shochiku")
    assert await here.submit(who, begun, who.login_id, address="HANAKO@DOCOMO.ne.jp") == Moved(None)
    assert await here.count(outbox, outbox.c.letter == "address-proof") == 0


async def test_leaving_between_proof_and_end_registers_nobody(here: World) -> None:
    who, begun = await at_credentials(here, "yokokou", left_on="2026-11-21")
    here.now += DAY // 2
    async with here.ctx.store.begin() as tx:
        await tx.execute(journey.update().values(expires_at=here.now + DAY))
    await here.submit(who, begun, "hanako", address=ADDRESS)
    assert await here.count(member, member.c.state == "registered") == 0
