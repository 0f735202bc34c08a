"""What Shochiku's society wishes, row by row, from outside: a robot of its own, mails at a sink, pages over HTTP."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.member import Member, Page, log_in, register
from tests.support.robot import Person, Robot, body, link_in, robot
from tests.support.servers import program
from tests.support.sink import Sink, Taken, sink

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOCIETY = "shochiku"
NAME = "松竹健康保険組合"
PHONE, HOURS = "03-0000-0000", "9:30–18:00"
PASSWORD, NEXT = "hanamichi-no9", "mawaributai-7"
DAY_MS = 86_400_000
COMPANY = "otowaya@company.example"
ONE = Person("坂田雪子", "サカタユキコ", "1990-03-04", "100001", "60271845", "hyoshi3714ki", nickname="ゆき")
PEOPLE = {
    name: replace(ONE, name=f"坂田{kanji}", number=number, printed_id=printed_id, nickname=name, birth_date=born)
    for name, kanji, number, printed_id, born in (
        ("kiku", "菊", "100002", "60271852", "1971-05-06"),
        ("take", "竹", "100003", "60271869", "1982-07-08"),
        ("matsu", "松", "100004", "60271876", "1963-09-10"),
        ("ume", "梅", "100005", "60271883", "1974-11-12"),
        ("sakura", "桜", "100006", "60271890", "1985-01-02"),
        ("fuji", "藤", "100007", "60271908", "1956-03-14"),
        ("aoi", "葵", "100008", "60271915", "1967-05-16"),
        ("ran", "蘭", "100009", "60271922", "1978-07-18"),
    )
}


@dataclass(frozen=True)
class Stage:
    """One robot for all rows; every test brings people and addresses of its own."""

    robot: Robot
    sink: Sink

    def browser(self) -> Member:
        return Member(self.robot.web)

    async def letter(self, address: str, subject: str) -> Taken:
        """The last mail with this subject to the address."""
        for count in range(1, 20):
            mails = await self.sink.wait(count, to=address, seconds=30)
            if found := [mail for mail in mails if mail.message["Subject"] == subject]:
                return found[-1]
        raise AssertionError(f"no {subject} for {address}")

    async def invited(self, member: Member, address: str) -> str:
        """Web entry -> the URL of the mail."""
        page = await member.submit(await member.get(f"/{SOCIETY}/entry"), {"address": address})
        assert page.heading == "メールをご覧ください"
        return link_in(await self.letter(address, "利用登録手続きのご案内"))

    async def registered(self, who: str, password: str = PASSWORD) -> str:
        """Somebody whose registration is finished -> the address; login ID is the name with two letters behind."""
        address = f"{who}@phone.example"
        async with self.browser() as member:
            person = PEOPLE[who]
            link = await self.invited(member, address)
            done = await register(member, link, person.printed_id, person.printed_password, f"{who}-s", password)
            assert "完了" in done.heading, done.text
        return address

    def sql(self, statement: str, *values: object) -> None:
        """Moves what the robot remembers of the past, as time would."""
        with closing(sqlite3.connect(self.robot.folder / "var" / "mailbot.sqlite3", timeout=30)) as db, db:
            assert db.execute(statement, values).rowcount >= 1

    async def days_pass(self, login_id: str, days: int) -> None:
        """The password of a member was set so many days earlier than it was; the minute's work is due again."""
        await asyncio.to_thread(
            self.sql,
            "UPDATE member SET password_set_at = password_set_at - ? WHERE login_id = ?",
            days * DAY_MS,
            login_id,
        )
        await asyncio.to_thread(self.sql, "UPDATE lease SET until = 0 WHERE name = 'timetable.minute'")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("shochiku")
    async with sink() as taken, robot(folder, taken.port) as made:
        on_file = {**PEOPLE["ran"].row, "メールアドレス": COMPANY}
        rows = [person.row for name, person in PEOPLE.items() if name != "ran"]
        await asyncio.to_thread(made.import_roster, SOCIETY, ONE.row, *rows, on_file)
        yield Stage(made, taken)


