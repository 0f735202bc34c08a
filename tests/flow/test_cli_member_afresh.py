"""Both forgotten, ID and password: staff take the registration back, the member starts afresh without any letter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.member import Member, Page
from tests.support.robot import body, link_in
from tests.support.rows import NEXT_PASSWORD, PASSWORD, Stage, person, stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

ME = "kenpos"
CONFIRM, RESET = "利用登録の確認のお願い", "利用登録の取り消しのお知らせ"
INSURED, FAMILY = "髙村　進", "髙村　澄子"
LOGIN_ID, FIRST = "7132-091200001", "19700401"
PEOPLE = [
    person(INSURED, "200001", 記号="91", 続柄="本人", カナ氏名="タカムラ　ススム"),
    person(FAMILY, "200001", 記号="91", 続柄="妻", カナ氏名="タカムラ　スミコ", 生年月日="1972-08-09"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with stage(tmp_path_factory.mktemp("afresh"), {ME: PEOPLE}) as made:
        yield made


async def cli(at: Stage, *arguments: str) -> str:
    done = await asyncio.to_thread(at.robot.command, *arguments, check=False)
    return done.stdout + done.stderr


async def enter(member: Member, login_id: str, password: str) -> Page:
    """Both pages of the login."""
    page = await member.submit(await member.get(f"/{ME}/login"), {"login_id": login_id})
    return await member.submit(page, {"password": password})


async def by_card(member: Member) -> Page:
    page = await member.follow(await member.get(f"/{ME}/login"), "初回登録ページに移動する")
    born = {"birth_date_year": "1972", "birth_date_month": "8", "birth_date_day": "9"}
    return await member.submit(page, {"symbol": "91", "number": "200001", "kana": "ﾀｶﾑﾗ ｽﾐｺ", **born})


async def finish(at: Stage, member: Member, page: Page, address: str, password: str) -> Page:
    """From the consents to the end of the registration."""
    page = await member.submit(page, button="最後まで読みました")
    page = await member.submit(page, {"agree": "yes"})
    page = await member.submit(page, {"address": address, "password": password, "password_again": password})
    before = len([mail for mail in at.sink.to(address) if mail.message["Subject"] == CONFIRM])
    await member.submit(page, button="メールを送信する")
    mails = await at.mails(address, CONFIRM, count=before + 1)
    page = await member.submit(await member.get(link_in(mails[-1])), {"password": password})
    assert page.url.endswith("/done"), page.text
    return page


async def reset(at: Stage, text: str) -> tuple[str, str]:
    """(the member's id, what the command says)."""
    found: list[dict[str, Any]] = await asyncio.to_thread(at.robot.json, "member", "find", ME, text)
    (who,) = [str(one["member"]) for one in found]
    return who, await cli(at, "member", "reset", ME, who, "--yes")


@pytest.mark.row("KP-9")
async def test_who_forgot_both_starts_afresh_with_number_and_birth_date(at: Stage) -> None:
    address, other = at.new_address(), at.new_address()
    async with Member(at.robot.web) as member:
        await finish(at, member, await enter(member, LOGIN_ID, FIRST), address, PASSWORD)
        assert (await enter(member, LOGIN_ID, FIRST)).errors  # the first password ended with the registration
        assert (await enter(member, LOGIN_ID, PASSWORD)).url.endswith("/home")
        who, words = await reset(at, INSURED)
        assert "1 address(es) are told" in words
        assert "starts afresh with the login ID of the formula and the birth date" in words
        assert not (await member.get(f"/{ME}/home")).url.endswith("/home")
        assert (await enter(member, LOGIN_ID, PASSWORD)).errors
        assert LOGIN_ID not in body((await at.mails(address, RESET))[0])
        # afresh, with another address and password
        await finish(at, member, await enter(member, LOGIN_ID, FIRST), other, NEXT_PASSWORD)
        assert (await enter(member, LOGIN_ID, NEXT_PASSWORD)).url.endswith("/home")
    shown = await asyncio.to_thread(at.robot.json, "member", "show", ME, who)
    assert shown["addresses"] == [f"1: {other}"]
    found = await asyncio.to_thread(at.robot.json, "member", "timeline", ME, who)
    events = [one["event"] for one in found]
    assert [one for one in events if one in ("registered", "registration-reset")] == [
        "registered",
        "registration-reset",
        "registered",
    ]
    agreed = [one["what"] for one in found if one["event"] == "consent"]
    assert len(agreed) == 2  # what was agreed to before stays: the texts are the same
    assert "「個人情報の取扱いについて」（2026-04版）に同意した" in agreed


@pytest.mark.row("KP-9")
async def test_a_family_member_starts_afresh_with_the_card_and_the_same_address(at: Stage) -> None:
    address = at.new_address()
    async with Member(at.robot.web) as member:
        await finish(at, member, await by_card(member), address, PASSWORD)
        assert (await enter(member, address, PASSWORD)).url.endswith("/home")
        await reset(at, FAMILY)
        await at.mails(address, RESET)
        assert (await enter(member, address, PASSWORD)).errors
        await finish(at, member, await by_card(member), address, NEXT_PASSWORD)
        assert (await enter(member, address, NEXT_PASSWORD)).url.endswith("/home")


async def test_tries_at_the_birth_date_are_unlocked(at: Stage) -> None:
    letter = person("別府　功", "200077", 記号="91", 続柄="本人", 生年月日="1969-09-09")
    await asyncio.to_thread(at.robot.import_roster, ME, letter)
    login_id = "7132-091200077"
    async with Member(at.robot.web) as member:
        for day in range(10, 16):
            assert (await enter(member, login_id, f"196909{day}")).errors
        assert (await enter(member, login_id, "19690909")).errors
        found = await asyncio.to_thread(at.robot.json, "member", "find", ME, "別府 功")
        words = await cli(at, "member", "unlock", ME, found[0]["member"])
        assert "Wrong tries at the first login by formula: forgotten." in words
        assert not (await enter(member, login_id, "19690909")).errors
