"""What Omron's society wishes, row by row, from outside: a robot of its own, mails at a relay, pages over HTTP."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from datetime import date, timedelta

import pytest
import pytest_asyncio

from tests.support.identity import key_on, prove, wrong_key
from tests.support.member import Member, Page, log_in
from tests.support.robot import body, link_in
from tests.support.rows import (
    NEXT_PASSWORD,
    PASSWORD,
    Account,
    Letter,
    Stage,
    buttons,
    in_order,
    labels,
    person,
    stage,
)
from tests.support.servers import program

pytestmark = pytest.mark.asyncio(loop_scope="module")

ME = "omron"
NAME, ROBOT = "オムロン健康保険組合", "info@omron.example"
FORM = "https://forms.omron.example/login"
INVITED, SECOND, DONE = "利用登録手続きのご案内", "本人確認完了のご案内", "利用登録完了のご案内"
SENT, IDENTITY, KEY = "メールをご覧ください", "本人確認", "認証キーの入力"
NOTE_DOWN, CHOOSE, CHOSEN = "認証キーをひかえて、メールを開く", "登録のしかたを選ぶ", "ログインIDとパスワードの登録"
WANTED = ["医療費通知", "メールマガジン", "通知書・証明書", "健康情報誌", "申請書"]
LEFT = (date.today() - timedelta(days=40)).isoformat()

# Another society, that takes addresses of its companies only.
CLOSED = "azami"
AZAMI = """
name = "あざみ健康保険組合"
[addresses]
robot = "robot@azami.example"
bounce = "bounce@azami.example"
[[help]]
kind = "phone"
name = "あざみ窓口"
value = "03-2222-2222"
[entry]
domains = ["azami.example", "group.example"]
[journeys.paper]
starts = ["web-form"]
steps = ["temporary-login", "credentials"]
"""

PEOPLE = [
    person("髙見　結", "301", カナ氏名="タカミ　ユイ", 生年月日="1983-02-28"),
    person("継田　志保", "302", 資格喪失日=LEFT),
    person("双葉　一郎", "303", カナ氏名="フタバ　イチロウ", 生年月日="1990-05-05"),
    person("双葉　二郎", "303", カナ氏名="フタバ　ジロウ", 生年月日="1990-05-05"),
    person("離田　和", "304"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp(ME)
    async with stage(folder, {ME: PEOPLE, CLOSED: []}, files={CLOSED: AZAMI}) as running:
        yield running


async def identity_page(at: Stage, member: Member, address: str) -> Page:
    """From the web entry to the identity form."""
    page = await member.get(await at.invite(member, ME, address))
    assert page.heading == CHOOSE
    return await member.follow(page, "記号・番号で登録する")


async def key_page(at: Stage, member: Member, letter: Letter, address: str) -> tuple[Page, str]:
    """From the web entry to the page behind the second mail, and the number that was on the screen."""
    page, before = await identity_page(at, member, address), len(at.sink.to(address))
    shown = await prove(member, page, letter.row, address)
    assert shown.heading == NOTE_DOWN, shown.errors
    mail = (await at.mails(address, count=before + 1))[-1]
    assert mail.message["Subject"] == SECOND
    return await member.get(link_in(mail)), key_on(shown)


async def registered(at: Stage, letter: Letter | None = None) -> Account:
    """Somebody who went through it all, by symbol and number."""
    letter, address, login_id = letter or at.letter(ME), at.new_address(), at.new_login_id()
    async with Member(at.robot.web) as member:
        page, key = await key_page(at, member, letter, address)
        page = await member.submit(page, {"key": key})
        fields = {"login_id": login_id, "password": PASSWORD, "password_again": PASSWORD}
        done = await member.submit(page, fields)
        assert done.url.endswith("/done"), done.errors
    return Account(letter, address, login_id, PASSWORD, tuple(await at.mails(address, count=3)))


# --- registration -----------------------------------------------------------------------------------------------------


@pytest.mark.row("OM-1")
async def test_the_web_form_brings_the_mail_to_an_address_of_any_domain(at: Stage) -> None:
    async with Member(at.robot.web) as member:
        for address in ("shain@company.example", "jitaku@home.example"):
            entry = await member.follow(await member.get(f"/{ME}/login"), "新規利用登録")
            assert "会社のメールアドレスを入力してください" in entry.text
            assert (await member.submit(entry, {"address": address})).heading == SENT
            mail = (await at.mails(address, INVITED))[0]
            (sender,) = mail.message["From"].addresses
            assert (sender.display_name, sender.addr_spec) == (NAME, ROBOT)
            assert link_in(mail).startswith(f"{at.robot.web}/{ME}/r/")
            assert in_order(body(mail), "健康保険の記号と番号", "発行から3時間")


@pytest.mark.row("OM-1")
async def test_a_society_may_take_addresses_of_its_companies_only(at: Stage) -> None:
    async with Member(at.robot.web) as member:
        for domain in ("home.example", "notazami.example", "azami.example.home.example"):
            page = await member.submit(await member.get(f"/{CLOSED}/entry"), {"address": f"hana@{domain}"})
            assert page.status == 422
            assert page.errors == [
                "このメールアドレスでは登録できません。「@azami.example」、「@group.example」で終わるメールアドレスを"
                "入力してください。"
            ]
            assert page.value("address") == f"hana@{domain}"
            assert page.tree.xpath("//input[@name='address'][@aria-invalid='true']")
        for address in ("hana@azami.example", "Hana@Kansai.GROUP.example"):
            page = await member.submit(await member.get(f"/{CLOSED}/entry"), {"address": address})
            assert page.heading == SENT
        await at.mails("hana@azami.example", INVITED)
    assert not [mail for mail in at.sink.mails if "hana@home.example" in mail.rcpt_tos]


@pytest.mark.row("OM-2")
async def test_the_url_opens_the_identity_form(at: Stage) -> None:
    address = at.new_address()
    async with Member(at.robot.web) as member:
        page = await identity_page(at, member, address)
        assert page.heading == IDENTITY
        asked = labels(page)
        assert asked[:4] == ["メールアドレス", "被保険者記号", "被保険者番号", "生年月日"]
        lists = page.tree.xpath("//select/@name")
        assert lists == ["birth_date_year", "birth_date_month", "birth_date_day"]
        years = page.tree.xpath("//select[@name='birth_date_year']/option/@value")
        this_year = date.today().year
        assert {str(this_year), "1989", "1926", str(this_year - 110)} <= set(years)
        assert page.tree.xpath("//script[@src]"), "the captcha's"
        assert page.tree.xpath("//noscript//input[@name='captcha']")


@pytest.mark.row("OM-2")
async def test_another_address_than_the_invited_one_is_an_error_at_its_field(at: Stage) -> None:
    address, letter = at.new_address(), at.letter(ME)
    async with Member(at.robot.web) as member:
        page = await identity_page(at, member, address)
        page = await prove(member, page, letter.row, "somebody@else.example")
        assert page.status == 422
        assert page.errors == [
            "ご案内のメールが届いたメールアドレスを入力してください。いまの入力は、それと違います。"
        ]
        assert page.tree.xpath("//input[@name='address'][@aria-invalid='true']")
        # what was typed stays, also what was chosen from the lists
        assert page.value("number") == letter.row["番号"]
        chosen = page.tree.xpath("//select/option[@selected]/@value")
        assert chosen == ["1970", "4", "1"]
        # the same address in other letters and widths is the same
        shown = await prove(member, page, letter.row, address.replace("phone.example", "ＰＨＯＮＥ.example"))
        assert shown.heading == NOTE_DOWN, shown.errors


@pytest.mark.row("OM-2")
async def test_symbol_and_number_are_read_however_they_are_typed(at: Stage) -> None:
    async with Member(at.robot.web) as member:
        for symbol, number in (("７７", "{}"), ("0077", "00{}"), (" 7-7 ", "{}　")):
            letter, address = at.letter(ME), at.new_address()
            page = await identity_page(at, member, address)
            typed = {"symbol": symbol, "number": number.format(letter.row["番号"])}
            assert (await prove(member, page, letter.row, address, **typed)).heading == NOTE_DOWN


@pytest.mark.row("OM-2")
async def test_whatever_does_not_fit_is_one_sentence(at: Stage) -> None:
    twins = [at.letters[ME][f"双葉　{name}"] for name in ("一郎", "二郎")]
    done, free = (await registered(at)).letter, at.letter(ME)
    said = set()
    async with Member(at.robot.web) as member:
        for row, wrong in (
            (free.row, {"birth_date_day": "2"}),
            (free.row, {"symbol": "78"}),
            (free.row, {"number": "999999"}),
            (twins[0].row, {}),
            (done.row, {}),
        ):
            address = at.new_address()
            page = await prove(member, await identity_page(at, member, address), row, address, **wrong)
            assert (page.status, page.heading) == (422, IDENTITY)
            said.add(tuple(page.errors))
            assert len(at.sink.to(address)) == 1, "no second mail"
    ((sentence,),) = said
    asked = "被保険者記号、被保険者番号、生年月日"
    assert in_order(sentence, asked, "お困りのときは", "利用登録がお済みの方は、ログイン画面")


@pytest.mark.row("OM-3", "OM-4")
async def test_a_key_on_the_screen_and_a_second_mail_to_the_same_address(at: Stage) -> None:
    address, letter = at.new_address(), at.letter(ME)
    async with Member(at.robot.web) as member, Member(at.robot.web) as phone:
        shown = await prove(member, await identity_page(at, member, address), letter.row, address)
        assert shown.heading == NOTE_DOWN
        key = key_on(shown)
        assert in_order(shown.text, "認証キー", key, "紙にひかえてください", address)
        assert key_on(await member.get(shown.url)) == key, "the same at every visit"
        mail = (await at.mails(address, SECOND))[0]
        assert key not in body(mail)
        page = await phone.get(link_in(mail))  # any browser
        assert page.heading == KEY
        assert labels(page) == ["認証キー"]
        assert letter.row["氏名"] not in page.text
        wrong = await phone.submit(page, {"key": wrong_key(key)})
        assert (wrong.status, wrong.heading) == (422, KEY)
        assert "あと4回入力できます" in wrong.errors[0]
        wide = key.translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
        assert (await phone.submit(wrong, {"key": f" {wide[:2]} {wide[2:]}"})).heading == CHOSEN


@pytest.mark.row("OM-4")
async def test_after_five_wrong_keys_the_journey_ends(at: Stage) -> None:
    address, letter = at.new_address(), at.letter(ME)
    async with Member(at.robot.web) as member:
        page, key = await key_page(at, member, letter, address)
        for _ in range(4):
            page = await member.submit(page, {"key": wrong_key(key)})
            assert page.status == 422
        ended = await member.submit(page, {"key": wrong_key(key)})
        assert (ended.status, ended.heading) == (410, "この手続きを終わりました")
        assert (await member.submit(page, {"key": key})).status == 410
        assert (await member.get(await at.link(address, SECOND))).status == 410
        # nothing is lost but the time: another mail, and on it goes
        assert (await member.follow(ended, "新しいご案内をメールで受け取る")).heading == "新規利用登録"
        page, key = await key_page(at, member, letter, address)
        assert (await member.submit(page, {"key": key})).heading == CHOSEN


@pytest.mark.row("OM-5", "OM-6")
async def test_with_the_key_login_id_and_password_are_chosen(at: Stage) -> None:
    letter, address = at.letters[ME]["髙見　結"], at.new_address()
    async with Member(at.robot.web) as member:
        page, key = await key_page(at, member, letter, address)
        page = await member.submit(page, {"key": key})
        assert page.heading == CHOSEN
        assert in_order(page.text, "新しいログインID", "8文字以上39文字以内", "パスワード", "10文字以上", "39文字まで")
        assert in_order(page.text, "メールアドレス", address, "ここでは変えられません", "ニックネーム")
        assert not page.tree.xpath("//input[@name='address']")
        assert page.value("nickname") == "髙見　結"
        good = {"login_id": "yui.takami", "password": PASSWORD, "password_again": PASSWORD}
        for wrong in (
            {"login_id": "yui-007"},
            {"login_id": "y" * 40},
            {"login_id": "yui_takami"},
            *({"password": text, "password_again": text} for text in _WRONG_PASSWORDS),
            {"password_again": NEXT_PASSWORD},
        ):
            refused = await member.submit(page, {**good, **wrong})
            assert (refused.status, refused.heading) == (422, CHOSEN), wrong
            assert address in refused.text
        done = await member.submit(page, {**good, "nickname": "ゆい"})
        assert "ゆい さんの利用登録が終わりました" in done.text
        assert in_order(done.text, "yui.takami", "お気に入り（ブックマーク）")
        assert (await member.follow(done, "ログイン画面")).heading == "ログイン"
    mail = (await at.mails(address, DONE))[0]
    assert link_in(mail) == f"{at.robot.web}/{ME}/login"
    found = at.robot.json("member", "find", ME, "髙見　結")[0]["member"]
    assert at.robot.json("member", "show", ME, found)["addresses"] == [f"1: {address}"]


_WRONG_PASSWORDS = (
    "Tsuki-202",  # 9
    "Tsuki-2026-" + "a" * 29,  # 40
    "tsuki-2026-ame",
    "TSUKI-2026-AME",
    "Tsuki-ame-kaze",
    "Tsuki2026ame",
    "Tsuki_2026-ame",
    "Tsuki-2026-雨",
)


@pytest.mark.row("OM-5")
async def test_every_character_of_the_rule_may_be_used(at: Stage) -> None:
    letter, address, signs = at.letter(ME), at.new_address(), "#+,/=?!@*%&^`-."
    async with Member(at.robot.web) as member:
        page, key = await key_page(at, member, letter, address)
        page = await member.submit(page, {"key": key})
        password = f"Aoi7{signs}"
        fields = {"login_id": f"z9{signs}", "password": password, "password_again": password}
        done = await member.submit(page, fields)
        assert done.url.endswith("/done"), done.errors
        assert (await log_in(member, ME, f"z9{signs}", password)).url.endswith("/home")


# --- with an account --------------------------------------------------------------------------------------------------


@pytest.mark.row("OM-7")
async def test_the_home_page_shows_the_own_name_and_says_to_report_a_wrong_one(at: Stage) -> None:
    account = await registered(at)
    async with at.logged_in(ME, account) as (member, home):
        saved = await member.submit(await member.get(f"/{ME}/profile"), {"nickname": "通りすがり"})
        assert saved.status == 200
        home = await member.get(f"/{ME}/home")
        name = account.letter.row["氏名"]
        assert in_order(home.text, "通りすがり", f"お名前 {name} 様", "違うときは", "ご連絡ください")


@pytest.mark.row("OM-8")
async def test_the_profile_has_all_wanted_mails_ticked_at_first(at: Stage) -> None:
    account = await registered(at)
    columns = [f"配信メール：{name}" for name in WANTED]
    async with at.logged_in(ME, account) as (member, _):
        page = await member.get(f"/{ME}/profile")
        asked = labels(page)
        assert asked[:5] == ["ログインID", "ニックネーム", *(f"メールアドレス{slot}" for slot in (1, 2, 3))]
        assert [label for label in asked if label in WANTED] == WANTED
        boxes = page.tree.xpath("//input[@type='checkbox']")
        assert len(boxes) == len(WANTED)
        assert all(box.get("checked") is not None for box in boxes)
        assert in_order(page.text, "会社のものではないメールアドレス", "印を付けたままにしておく")
        # who never saved wants them too, as the portal is told
        line = (await at.exported(ME))[account.login_id]
        told = [value for name, value in line.items() if any(one in name for one in WANTED)]
        assert len(told) == len(columns)
        assert len(set(told)) == 1
        boxes[1].attrib.pop("checked")
        second = at.new_address()
        saved = await member.submit(page, {"address_2": second, "password": PASSWORD})
        assert saved.status == 200, saved.errors
        await member.submit(await member.get(await at.link(second, "メールアドレスの確認のお願い")))
        again = await member.get(f"/{ME}/profile")
        assert again.value("address_2") == second
        ticked = [box.get("checked") is not None for box in again.tree.xpath("//input[@type='checkbox']")]
        assert ticked == [True, False, True, True, True]
        line = (await at.exported(ME))[account.login_id]
        (magazine,) = [value for name, value in line.items() if "メールマガジン" in name]
        assert magazine != told[0]


@pytest.mark.row("OM-9", "OM-16")
async def test_the_password_is_changed_and_may_be_looked_at(at: Stage) -> None:
    account = await registered(at)
    async with at.logged_in(ME, account) as (member, _):
        page = await member.get(f"/{ME}/password")
        assert labels(page) == ["変更前パスワード", "変更後パスワード", "パスワード確認"]
        assert buttons(page) == ["パスワードを表示する", "登録"]
        fields = {"old": PASSWORD, "new": NEXT_PASSWORD, "again": NEXT_PASSWORD}
        shown = await member.submit(page, fields, button="パスワードを表示する")
        assert shown.value("new") == NEXT_PASSWORD
        assert {node.get("type") for node in shown.tree.xpath("//input[@name='new']")} == {"text"}
        assert (await member.submit(page, {**fields, "old": NEXT_PASSWORD})).status == 422
        assert (await member.submit(page, fields)).url.endswith("/home?changed=1")
    async with Member(at.robot.web) as member:
        assert (await log_in(member, ME, account.login_id, PASSWORD)).status == 422
        assert (await log_in(member, ME, account.login_id, NEXT_PASSWORD)).url.endswith("/home")


@pytest.mark.row("OM-10")
async def test_a_forgotten_password_is_set_anew_from_the_registered_address(at: Stage) -> None:
    account = await registered(at)
    async with Member(at.robot.web) as member:
        await member.submit(await member.get(f"/{ME}/reissue"), {"address": account.address})
        mail = (await at.mails(account.address, "パスワード再発行のご案内"))[0]
        assert account.login_id not in body(mail)
        page = await member.get(link_in(mail))
        fields = {"password": NEXT_PASSWORD, "password_again": NEXT_PASSWORD}
        assert (await member.submit(page, fields)).url.endswith("/reissue/done")
        assert (await log_in(member, ME, account.login_id, NEXT_PASSWORD)).url.endswith("/home")


@pytest.mark.row("OM-11")
async def test_members_told_by_paper_use_their_temporary_credentials(at: Stage) -> None:
    letter, address, login_id = at.letter(ME), at.new_address(), at.new_login_id()
    async with Member(at.robot.web) as member:
        choose = await member.get(await at.invite(member, ME, address))
        assert (choose.heading, len(buttons(choose))) == (CHOOSE, 2)
        page = await member.follow(choose, "紙のお知らせで登録する")
        assert labels(page) == ["ログインID", "仮パスワード"]
        assert page.link("ログイン・パスワード専用窓口") == FORM, "who lost the paper"
        page = await member.submit(page, {"login_id": letter.printed_id, "password": letter.printed_password})
        assert page.heading == CHOSEN
        fields = {"login_id": login_id, "password": PASSWORD, "password_again": PASSWORD}
        assert (await member.submit(page, fields)).url.endswith("/done")
    subjects = [mail.message["Subject"] for mail in await at.mails(address, count=2)]
    assert subjects == [INVITED, DONE]
    async with Member(at.robot.web) as member:
        assert (await log_in(member, ME, login_id, PASSWORD)).url.endswith("/home")


@pytest.mark.row("OM-12")
@pytest.mark.parametrize("left", [False, True])
async def test_the_company_address_is_left_behind_without_access_to_it(at: Stage, left: bool) -> None:
    letter = at.letters[ME]["離田　和"] if left else at.letter(ME)
    account = await registered(at, letter)
    if left:
        gone = {**letter.row, "資格喪失日": LEFT}
        await asyncio.to_thread(at.robot.import_roster, ME, gone)
        found = at.robot.json("member", "find", ME, letter.row["氏名"])[0]["member"]
        assert LEFT in str(at.robot.json("member", "show", ME, found))
    private = at.new_address()
    async with at.logged_in(ME, account) as (member, _):
        page = await member.get(f"/{ME}/profile")
        assert "会社のメールアドレスが使えなくなったあとでも変えられます" in page.text
        saved = await member.submit(page, {"address_1": private, "password": PASSWORD})
        assert saved.status == 200, saved.errors
        # proved from the new mailbox alone
        proved = await member.submit(await member.get(await at.link(private, "メールアドレスの確認のお願い")))
        assert proved.heading == "メールアドレスを確認しました"
        assert (await member.get(f"/{ME}/profile")).value("address_1") == private
    told = (await at.mails(account.address, "メールアドレス変更のお知らせ"))[0]
    assert private not in body(told)
    async with at.logged_in(ME, account) as (_, home):
        assert home.url.endswith("/home")


@pytest.mark.row("OM-13")
async def test_who_left_and_is_not_registered_yet_registers_with_any_address(at: Stage) -> None:
    account = await registered(at, at.letters[ME]["継田　志保"])
    assert [mail.message["Subject"] for mail in account.mails] == [INVITED, SECOND, DONE]
    async with at.logged_in(ME, account) as (_, home):
        assert "継田　志保 様" in home.text or "継田 志保 様" in home.text


@pytest.mark.row("OM-14")
async def test_page_and_mail_of_the_end_invite_to_bookmark_the_login(at: Stage) -> None:
    account = await registered(at)
    text = body(account.mails[-1])
    assert in_order(text, f"{at.robot.web}/{ME}/login", "ログインのページをお気に入り（ブックマーク）")


@pytest.mark.row("OM-14")
async def test_the_printed_notice_holds_a_qr_code_of_the_login_page(at: Stage) -> None:
    found = at.robot.json("member", "find", ME, at.letter(ME).row["氏名"])[0]["member"]
    file = at.robot.folder / "notice.pdf"
    arguments = ("notice", "print", ME, "--out", str(file), "--member", found, "--all")
    await asyncio.to_thread(at.robot.command, *arguments)
    picture = file.with_suffix("")
    await _run("pdftoppm", "-r", "200", "-png", "-singlefile", str(file), str(picture))
    said = await _run("zbarimg", "--quiet", "--raw", f"{picture}.png")
    assert said.split() == [f"{at.robot.web}/{ME}/login"]


async def _run(name: str, *arguments: str) -> str:
    command = [str(program(name)), *arguments]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.row("OM-15")
async def test_pages_say_where_to_find_what_is_asked_and_whose_mail_to_allow(at: Stage) -> None:
    letter, address = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as member:
        entry = await member.get(f"/{ME}/entry")
        assert in_order(entry.text, ROBOT, "受け取れるように", "送信する")
        sent = await member.submit(entry, {"address": address})
        steps = (ROBOT, "まちがいがないか", "迷惑メール", ROBOT, "お困りのときは")
        assert in_order(sent.text, *steps)
        page = await member.follow(await member.get(await at.link(address, INVITED)), "記号・番号で登録する")
        for field, words in (("symbol", "数字2けた"), ("number", "1けたから6けた"), ("symbol", "マイナポータル")):
            (box,) = page.tree.xpath(f"//input[@name='{field}']")
            (hint,) = page.tree.xpath(f"//*[@id='{box.get('aria-describedby')}']")
            assert words in hint.text_content()
        assert in_order(page.text, "何を入力するか分からないとき", "資格情報を確認", "COMPANY")
        shown = await prove(member, page, letter.row, address)
        assert in_order(shown.text, *steps)
        for one in (entry, sent, page, shown):
            assert one.link("ログイン・パスワード専用窓口") == FORM


@pytest.mark.row("OM-16")
async def test_buttons_read_as_members_know_them(at: Stage) -> None:
    letter, address = at.letter(ME), at.new_address()
    async with Member(at.robot.web) as member:
        assert buttons(await member.get(f"/{ME}/entry")) == ["送信する"]
        page = await identity_page(at, member, address)
        assert buttons(page) == ["確認"]
        shown = await prove(member, page, letter.row, address)
        page = await member.get(await at.link(address, SECOND))
        assert buttons(page) == ["認証"]
        page = await member.submit(page, {"key": key_on(shown)})
        assert buttons(page)[-1] == "登録"
    async with at.logged_in(ME, await registered(at)) as (member, _):
        assert buttons(await member.get(f"/{ME}/profile"))[-1] == "登録"