def shows_help(page: Page) -> bool:
    return PHONE in page.text and HOURS in page.text


async def temporary_login(member: Member, page: Page, person: Person) -> Page:
    return await member.submit(page, {"login_id": person.printed_id, "password": person.printed_password})


@pytest.mark.row("SC-1")
async def test_the_web_form_brings_a_plain_mail_with_its_notes(stage: Stage) -> None:
    address = "first@phone.example"
    async with stage.browser() as member:
        entry = await member.follow(await member.get(f"/{SOCIETY}/login"), "新規利用登録")
        assert entry.heading == "新規利用登録①"
        sent = await member.submit(entry, {"address": address})
        assert address in sent.text
    mail = await stage.letter(address, "利用登録手続きのご案内")
    message = mail.message
    assert message.get_content_type() == "text/plain"
    (sender,) = message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (NAME, "info@shochiku.example")
    text = body(mail)
    assert link_in(mail).startswith(f"{stage.robot.web}/{SOCIETY}/r/")
    for note in ("発行から3時間", "「新規利用登録①」", "このメールを捨ててください", "返信はお受けできません"):
        assert note in text


@pytest.mark.row("SC-2", "SC-3")
async def test_from_the_url_through_the_pages_to_the_completion_mail(stage: Stage) -> None:
    address, new = "yuki@phone.example", "yuki@home.example"
    async with stage.browser() as member:
        second = await member.get(await stage.invited(member, address))
        assert second.heading == "新規利用登録②"
        assert second.labels()[:2] == ["ログインID ※必須", "パスワード ※必須"]
        wrong = await member.submit(second, {"login_id": ONE.printed_id, "password": "hyoshi3715ki"})
        assert (wrong.status, wrong.heading) == (422, "新規利用登録②")
        third = await temporary_login(member, wrong, ONE)
        assert third.heading == "新規利用登録③"
        assert [third.value(name) for name in ("login_id", "address", "nickname")] == [ONE.printed_id, address, "ゆき"]
        assert third.value("password") == ""
        nothing = await member.submit(third, {"password": "", "password_again": ""})
        assert nothing.status == 422
        printed = ONE.printed_password
        same = await member.submit(third, {"password": printed, "password_again": printed})
        assert same.status == 422
        assert any("パスワード" in error for error in same.errors)
        twice = await member.submit(third, {"password": PASSWORD, "password_again": NEXT})
        assert twice.status == 422
        fields = {"password": PASSWORD, "password_again": PASSWORD, "address": new, "nickname": "雪組"}
        fourth = await member.submit(third, fields)
        assert fourth.heading.startswith("新規利用登録④")
        assert "雪組 さん" in fourth.text
        login = await member.follow(fourth, "ログイン画面")
        assert login.heading == "ログイン"
        completion = await stage.letter(address, "利用登録完了のご案内")
        assert link_in(completion) == f"{stage.robot.web}/{SOCIETY}/login"
        # the printed ID was kept
        home = await log_in(member, SOCIETY, ONE.printed_id, PASSWORD)
        assert home.heading == "こんにちは、雪組 さん"
        # the changed address counts once it was proved
        proof = link_in(await stage.letter(new, "メールアドレスの確認のお願い"))
        found = stage.robot.json("member", "find", SOCIETY, ONE.name)[0]["member"]
        assert stage.robot.json("member", "show", SOCIETY, found)["addresses"] == [f"1: {address}"]
        proved = await member.submit(await member.get(proof), button="このアドレスを使う")
        assert proved.heading == "メールアドレスを確認しました"
        assert stage.robot.json("member", "show", SOCIETY, found)["addresses"] == [f"1: {new}"]


@pytest.mark.row("SC-3")
async def test_the_login_id_may_be_changed_at_registration(stage: Stage) -> None:
    await stage.registered("kiku")
    async with stage.browser() as member:
        assert (await log_in(member, SOCIETY, "kiku-s", PASSWORD)).heading == "こんにちは、kiku さん"
    async with stage.browser() as member:
        assert (await log_in(member, SOCIETY, PEOPLE["kiku"].printed_id, PASSWORD)).status == 422


