"""横浜港運: every wish of the society (docs/features.md), seen from outside: mail in over SMTP, pages over HTTP."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
import pytest_asyncio

from mailbot.web.japan import JAPAN, day
from tests.support.member import Member, log_in
from tests.support.robot import body, invitation, link_in
from tests.support.rows import (
    DAY,
    HOUR,
    MINUTE,
    NEXT_PASSWORD,
    PASSWORD,
    Account,
    Stage,
    buttons,
    flat,
    in_order,
    labels,
    needs,
    person,
    stage,
)
from tests.support.servers import program
from tests.support.sink import Taken

pytestmark = pytest.mark.asyncio(loop_scope="module")
ME = "yokokou"
NAME = "横浜港運健康保険組合"
TO = "touroku@yokokou.example"
ROBOT = "info@yokokou.example"
INVITED, DONE, AGAIN = "利用登録手続きのご案内", "利用登録完了のご案内", "パスワード再発行のご案内"
HOUSEHOLD = [
    person("港太郎", "301", "みなと", 続柄="本人", 生年月日="1961-05-06"),
    person("港花子", "301", "はなみ", 続柄="妻", 生年月日="1964-02-03"),
    person("港海斗", "301", "かいと", 続柄="長男", 生年月日="1992-12-30"),
    person("港密子", "301", "ひそか", 続柄="長女", 保護="はい"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with stage(tmp_path_factory.mktemp("yokokou"), {ME: HOUSEHOLD}) as running:
        yield running


def url_of(at: Stage, name: str) -> str:
    return f"{at.robot.web}/{ME}/{name}"


def same_but_for_link_and_time(mail: Taken) -> str:
    text = re.sub(r"(?m)^http\S+$", "URL", body(mail))
    text = re.sub(r"(?m)^コード：\S{4} \S{4}$", "CODE", text)
    return re.sub(r"\d{4}年\d+月\d+日（.）\d+時\d+分", "TIME", text)


def time_in(text: str) -> datetime:
    """The absolute time a mail names."""
    found = re.search(r"(\d{4})年(\d+)月(\d+)日（(.)）(\d+)時(\d+)分（日本時間）", text)
    assert found, text
    year, month, dom, weekday, hour, minute = found.groups()
    when = datetime(int(year), int(month), int(dom), int(hour), int(minute), tzinfo=JAPAN)
    assert "月火水木金土日"[when.weekday()] == weekday
    return when


async def ask_reissue(at: Stage, address: str, count: int = 1) -> list[Taken]:
    async with Member(at.robot.web) as member:
        page = await member.submit(await member.get(f"/{ME}/reissue"), {"address": address})
        assert page.heading == "メールをご覧ください"
    return await at.mails(address, AGAIN, count)


def line_of(mail: Taken, label: str) -> str:
    found = re.search(rf"(?m)^{label}：(.+)$", body(mail))
    assert found, body(mail)
    return found[1]


@pytest.mark.row("YK-1")
async def test_the_qr_code_holds_the_address_and_a_blank_mail_to_it_is_answered(at: Stage) -> None:
    picture = at.robot.folder / "qr.png"
    await asyncio.to_thread(at.robot.command, "qr", ME, "--out", str(picture))
    scanned = await asyncio.to_thread(
        lambda: subprocess.run([program("zbarimg"), "-q", "--raw", picture], capture_output=True, text=True, timeout=60)
    )
    assert scanned.stdout.strip() == f"mailto:{TO}"
    sender, message_id = at.new_address(), "<blank-1@phone.example>"
    answer = await asyncio.to_thread(
        at.robot.send_blank_mail, sender, scanned.stdout.strip().removeprefix("mailto:"), message_id=message_id
    )
    assert answer[0] == 250
    (mail,) = await at.mails(sender)
    assert mail.message["Subject"] == INVITED
    assert mail.message["In-Reply-To"] == message_id
    assert mail.message["Auto-Submitted"] == "auto-replied"


@pytest.mark.row("YK-2")
async def test_the_answer_says_who_for_how_long_and_what_else(at: Stage) -> None:
    sender = at.new_address()
    url = await invitation(at.robot, at.sink, sender, TO)
    (mail,) = await at.mails(sender, INVITED)
    text = body(mail)
    assert re.search(rf"(?m)^{re.escape(url)}$", text)
    assert in_order(
        text,
        NAME,
        "申し込まれた方にお送りしています",
        url,
        "3時間",
        "メールアドレスの登録からやり直してください",
        "お心あたりのないとき",
        "捨ててください",
        "返信はお受けできません",
    )
    issued = parsedate_to_datetime(mail.message["Date"])
    assert timedelta(0) <= issued + timedelta(hours=3) - time_in(text) < timedelta(minutes=2)


@pytest.mark.row("YK-2")
async def test_the_url_lives_three_hours(at: Stage) -> None:
    sender = at.new_address()
    url = await invitation(at.robot, at.sink, sender, TO)
    await at.age_links(sender, 3 * HOUR - MINUTE)
    async with Member(at.robot.web) as member:
        page = await member.get(url)
        assert page.heading == "新規利用登録"
        await at.age_links(sender, MINUTE)
        for late in (await member.get(url), await member.submit(page, {"login_id": "1", "password": "2"})):
            assert (late.status, late.heading) == (410, "このリンクは使えません")
            assert "有効な時間が過ぎている" in late.text
            assert late.link(TO) == f"mailto:{TO}"
            assert late.link("新しいご案内") == url_of(at, "entry")


@pytest.mark.row("YK-3", "YK-16")
async def test_the_url_opens_the_temporary_login(at: Stage) -> None:
    letter, sender = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as member:
        page = await member.get(await invitation(at.robot, at.sink, sender, TO))
        assert page.heading == "新規利用登録"
        assert labels(page) == ["ログインID", "仮パスワード"]
        assert buttons(page) == ["ログイン"]
        for login_id, password in (
            (letter.printed_id, "00000000"),
            ("00000000", letter.printed_password),
        ):
            wrong = await member.submit(page, {"login_id": login_id, "password": password})
            assert (wrong.status, wrong.heading) == (422, "新規利用登録")
            assert "ログインIDまたは仮パスワードが違います" in " ".join(wrong.errors)
        empty = await member.submit(page, {"login_id": letter.printed_id, "password": ""})
        assert (empty.status, empty.errors) == (422, ["仮パスワードを入力してください。"])
        page = await member.submit(page, {"login_id": letter.printed_id, "password": letter.printed_password})
        assert page.heading == "利用者情報入力"


@pytest.mark.row("YK-4", "YK-16")
async def test_the_form_is_filled_in_with_what_is_known_from_the_blank_mail(at: Stage) -> None:
    letter, sender = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as member:
        page = await member.get(await invitation(at.robot, at.sink, sender, TO))
        page = await member.submit(page, {"login_id": letter.printed_id, "password": letter.printed_password})
        assert page.heading == "利用者情報入力"
        assert labels(page) == ["新ログインID", "新パスワード", "新パスワード(確認)", "メールアドレス", "ニックネーム"]
        assert list(needs(page).values()) == ["※必須"] * 4 + ["※任意"]
        assert buttons(page)[-1] == "登録"
        values = [page.value(name) for name in ("login_id", "password", "password_again", "address", "nickname")]
        assert values == ["", "", "", sender, letter.nickname]


@pytest.mark.row("YK-4")
@pytest.mark.parametrize(("typed", "kept"), [("", None), ("うみねこ", "うみねこ")])
async def test_the_nickname_is_a_choice_and_empty_keeps_the_temporary_one(
    at: Stage, typed: str, kept: str | None
) -> None:
    letter, address = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as member:
        page = await at.credentials_page(member, ME, letter, address)
        assert (page.value("address"), page.value("nickname")) == (address, letter.nickname)
    account = await at.register(ME, letter, nickname=typed)
    async with at.logged_in(ME, account) as (_, home):
        assert home.heading == f"こんにちは、{kept or letter.nickname} さん"


@pytest.mark.row("YK-4")
async def test_passwords_that_differ_and_a_wrong_address_are_said_and_nothing_typed_is_lost(at: Stage) -> None:
    async with Member(at.robot.web) as member:
        page = await at.credentials_page(member, ME, at.letter(ME), at.new_address())
        fields = {
            "login_id": "kazenone",
            "password": PASSWORD,
            "password_again": PASSWORD + "x",
            "address": "umi.phone.example",
            "nickname": "うみ",
        }
        page = await member.submit(page, fields)
        assert page.status == 422
        assert "1回目と2回目の入力が違います" in " ".join(page.errors)
        assert "メールアドレスに「@」が入っていません" in " ".join(page.errors)
        kept = [page.value(name) for name in ("login_id", "password", "address", "nickname")]
        assert kept == ["kazenone", "", "umi.phone.example", "うみ"]


POSITIONS = "7文字目と8文字目には、数字を使えません"
REFUSED_IDS = ("kazenok2", "kazeno2k", "kazeno22", "KAZENO2k", "ｋａｚｅｎｏ２ｋ", "12345678")
TAKEN_IDS = ("k2z3n4me", "kazenokaze2", "kaze-77", "umi22", "umineko77", "1234567", "123456789")


@pytest.mark.row("YK-5")
async def test_at_registration_an_id_of_eight_has_no_digit_in_places_seven_and_eight(at: Stage) -> None:
    letter = at.letter(ME)
    async with Member(at.robot.web) as member:
        page = await at.credentials_page(member, ME, letter, at.new_address())
        assert "8文字にするときは、7文字目と8文字目に数字を使えません" in page.text
        for login_id in (*REFUSED_IDS, letter.printed_id):
            fields = {"login_id": login_id, "password": PASSWORD, "password_again": PASSWORD}
            page = await member.submit(page, fields)
            assert (page.status, page.heading) == (422, "利用者情報入力"), login_id
            assert f"新ログインIDの{POSITIONS}" in " ".join(page.errors), login_id
        page = await member.submit(page, {**fields, "login_id": "a2b3c4de"})
        assert page.heading == "利用者情報登録完了"


@pytest.mark.row("YK-5")
async def test_the_profile_keeps_the_rule_of_the_login_id(at: Stage) -> None:
    account = await at.register(ME)
    async with at.logged_in(ME, account) as (member, _):
        page = await member.get(f"/{ME}/profile")
        assert "8文字にするときは、7文字目と8文字目に数字を使えません" in page.text
        assert "お知らせのIDと同じ形（数字8文字）のものは選べません" in page.text
        for login_id in (*REFUSED_IDS, account.letter.printed_id):
            page = await member.submit(page, {"login_id": login_id, "password": PASSWORD})
            assert page.status == 422, login_id
            assert f"ログインIDの{POSITIONS}" in " ".join(page.errors), login_id
        for login_id in TAKEN_IDS:
            page = await member.submit(page, {"login_id": login_id, "password": PASSWORD})
            assert (page.status, page.value("login_id")) == (200, login_id), page.errors
    async with at.logged_in(ME, replace(account, login_id=TAKEN_IDS[-1])):
        pass


REFUSED_PASSWORDS = {
    "abc-123": "8文字以上",
    "kazenooto": "数字を1文字以上",
    "KAZENOOTO1": "英小文字を1文字以上",
    "kazenooto1.": "「.」は使えません",
    "kazeno$oto1": "「$」は使えません",
    "kazeno(oto)1": "「(」「)」は使えません",
    "kazeno oto1": "「空白」は使えません",
    "風kazenooto1": "「風」は使えません",
    "kazeno:oto1": "「:」は使えません",
    "kazeno'oto\"1": "「'」「\"」は使えません",
    "kazeno~oto|1": "「~」「|」は使えません",
}
TAKEN_PASSWORDS = ("kaze-no1", "ab1_#+,/=?!@*%&^`-", "KAZEkumo7", "9umi9umi", "x" * 7 + "2yz")


@pytest.mark.row("YK-6")
async def test_registration_takes_passwords_under_the_rule_only(at: Stage) -> None:
    async with Member(at.robot.web) as member:
        page = await at.credentials_page(member, ME, at.letter(ME), at.new_address())
        for sign in "_#+,/=?!@*%&^`-":
            assert f" {sign}" in page.text
        for password, words in REFUSED_PASSWORDS.items():
            fields = {"login_id": "kazegumo", "password": password, "password_again": password}
            page = await member.submit(page, fields)
            assert (page.status, page.heading) == (422, "利用者情報入力"), password
            assert any(error.startswith("新パスワード") and words in error for error in page.errors), page.errors
        signs = TAKEN_PASSWORDS[1]
        page = await member.submit(page, {"login_id": "kazegumo", "password": signs, "password_again": signs})
        assert page.heading == "利用者情報登録完了"
        assert (await log_in(member, ME, "kazegumo", signs)).heading.startswith("こんにちは")


@pytest.mark.row("YK-6")
async def test_a_later_change_takes_passwords_under_the_rule_only(at: Stage) -> None:
    account = await at.register(ME)
    async with at.logged_in(ME, account) as (member, _):
        page = await member.get(f"/{ME}/password")
        for password, words in REFUSED_PASSWORDS.items():
            page = await member.submit(page, {"old": PASSWORD, "new": password, "again": password})
            assert page.status == 422, password
            assert any(words in error for error in page.errors), page.errors
        old = PASSWORD
        for password in TAKEN_PASSWORDS:
            page = await member.get(f"/{ME}/password")
            page = await member.submit(page, {"old": old, "new": password, "again": password})
            assert "パスワードを変更しました" in page.text, page.errors
            old = password


@pytest.mark.row("YK-7", "YK-16")
async def test_the_end_is_a_page_with_a_button_to_login_and_the_completion_mail(at: Stage) -> None:
    address = at.new_address()
    async with Member(at.robot.web) as member:
        page = await at.credentials_page(member, ME, at.letter(ME), address)
        assert not [mail for mail in at.sink.to(address) if mail.message["Subject"] == DONE]
        fields = {"login_id": "umigame-", "password": PASSWORD, "password_again": PASSWORD}
        page = await member.submit(page, fields)
        assert page.heading == "利用者情報登録完了"
        assert buttons(page)[0] == "ログイン画面"
        assert page.link("ログイン画面") == url_of(at, "login")
        (mail,) = await at.mails(address, DONE)
        assert link_in(mail) == url_of(at, "login")
        assert (await member.get(link_in(mail))).heading == "ログイン"
        assert (await member.get(page.url)).heading == "利用者情報登録完了"
    assert len(await at.mails(address, DONE)) == 1


@pytest.mark.row("YK-8", "YK-16")
async def test_the_web_entry_sends_the_same_mail(at: Stage) -> None:
    typed, sender = at.new_address(), at.new_address()
    async with Member(at.robot.web) as member:
        page = await member.follow(await member.get(f"/{ME}/login"), "新規利用登録")
        assert page.heading == "新規利用登録"
        assert labels(page) == ["メールアドレス"]
        assert buttons(page) == ["送信する"]
        page = await member.submit(page, {"address": typed})
        assert page.heading == "メールをご覧ください"
        assert typed in page.text
        (mail,) = await at.mails(typed)
        await invitation(at.robot, at.sink, sender, TO)
        (answer,) = await at.mails(sender)
        assert mail.message["Subject"] == answer.message["Subject"] == INVITED
        assert same_but_for_link_and_time(mail) == same_but_for_link_and_time(answer)
        assert mail.message["Auto-Submitted"] == "auto-generated"
        assert (await member.get(link_in(mail))).heading == "新規利用登録"


@pytest.mark.row("YK-9")
async def test_login_leads_home_at_once_with_nickname_and_last_login(at: Stage) -> None:
    account = await at.register(ME)
    before = len(at.sink.to(account.address))
    async with Member(at.robot.web) as member:
        for login_id, password in (
            (account.letter.printed_id, account.letter.printed_password),
            (account.login_id, account.letter.printed_password),
        ):
            page = await log_in(member, ME, login_id, password)
            assert (page.status, page.heading) == (422, "ログイン")
    async with at.logged_in(ME, account) as (_, home):
        assert home.heading == f"こんにちは、{account.letter.nickname} さん"
        assert "前回のログイン 今回がはじめてです" in home.text
    # forty days later
    await at.sql("UPDATE member SET last_login_at = last_login_at - ? WHERE login_id = ?", 40 * DAY, account.login_id)
    ((last,),) = await at.sql("SELECT last_login_at FROM member WHERE login_id = ?", account.login_id)
    assert abs(last + 40 * DAY - time.time() * 1000) < 5 * MINUTE
    async with at.logged_in(ME, account) as (_, home):
        assert f"前回のログイン {day(last)}" in home.text
    assert len(at.sink.to(account.address)) == before


@pytest.mark.row("YK-10", "YK-16")
async def test_reissue_by_mail_with_a_temporary_password_of_eight_letters(at: Stage) -> None:
    account = await at.register(ME)
    async with Member(at.robot.web) as member:
        page = await member.follow(await member.get(f"/{ME}/login"), "ログインID・パスワードを忘れた方")
        assert page.heading == "パスワード再発行"
        assert labels(page) == ["メールアドレス"]
        assert buttons(page) == ["送信"]
        await member.submit(page, {"address": account.address})
        (mail,) = await at.mails(account.address, AGAIN)
        text, url = body(mail), link_in(mail)
        temporary = line_of(mail, "仮パスワード")
        assert line_of(mail, "ログインID") == account.login_id
        assert re.fullmatch("[A-Za-z]{8}", temporary)
        assert in_order(
            text,
            f"{account.letter.nickname} 様",
            url,
            "3時間",
            "お心あたりのないとき",
            "捨ててください",
            "返信はお受け",
        )
        issued = parsedate_to_datetime(mail.message["Date"])
        assert timedelta(0) <= issued + timedelta(hours=3) - time_in(text) < timedelta(minutes=2)
        async with at.logged_in(ME, account):
            pass  # asking changes nothing

        page = await member.get(url)
        assert flat(page.heading) == flat("仮ログイン (パスワード再発行)")
        assert labels(page) == ["ログインID", "仮パスワード"]
        assert buttons(page) == ["ログイン"]
        for login_id, password in ((account.login_id, temporary[::-1]), ("kumo-none", temporary), ("", "")):
            wrong = await member.submit(page, {"login_id": login_id, "temporary_password": password})
            assert (wrong.status, flat(wrong.heading)) == (422, "仮ログイン（パスワード再発行）")
        page = await member.submit(page, {"login_id": account.login_id, "temporary_password": temporary})
        assert flat(page.heading) == flat("パスワード変更 (パスワード再発行)")
        assert labels(page) == ["新しいパスワード", "パスワード確認"]
        assert buttons(page)[-1] == "登録"
        for password, words in REFUSED_PASSWORDS.items():
            page = await member.submit(page, {"password": password, "password_again": password})
            assert page.status == 422, password
            assert any(words in error for error in page.errors), page.errors
        page = await member.submit(page, {"password": PASSWORD, "password_again": NEXT_PASSWORD})
        assert "1回目と2回目の入力が違います" in " ".join(page.errors)
        page = await member.submit(page, {"password": NEXT_PASSWORD, "password_again": NEXT_PASSWORD})
        assert page.heading == "パスワードを変更しました"
        for old in (PASSWORD, temporary):
            assert (await log_in(member, ME, account.login_id, old)).status == 422
    async with at.logged_in(ME, replace(account, password=NEXT_PASSWORD)):
        pass
    async with Member(at.robot.web) as stranger:
        assert (await stranger.get(url)).status == 410


@pytest.mark.row("YK-10")
async def test_the_reissued_temporary_password_lives_three_hours(at: Stage) -> None:
    account = await at.register(ME)
    (mail,) = await ask_reissue(at, account.address)
    fields = {"login_id": account.login_id, "temporary_password": line_of(mail, "仮パスワード")}
    await at.age_links(account.address, 3 * HOUR - MINUTE)
    async with Member(at.robot.web) as late, Member(at.robot.web) as member:
        too_late = await late.get(link_in(mail))
        page = await member.submit(await member.get(link_in(mail)), fields)
        assert flat(page.heading) == "パスワード変更（パスワード再発行）"
        await at.age_links(account.address, MINUTE)
        for page in (await late.submit(too_late, fields), await late.get(link_in(mail))):
            assert (page.status, page.heading) == (410, "このリンクは使えません")
            assert page.link("忘れた方") == url_of(at, "reissue")
    async with at.logged_in(ME, account):
        pass


@pytest.mark.row("YK-10")
async def test_a_shared_address_gets_one_mail_for_each_account(at: Stage) -> None:
    address = at.new_address()
    both: list[Account] = [await at.register(ME, address=address) for _ in range(2)]
    mails = await ask_reissue(at, address, 2)
    assert {line_of(mail, "ログインID") for mail in mails} == {one.login_id for one in both}
    for one in both:
        (mine,) = (mail for mail in mails if line_of(mail, "ログインID") == one.login_id)
        assert f"{one.letter.nickname} 様" in body(mine)
        async with Member(at.robot.web) as member:
            fields = {"login_id": one.login_id, "temporary_password": line_of(mine, "仮パスワード")}
            page = await member.submit(await member.get(link_in(mine)), fields)
            assert flat(page.heading) == "パスワード変更（パスワード再発行）"
            (other,) = (mail for mail in mails if mail is not mine)
            wrong = await member.submit(await member.get(link_in(other)), fields)
            assert wrong.status == 422


@pytest.mark.row("YK-10")
async def test_an_unknown_address_gets_no_mail_and_the_same_page(at: Stage) -> None:
    account, unknown = await at.register(ME), at.new_address()
    pages = []
    async with Member(at.robot.web) as member:
        for address in (unknown, account.address):
            page = await member.submit(await member.get(f"/{ME}/reissue"), {"address": address})
            pages.append(page.text.replace(address, "ADDRESS"))
    await at.mails(account.address, AGAIN)
    assert pages[0] == pages[1]
    assert at.sink.to(unknown) == []


@pytest.mark.row("YK-11")
async def test_the_profile_has_these_fields_and_its_choices_reach_the_portal(at: Stage) -> None:
    account, second, third = await at.register(ME), at.new_address(), at.new_address()
    async with at.logged_in(ME, account) as (member, home):
        page = await member.follow(home, "プロフィール設定")
        assert page.heading == "プロフィール設定"
        asked = needs(page)
        names = ["ログインID", "ニックネーム", "メールアドレス1", "メールアドレス2", "メールアドレス3"]
        assert list(asked)[:5] == names
        assert [asked[name] for name in names] == ["※必須"] * 3 + ["※任意"] * 2
        wanted, shown = ["医療費通知更新", "ジェネリック通知更新"], ["医療費通知", "ジェネリック通知"]
        assert [label for label in labels(page) if label in wanted] == wanted
        assert [label.partition("：")[2] for label in labels(page) if label.startswith("世帯内での公開：")] == shown
        assert labels(page).count("公開しない") == labels(page).count("公開する") == 2
        assert page.tree.xpath("//input[@type='radio'][@checked]/@value") == ["no", "no"]
        for name in ("login_id", "nickname", "address_1"):
            refused = await member.submit(page, {name: "", "password": PASSWORD})
            assert refused.status == 422, name
        fields = {
            "nickname": "うみかぜ",
            "address_2": second,
            "address_3": third,
            "wanted.generic": "yes",
            "disclosure.iryouhi": "yes",
            "password": PASSWORD,
        }
        page = await member.submit(page, fields)
        assert "登録しました" in page.text, page.errors
        for address in (second, third):
            proof = await member.get(await at.link(address, "メールアドレスの確認のお願い"))
            assert (await member.submit(proof, button="このアドレスを使う")).heading == "メールアドレスを確認しました"
    async with at.logged_in(ME, account) as (member, _):
        page = await member.get(f"/{ME}/profile")
        kept = [page.value(name) for name in ("login_id", "nickname", "address_1", "address_2", "address_3")]
        assert kept == [account.login_id, "うみかぜ", account.address, second, third]
        assert page.tree.xpath("//input[@type='checkbox'][@checked]/@name") == ["wanted.generic"]
        assert page.tree.xpath("//input[@name='disclosure.iryouhi'][@checked]/@value") == ["yes"]
        assert page.tree.xpath("//input[@name='disclosure.generic'][@checked]/@value") == ["no"]
    line = (await at.exported(ME))[account.login_id]
    assert [line[f"メールアドレス{slot}"] for slot in (1, 2, 3)] == [account.address, second, third]
    assert (line["配信: 医療費通知更新"], line["配信: ジェネリック通知更新"]) == ("いいえ", "はい")
    assert (line["公開: 医療費通知"], line["公開: ジェネリック通知"]) == ("はい", "いいえ")
    for address in (second, third):
        assert line_of((await ask_reissue(at, address))[0], "ログインID") == account.login_id
        await at.age_links(address, HOUR)  # one reissue an hour


@pytest.mark.row("YK-12")
async def test_the_household_is_listed_by_nickname_with_oneself_first(at: Stage) -> None:
    taro = await at.register(ME, at.letters[ME]["港太郎"])
    hana = await at.register(ME, at.letters[ME]["港花子"], nickname="はなび")
    expected = [["みなと（ご本人）", "はなび", "かいと"], ["はなび（ご本人）", "みなと", "かいと"]]
    for account, names in zip((taro, hana), expected, strict=True):
        async with at.logged_in(ME, account) as (member, _):
            page = await member.get(f"/{ME}/profile")
            (box,) = page.tree.xpath("//section[@aria-labelledby='household']")
            assert [" ".join(node.text_content().split()) for node in box.xpath(".//li")] == names
            assert box.xpath(".//a|.//form|.//input") == []
            assert "港" not in page.text.replace(NAME, "")  # nobody's real name


@pytest.mark.row("YK-12")
async def test_nobody_elses_settings_can_be_opened(at: Stage) -> None:
    mine, other = await at.register(ME), await at.register(ME)
    ((other_id,),) = await at.sql("SELECT id FROM member WHERE login_id = ?", other.login_id)
    before = await at.sql("SELECT * FROM member WHERE id = ?", other_id)
    async with at.logged_in(ME, mine) as (member, _):
        for name in (f"profile/{other_id}", f"profile/{other.login_id}", f"member/{other_id}", f"home/{other_id}"):
            assert (await member.get(f"/{ME}/{name}")).status == 404, name
        for query in (f"member={other_id}", f"id={other_id}", f"login_id={other.login_id}"):
            page = await member.get(f"/{ME}/profile?{query}")
            assert page.value("login_id") == mine.login_id
        page = await member.get(f"/{ME}/profile")
        form = {name: page.value(name) for name in ("form-key", "login_id", "address_1")}
        for extra in ({"member_id": f"{other_id}"}, {"member": f"{other_id}"}, {"id": f"{other_id}"}):
            await member.client.post(f"/{ME}/profile", data={**form, "nickname": "のっとり", **extra})
        assert (await member.get(f"/{ME}/profile")).value("nickname") == "のっとり"
    assert await at.sql("SELECT * FROM member WHERE id = ?", other_id) == before
    async with Member(at.robot.web) as stranger:
        for name in ("profile", "home", "password"):
            assert (await stranger.get(f"/{ME}/{name}")).heading == "ログイン"


@pytest.mark.row("YK-14")
async def test_every_page_offers_larger_text(at: Stage) -> None:
    letter, address = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as member:
        page = await member.get(f"/{ME}/login")
        (sheet,) = [href for href in page.tree.xpath("//link[@rel='stylesheet']/@href") if "/site." in href]
        sizes = re.findall(
            r"text-(medium|large)\s*\{[^}]*font-size:\s*([\d.]+)(%|rem|em)", (await member.client.get(sheet)).text
        )
        assert [name for name, _, _ in sizes] == ["medium", "large"]
        assert float(sizes[0][1]) < float(sizes[1][1])
        pages = [
            page,
            *[await member.get(f"/{ME}/{name}") for name in ("entry", "entry/sent", "reissue", "help", "nothing")],
        ]
        page = await at.credentials_page(member, ME, letter, address)
        pages.append(page)
        fields = {"login_id": at.new_login_id(), "password": PASSWORD, "password_again": PASSWORD}
        pages.append(await member.submit(page, fields))
        pages.append(await log_in(member, ME, fields["login_id"], PASSWORD))
        pages += [await member.get(f"/{ME}/{name}") for name in ("profile", "password")]
        for page in pages:
            (nav,) = page.tree.xpath("//nav[@aria-label='文字サイズ']")
            assert [node.text_content() for node in nav.xpath(".//a")] == ["標準", "中", "大"], page.url
        for word, name in (("中", "medium"), ("大", "large")):
            page = await member.follow(await member.get(f"/{ME}/profile"), word)
            assert (page.heading, page.tree.get("class")) == ("プロフィール設定", f"text-{name}")
        assert (await member.get(f"/{ME}/login")).tree.get("class") == "text-large"


@pytest.mark.row("YK-15")
async def test_the_profile_advises(at: Stage) -> None:
    async with at.logged_in(ME, await at.register(ME)) as (member, _):
        page = await member.get(f"/{ME}/profile")
        advice = " ".join(page.tree.xpath("string(//main//ul[contains(@class,'advice')])").split())
        assert in_order(advice, "ニックネーム", "本名でないもの", "おすすめ")
        assert in_order(advice, "メールアドレス", "健保組合からのお知らせが届きます", "パスワードの再発行にも使います")
