"""Two members of one household share a mailbox, sometimes a browser, and never each other's registration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.support.chromium import page as window
from tests.support.member import Member, Page, log_in, register
from tests.support.robot import HANAKO, TARO, Person, Robot, invitation, link_in, robot
from tests.support.sink import Sink

TO = "touroku@yokokou.example"
HOME = "kazoku@phone.example"
PASSWORD = "umi-no-mieru9machi"
DONE = "利用者情報登録完了"
AGAIN = "登録済みです"
FAMILY = "家族の登録を続ける（メールを送る）"


@pytest.fixture
async def at(tmp_path: Path, smtp_sink: Sink) -> AsyncIterator[Robot]:
    async with robot(tmp_path, smtp_sink.port, overrides={"BUDGETS_ADDRESS_PER_MINUTE": "10"}) as made:
        await asyncio.to_thread(made.import_roster, "yokokou", HANAKO.row, TARO.row)
        yield made


async def proved(member: Member, form: Page, person: Person) -> Page:
    step = await member.submit(form, {"login_id": person.printed_id, "password": person.printed_password})
    assert step.heading == "利用者情報入力", step.text
    return step


def chosen(login_id: str) -> dict[str, str]:
    return {"login_id": login_id, "password": PASSWORD, "password_again": PASSWORD}


async def both_can_log_in(made: Robot, smtp_sink: Sink) -> None:
    """Each with the own ID and nickname, and the shared box got a completion for each."""
    for person, login_id in ((HANAKO, "hanako-n"), (TARO, "taro-na")):
        async with Member(made.web) as member:
            home = await log_in(member, "yokokou", login_id, PASSWORD)
            assert home.status == 200
            assert person.nickname in home.text
    for _ in range(600):
        subjects = [str(mail.message["Subject"]) for mail in smtp_sink.to(HOME)]
        if subjects.count("利用登録完了のご案内") >= 2:
            break
        await asyncio.sleep(0.1)
    assert subjects.count("利用登録完了のご案内") == 2, subjects


async def test_one_after_the_other_with_the_link_of_the_last_page(at: Robot, smtp_sink: Sink) -> None:
    first = await invitation(at, smtp_sink, HOME, TO)
    async with Member(at.web) as member:
        done = await register(member, first, HANAKO.printed_id, HANAKO.printed_password, "hanako-n", PASSWORD)
        assert done.heading == DONE
        assert HANAKO.nickname in done.text
        after = await member.submit(done, button=FAMILY)
        assert "ご案内のメールを送りました" in after.text
        for _ in range(600):
            fresh = [m for m in smtp_sink.to(HOME) if m.message["Subject"] == "利用登録手続きのご案内"]
            if len(fresh) == 2:
                break
            await asyncio.sleep(0.1)
        assert len(fresh) == 2
        second = link_in(fresh[1])
        assert second != first, "a spent link lets no newcomer in"
        done = await register(member, second, TARO.printed_id, TARO.printed_password, "taro-na", PASSWORD)
        assert done.heading == DONE
        assert TARO.nickname in done.text
    async with Member(at.web) as stranger:
        assert (await stranger.get(first)).status == 410
    await both_can_log_in(at, smtp_sink)


async def test_a_blank_mail_after_the_first_is_done_brings_a_fresh_link(at: Robot, smtp_sink: Sink) -> None:
    first = await invitation(at, smtp_sink, HOME, TO)
    async with Member(at.web) as member:
        await register(member, first, HANAKO.printed_id, HANAKO.printed_password, "hanako-n", PASSWORD)
    await smtp_sink.wait(2, to=HOME, seconds=60)
    code, _ = await asyncio.to_thread(at.send_blank_mail, HOME, TO)
    assert code == 250
    second = link_in((await smtp_sink.wait(3, to=HOME, seconds=60))[2])
    async with Member(at.web) as member:
        done = await register(member, second, TARO.printed_id, TARO.printed_password, "taro-na", PASSWORD)
        assert TARO.nickname in done.text
    await both_can_log_in(at, smtp_sink)


@pytest.mark.parametrize("browsers", [1, 2])
async def test_at_the_same_time_with_one_link(at: Robot, smtp_sink: Sink, browsers: int) -> None:
    """Two tabs of one browser share their cookies, two browsers share nothing; a spent link lets who began finish."""
    link = await invitation(at, smtp_sink, HOME, TO)
    async with Member(at.web) as hers, Member(at.web) as other:
        his = hers if browsers == 1 else other
        forms = [await hers.get(link), await his.get(link)]
        step1, step2 = await asyncio.gather(proved(hers, forms[0], HANAKO), proved(his, forms[1], TARO))
        assert step1.url != step2.url
        assert step1.value("nickname") == HANAKO.nickname
        assert (await hers.get(step1.url)).value("nickname") == HANAKO.nickname
        assert (await his.get(step2.url)).value("nickname") == TARO.nickname
        end1, end2 = await asyncio.gather(hers.submit(step1, chosen("hanako-n")), his.submit(step2, chosen("taro-na")))
        assert (end1.heading, end2.heading) == (DONE, DONE)
        assert HANAKO.nickname in end1.text
        assert TARO.nickname not in end1.text
        assert TARO.nickname in end2.text
        assert HANAKO.nickname not in end2.text
    await both_can_log_in(at, smtp_sink)


async def test_one_letter_in_two_tabs_at_once_registers_once(at: Robot, smtp_sink: Sink) -> None:
    link = await invitation(at, smtp_sink, HOME, TO)
    async with Member(at.web) as tabs:
        form = await tabs.get(link)
        steps = await asyncio.gather(proved(tabs, form, HANAKO), proved(tabs, form, HANAKO))
        assert steps[0].url != steps[1].url
        ends = await asyncio.gather(
            tabs.submit(steps[0], chosen("hanako-n")), tabs.submit(steps[1], chosen("hanako-x"))
        )
        assert sorted(end.heading for end in ends) == sorted([DONE, AGAIN]), [end.text for end in ends]
    winner = next(name for name, end in zip(("hanako-n", "hanako-x"), ends, strict=True) if end.heading == DONE)
    loser = ({"hanako-n", "hanako-x"} - {winner}).pop()
    async with Member(at.web) as member:
        assert HANAKO.nickname in (await log_in(member, "yokokou", winner, PASSWORD)).text
    async with Member(at.web) as member:
        assert (await log_in(member, "yokokou", loser, PASSWORD)).errors
    await smtp_sink.wait(2, to=HOME, seconds=60)
    assert len(smtp_sink.to(HOME)) == 2


async def test_the_same_login_id_chosen_in_the_same_moment_goes_to_one(at: Robot, smtp_sink: Sink) -> None:
    link = await invitation(at, smtp_sink, HOME, TO)
    async with Member(at.web) as hers, Member(at.web) as his:
        step1 = await proved(hers, await hers.get(link), HANAKO)
        step2 = await proved(his, await his.get(link), TARO)
        ends = await asyncio.gather(hers.submit(step1, chosen("natsume-ke")), his.submit(step2, chosen("natsume-ke")))
        assert sorted(end.status for end in ends) == [200, 422], [end.text for end in ends]
        late = next(end for end in ends if end.status == 422)
        assert late.errors
        who = hers if ends[0] is late else his
        assert (await who.submit(late, chosen("natsume-2nd"))).heading == DONE


async def test_two_tabs_of_one_chromium(at: Robot, smtp_sink: Sink, browser: Browser) -> None:
    link = await invitation(at, smtp_sink, HOME, TO)
    async with window(browser) as first:
        second = await first.context.new_page()
        for tab, person in ((first, HANAKO), (second, TARO)):
            await tab.goto(link)
            await tab.locator("[name=login_id]").fill(person.printed_id)
            await tab.locator("[name=password]").fill(person.printed_password)
        for tab in (first, second):
            await tab.locator("form p.acts button").first.click()
            await tab.locator("[name=password_again]").wait_for()
        for tab, login_id in ((first, "hanako-n"), (second, "taro-na")):
            await tab.locator("[name=login_id]").fill(login_id)
            await tab.locator("[name=password]").fill(PASSWORD)
            await tab.locator("[name=password_again]").fill(PASSWORD)
        for tab, person in ((first, HANAKO), (second, TARO)):
            await tab.locator("form p.acts button").first.click()
            await tab.get_by_role("heading", name=DONE).wait_for()
            assert person.nickname in await tab.locator("main").inner_text()
    await both_can_log_in(at, smtp_sink)