@pytest.mark.row("SC-4")
async def test_paper_does_not_open_the_login_and_every_failure_gives_the_same_hint(stage: Stage) -> None:
    take = PEOPLE["take"]
    async with stage.browser() as member:
        # in the middle of the registration too
        step = await temporary_login(member, await member.get(await stage.invited(member, "take@phone.example")), take)
        assert step.heading == "新規利用登録③"
    hints = set()
    for login_id, password in (
        (take.printed_id, take.printed_password),
        (take.printed_id, "nonsense9"),
        ("nobody-at-all", PASSWORD),
    ):
        async with stage.browser() as member:
            page = await log_in(member, SOCIETY, login_id, password)
            assert (page.status, page.heading) == (422, "ログイン")
            hints.add(tuple(page.errors))
            assert (await member.get(f"/{SOCIETY}/home")).heading == "ログイン"
    ((hint,),) = hints
    assert "先に利用登録をしてください" in hint


@pytest.mark.row("SC-5")
async def test_the_page_that_asks_for_the_address_tells_nobody_who_is_known(stage: Stage) -> None:
    known = await stage.registered("matsu")
    seen = set()
    for address in (known, "stranger@phone.example"):
        async with stage.browser() as member:
            entry = await member.get(f"/{SOCIETY}/entry")
            assert "すでに登録がお済みの方" in entry.text
            assert (await member.follow(entry, "ログイン")).heading == "ログイン"
            page = await member.submit(entry, {"address": address})
            seen.add((page.status, page.answer.text.replace(address, "")))
    assert len(seen) == 1


@pytest.mark.row("SC-6")
async def test_a_printed_address_leads_straight_to_the_temporary_login(stage: Stage) -> None:
    with_address, without = PEOPLE["ran"], PEOPLE["ume"]
    async with stage.browser() as member:
        page = await member.follow(await member.get(f"/{SOCIETY}/login"), "メールアドレスが印字されていた方")
        assert page.heading == "新規利用登録②"
        # nobody without an address on the roster, and the answer is that of a wrong password
        refused = await temporary_login(member, page, without)
        wrong = await member.submit(page, {"login_id": without.printed_id, "password": "hyoshi3715ki"})
        assert (refused.status, refused.errors) == (422, wrong.errors)
        third = await temporary_login(member, page, with_address)
        assert third.heading == "新規利用登録③"
        assert third.value("address") == COMPANY
        fields = {"login_id": "ran-s", "password": PASSWORD, "password_again": PASSWORD}
        assert (await member.submit(third, fields)).heading.startswith("新規利用登録④")
    assert (await stage.letter(COMPANY, "利用登録完了のご案内")).rcpt_tos == (COMPANY,)
    # five wrong passwords and the letter pauses, even for the right one; behind a mail it takes ten
    async with stage.browser() as member:
        page = await member.get(f"/{SOCIETY}/direct")
        sakura = PEOPLE["sakura"]
        for _ in range(5):
            await member.submit(page, {"login_id": sakura.printed_id, "password": "hyoshi3715ki"})
        link = await stage.invited(member, "pause@phone.example")
        assert (await temporary_login(member, await member.get(link), sakura)).status == 422


@pytest.mark.row("SC-7")
async def test_a_login_id_that_somebody_has_is_refused_in_words(stage: Stage) -> None:
    await stage.registered("ume")
    fuji = PEOPLE["fuji"]
    async with stage.browser() as member:
        third = await temporary_login(member, await member.get(await stage.invited(member, "f@phone.example")), fuji)
        for typed in ("ume-s", "UME-S"):
            page = await member.submit(third, {"login_id": typed, "password": PASSWORD, "password_again": PASSWORD})
            assert page.status == 422
            assert page.value("login_id") == typed
            (error,) = page.errors
            assert "ログインID" in error
            assert "ほかの方が使っています" in error


