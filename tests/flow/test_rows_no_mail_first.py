"""What every society has, for one whose registration needs no mail first: the rows ALL-n along both of its journeys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from mailbot.config import Society
from tests.flow.test_rows_kenpos import CONFIRM, PEOPLE, PHONE, SOCIETY, child, formula, give, to_mail
from tests.support.member import Page
from tests.support.robot import body
from tests.support.rows import PASSWORD, Recorder, Stage, flat, in_order, stage
from tests.support.sink import Taken

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME, HOURS, ROBOT = "KENPOS健康保険組合", "平日 10:00–17:00", "info@kenpos.example"


@dataclass
class Walk:
    """Every page on the way, and every mail."""

    stage: Stage
    society: Society
    pages: list[Page]
    mails: list[Taken]

    def page(self, heading: str) -> Page:
        return next(page for page in self.pages if page.heading == heading)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def walk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Walk]:
    async with stage(tmp_path_factory.mktemp("no-mail-first"), {SOCIETY: []}) as here:
        await asyncio.to_thread(here.robot.import_roster, SOCIETY, *PEOPLE)
        one, two = here.new_address(), here.new_address()
        async with Recorder(here.robot.web) as member:
            await give(member, formula(0)[0], "19991231")
            await to_mail(member, await give(member, *formula(0)), one)
            await member.get(f"/{SOCIETY}/c/aaaabbbbccccddddeeeeffffgggghhhh22")
            await member.submit(await member.get(await here.link(one, CONFIRM)), {"password": PASSWORD})
            await member.follow(await give(member, formula(0)[0], PASSWORD), "プロフィール設定")
            await member.get(f"/{SOCIETY}/consents")
            await member.submit(await member.get(f"/{SOCIETY}/password"), {"old": "x", "new": "y", "again": "z"})
        async with Recorder(here.robot.web) as relative:
            start = await relative.get(f"/{SOCIETY}/direct?journey=family")
            await to_mail(relative, await relative.submit(start, child(0)), two)
            await relative.submit(await relative.get(await here.link(two, CONFIRM)), {"password": PASSWORD})
        await here.mails(one, count=2)
        await here.mails(two, count=2)
        mails = [*here.sink.to(one), *here.sink.to(two)]
        yield Walk(here, here.societies[SOCIETY], [*member.seen, *relative.seen], mails)


@pytest.mark.row("ALL-1")
async def test_mails_come_from_the_society_and_take_no_reply(walk: Walk) -> None:
    assert len(walk.mails) == 4
    for mail in walk.mails:
        (sender,) = mail.message["From"].addresses
        assert (sender.display_name, sender.addr_spec) == (NAME, ROBOT)
        assert "返信はお受けできません" in body(mail)


@pytest.mark.row("ALL-2")
async def test_the_sender_is_named_before_and_what_to_do_without_a_mail_after(walk: Walk) -> None:
    for heading in ("初回登録（基本設定）", "初回登録（確認）"):
        assert ROBOT in walk.page(heading).text
    waiting = walk.page("メールを開いて登録を終える")
    assert in_order(waiting.text, "メールが届かないとき", "まちがいがないか", "迷惑メール", "受信設定", ROBOT, PHONE)


@pytest.mark.row("ALL-3")
async def test_a_wrong_url_says_so_and_where_to_begin_again(walk: Walk) -> None:
    page = walk.page("このリンクは使えません")
    assert page.status == 410
    assert in_order(page.text, "何も変わっていません", "もう一度始めるには", "ログインIDと生年月日")
    assert page.link("初回登録ページに移動する").endswith("/direct?journey=family")


@pytest.mark.row("ALL-4", "ALL-5")
async def test_name_and_help_stand_on_every_page_and_in_every_mail(walk: Walk) -> None:
    assert len({page.heading for page in walk.pages}) >= 13
    for page in walk.pages:
        assert NAME in page.text, page.url
        assert in_order(page.text, "KENPOS事務局", PHONE, HOURS, "保険証の記号・番号とお名前"), page.url
    for mail in walk.mails:
        assert in_order(body(mail), NAME, "KENPOS事務局", PHONE)


@pytest.mark.row("ALL-7")
async def test_the_service_and_the_words_of_the_file_appear(walk: Walk) -> None:
    seen = flat(" ".join(page.text for page in walk.pages))
    assert all("KENPOS" in page.text for page in walk.pages)
    missing = [key for key, text in walk.society.labels.items() if flat(text) not in seen]
    assert missing == []


@pytest.mark.row("ALL-8")
async def test_first_credentials_have_no_end_until_they_are_used(walk: Walk) -> None:
    here = walk.stage
    await here.sql("UPDATE member SET created_at = created_at - ?", 5 * 365 * 86_400_000)
    async with Recorder(here.robot.web) as member:
        assert (await give(member, *formula(1))).heading == "個人情報の取扱いと利用規約への同意"
        assert (await give(member, *formula(0))).status == 422