@pytest.mark.row("SC-8", "SC-9", "SC-10", "SC-12", "SC-15")
async def test_a_member_s_year(stage: Stage) -> None:
    """Home, profile, a changed password, a reissue, the reminder, and the end of the year."""
    address = await stage.registered("aoi")
    second = "aoi@home.example"
    async with stage.browser() as member:
        home = await log_in(member, SOCIETY, "aoi-s", PASSWORD)
        assert home.heading == "こんにちは、aoi さん"
        assert re.search(r"いまは \d{4}年\d{1,2}月\d{1,2}日（.）\d{1,2}時\d{2}分です", home.text)

        profile = await member.follow(home, "プロフィール設定")
        assert "会社のメールアドレスのほかに" in profile.text
        fields = {"login_id": "aoi-sakata", "nickname": "あおい", "address_2": second, "password": PASSWORD}
        saved = await member.submit(profile, fields)
        assert "登録しました" in saved.text, saved.errors
        assert "確認待ちです" in saved.text
        proof = await member.get(link_in(await stage.letter(second, "メールアドレスの確認のお願い")))
        await member.submit(proof, button="このアドレスを使う")
        assert (await stage.letter(address, "メールアドレス変更のお知らせ")).rcpt_tos == (address,)
        profile = await member.get(f"/{SOCIETY}/profile")
        assert [profile.value(name) for name in ("login_id", "nickname", "address_1", "address_2")] == [
            "aoi-sakata", "あおい", address, second,
        ]  # fmt: skip

        page = await member.follow(await member.get(f"/{SOCIETY}/home"), "パスワード変更")
        assert [label.split()[0] for label in page.labels()] == [
            "変更前パスワード",
            "変更後パスワード",
            "パスワード確認",
        ]
        wrong = await member.submit(page, {"old": NEXT, "new": NEXT, "again": NEXT})
        assert wrong.status == 422
        changed = await member.submit(page, {"old": PASSWORD, "new": NEXT, "again": NEXT})
        assert "パスワードを変更しました" in changed.text

    third = await _reissue(stage, address)
    await _year_ends(stage, third)


async def _reissue(stage: Stage, address: str) -> str:
    """SC-10 -> the new password."""
    new = "seriage-to-suppon3"
    async with stage.browser() as member:
        ask = await member.follow(await member.get(f"/{SOCIETY}/login"), "忘れた方")
        await member.submit(ask, {"address": address})
        mail = await stage.letter(address, "パスワード再発行のご案内")
        text = body(mail)
        assert "ログインID：aoi-sakata" in text
        assert "発行から3時間" in text
        found = re.search(r"仮パスワード：([A-Za-z]{8})$", text, re.MULTILINE)
        assert found, text
        page = await member.get(link_in(mail))
        assert page.heading == "仮ログイン（パスワード再発行）"
        page = await member.submit(page, {"login_id": "aoi-sakata", "temporary_password": found[1]})
        assert page.heading == "パスワード変更（パスワード再発行）"
        assert [label.split()[0] for label in page.labels()] == ["新しいパスワード", "パスワード確認"]
        assert (await member.submit(page, {"password": new, "password_again": PASSWORD})).status == 422
        done = await member.submit(page, {"password": new, "password_again": new})
        assert done.heading == "パスワードを変更しました"
    async with stage.browser() as member:
        assert (await log_in(member, SOCIETY, "aoi-sakata", NEXT)).status == 422
        assert (await log_in(member, SOCIETY, "aoi-sakata", new)).heading == "こんにちは、あおい さん"
    return new


async def _year_ends(stage: Stage, password: str) -> None:
    """SC-8: the reminder 30 days before, then a login that leads to changing the password and nowhere else."""
    address, last = "aoi@phone.example", "kuroko-no-ashioto5"
    await stage.days_pass("aoi-sakata", 336)
    reminder = await stage.letter(address, "パスワードの有効期限のお知らせ")
    assert link_in(reminder) == f"{stage.robot.web}/{SOCIETY}/login"
    async with stage.browser() as member:
        assert (await log_in(member, SOCIETY, "aoi-sakata", password)).heading == "こんにちは、あおい さん"
    await stage.days_pass("aoi-sakata", 29)
    async with stage.browser() as member:
        page = await log_in(member, SOCIETY, "aoi-sakata", password)
        assert page.heading == "パスワード変更"
        assert "パスワードの期限が過ぎています" in page.text
        for name in ("home", "profile"):
            assert (await member.get(f"/{SOCIETY}/{name}")).heading == "パスワード変更"
        assert (await member.submit(page, {"old": password, "new": password, "again": password})).status == 422
        home = await member.submit(page, {"old": password, "new": last, "again": last})
        assert home.heading == "こんにちは、あおい さん"
        assert (await member.get(f"/{SOCIETY}/profile")).heading == "プロフィール設定"


@pytest.mark.row("SC-11")
async def test_the_printed_code_opens_the_login_page(stage: Stage, tmp_path: Path) -> None:
    image = tmp_path / "login.png"
    await asyncio.to_thread(stage.robot.command, "qr", SOCIETY, "--login", "--out", str(image))
    read = [str(program("zbarimg")), "--quiet", "--raw", "--nodbus", str(image)]
    done = await asyncio.to_thread(subprocess.run, read, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{stage.robot.web}/{SOCIETY}/login"
    async with stage.browser() as member:
        assert (await member.get(done.stdout.strip())).heading == "ログイン"


@pytest.mark.row("SC-13")
async def test_larger_text_and_frequent_questions(stage: Stage) -> None:
    async with stage.browser() as member:
        link = await stage.invited(member, "larger@phone.example")
        for path in (f"/{SOCIETY}/login", f"/{SOCIETY}/entry", f"/{SOCIETY}/direct", link):
            page = await member.get(path)
            sizes = [
                " ".join(node.text_content().split()) for node in page.tree.xpath("//nav[@aria-label='文字サイズ']//a")
            ]
            assert sizes[-2:] == ["中", "大"], path
        login = await member.get(f"/{SOCIETY}/login")
        larger = await member.follow(login, "大")
        assert (larger.heading, larger.tree.get("class")) == ("ログイン", "text-large")
        questions = await member.follow(larger, "よくある質問")
        assert questions.tree.get("class") == "text-large"
        assert "案内のメールが届きません。" in questions.text


@pytest.mark.row("SC-14")
async def test_help_is_by_phone_and_staff_mend_the_address(stage: Stage) -> None:
    address, new = await stage.registered("fuji"), "fuji@new.example"
    async with stage.browser() as member:
        failed = await member.get(await stage.invited(member, "help@phone.example"))
        failed = await member.submit(failed, {"login_id": "11112222", "password": "wrong"})
        dead = await member.get(f"/{SOCIETY}/r/aaaa")
        bad = await member.submit(await member.get(f"/{SOCIETY}/entry"), {"address": "no-at"})
        assert [page.status for page in (failed, dead, bad)] == [422, 410, 422]
        ask = await member.get(f"/{SOCIETY}/reissue")
        assert all(shows_help(page) for page in (failed, dead, bad, ask))
        assert "登録したメールアドレスがわからない方" in ask.text
        assert "記号・番号とお名前" in ask.text

        # on the phone: staff look the member up, check the person, and write down an address that can be read
        (found,) = await asyncio.to_thread(stage.robot.json, "member", "find", SOCIETY, PEOPLE["fuji"].name)
        await asyncio.to_thread(stage.robot.command, "member", "address", SOCIETY, found["member"], new)
        proof = await member.get(link_in(await stage.letter(new, "メールアドレスの確認のお願い")))
        await member.submit(proof, button="このアドレスを使う")
        assert (await stage.letter(address, "メールアドレス変更のお知らせ")).rcpt_tos == (address,)
        await member.submit(ask, {"address": new})
        assert "ログインID：fuji-s" in body(await stage.letter(new, "パスワード再発行のご案内"))
