"""Pages of members who are registered: login, home, profile, password, reissue."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import select

from mailbot.delivery import outbox
from mailbot.registration import bounces, timetable
from mailbot.registration.mailfacts import mail_facts
from mailbot.registration.people import Person
from mailbot.store import tables
from tests.support.member import Member, Page
from tests.support.pages import House, house

PASSWORD = "sakura2026fuji"
NEXT = "momiji2027yama"
DAY_MS = 86_400_000
HOUSEHOLD = "1-2"


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as found:
        yield found


def browser(at: House, network: str = "203.0.113.9") -> Member:
    return Member(at.url, transport=httpx2.ASGITransport(app=at.app, client=(network, 5000)))


async def log_in(member: Member, society: str, login_id: str, password: str = PASSWORD) -> Page:
    page = await member.get(f"/{society}/login")
    return await member.submit(page, {"login_id": login_id, "password": password})


async def mailed(at: House, letter: str) -> list[dict[str, str | int]]:
    """Facts of the letters of one kind that wait in the outbox; they count as sent then."""
    async with at.ctx.store.begin() as tx:
        await timetable.due(at.ctx, tx, at.now)
        mails = await outbox.claim(tx, at.now, 50)
        facts = await mail_facts(at.ctx, tx, mails, at.now)
    return [
        dict(one) for mail, one in zip(mails, facts, strict=True) if mail.letter == letter and isinstance(one, dict)
    ]


async def test_home_greets_with_the_time_in_japan_and_the_login_before(at: House) -> None:
    await at.member("yokokou", "taro-y", PASSWORD, "taro@docomo.ne.jp")
    async with browser(at) as member:
        page = await log_in(member, "yokokou", "ＴＡＲＯ-y ")
        assert page.heading == "こんにちは、たろう さん"
        assert "2026年11月20日（金）12時00分" in page.text
        assert "今回がはじめてです" in page.text
        at.now += DAY_MS
        page = await log_in(member, "yokokou", "taro-y")
        assert "前回のログイン 2026年11月20日（金）12時00分" in page.text
        assert {"プロフィール設定", "パスワード変更"} <= {node.text_content() for node in page.tree.xpath("//nav//a")}


async def test_every_failed_login_shows_the_same_bytes_and_says_to_register_first(at: House) -> None:
    await at.member("yokokou", "taro-y", PASSWORD)
    secret = await at.letter("yokokou", "12345678", Person(nickname="はなこ"))
    seen = set()
    for login_id, password in (("taro-y", "wrong"), ("nobody", PASSWORD), ("12345678", secret), ("nobody", "x")):
        async with browser(at) as member:
            page = await log_in(member, "yokokou", login_id, password)
            assert page.status == 422
            assert page.value("login_id") == login_id
            (key,) = set(page.tree.xpath("//input[@name='form-key']/@value"))
            seen.add(page.answer.text.replace(key, "").replace(f'value="{login_id}"', ""))
            assert "利用登録" in " ".join(page.errors)
    assert len(seen) == 1


async def test_a_session_gets_a_new_name_at_login_and_dies_at_logout(at: House) -> None:
    await at.member("yokokou", "taro-y", PASSWORD)
    async with browser(at) as member, browser(at) as thief:
        await log_in(member, "yokokou", "taro-y")
        old = member.client.cookies["mb-session-yokokou"]
        await log_in(member, "yokokou", "taro-y")
        new = member.client.cookies["mb-session-yokokou"]
        assert old != new
        for token, heading in ((old, "ログイン"), (new, "こんにちは、たろう さん")):
            thief.client.cookies.set("mb-session-yokokou", token)
            assert (await thief.get("/yokokou/home")).heading == heading
            thief.client.cookies.clear()
        page = await member.submit(await member.get("/yokokou/home"), button="ログアウト")
        assert "ログアウトしました" in page.text
        assert "mb-session-yokokou" not in member.client.cookies
        thief.client.cookies.set("mb-session-yokokou", new)
        assert (await thief.get("/yokokou/home")).heading == "ログイン"


async def test_a_session_ends_after_a_quarter_of_an_hour_at_rest(at: House) -> None:
    await at.member("yokokou", "taro-y", PASSWORD)
    async with browser(at) as member:
        await log_in(member, "yokokou", "taro-y")
        at.now += 14 * 60_000
        assert (await member.get("/yokokou/profile")).heading == "プロフィール設定"
        at.now += 16 * 60_000
        page = await member.get("/yokokou/profile")
        assert page.heading == "ログイン"
        assert "しばらく操作がなかったため" in page.text


async def test_nobody_gets_in_without_a_session(at: House) -> None:
    async with browser(at) as member:
        for name in ("home", "profile", "password"):
            assert (await member.get(f"/yokokou/{name}")).heading == "ログイン"
        assert (await member.client.post("/yokokou/logout", data={})).status_code == 200


async def test_a_form_of_another_session_is_refused(at: House) -> None:
    await at.member("yokokou", "taro-y", PASSWORD)
    async with browser(at) as member:
        await log_in(member, "yokokou", "taro-y")
        page = await member.get("/yokokou/password")
        await log_in(member, "yokokou", "taro-y")
        fields = {"old": PASSWORD, "new": NEXT, "again": NEXT}
        assert (await member.submit(page, fields)).status == 403
        assert (await member.submit(await member.get("/yokokou/password"), fields)).heading.startswith("こんにちは")


async def test_changing_the_password_ends_the_other_sessions(at: House) -> None:
    await at.member("yokokou", "taro-y", PASSWORD)
    async with browser(at) as member, browser(at) as other:
        await log_in(other, "yokokou", "taro-y")
        await log_in(member, "yokokou", "taro-y")
        page = await member.get("/yokokou/password")
        assert [label.split(" ")[0] for label in page.labels()] == [
            "変更前パスワード",
            "変更後パスワード",
            "パスワード確認",
        ]
        wrong = await member.submit(page, {"old": "wrong", "new": NEXT, "again": NEXT})
        assert wrong.status == 422
        assert wrong.value("new") == ""
        shown = await member.submit(
            page, {"old": PASSWORD, "new": NEXT, "again": NEXT}, button="入力した文字を表示する"
        )
        assert shown.value("new") == NEXT
        done = await member.submit(shown, {})  # the first form is the menu's: log out
        assert "ログアウトしました" in done.text
        await log_in(member, "yokokou", "taro-y")
        page = await member.get("/yokokou/password")
        done = await member.submit(page, {"old": PASSWORD, "new": NEXT, "again": NEXT})
        assert "パスワードを変更しました" in done.text
        assert (await other.get("/yokokou/home")).heading == "ログイン"
        assert (await member.get("/yokokou/home")).heading.startswith("こんにちは")
        assert (await log_in(other, "yokokou", "taro-y", PASSWORD)).status == 422
        assert (await log_in(other, "yokokou", "taro-y", NEXT)).status == 200


async def test_an_expired_password_leads_to_changing_it_and_nowhere_else(at: House) -> None:
    await at.member("shochiku", "taro-s", PASSWORD)
    at.now += 366 * DAY_MS
    async with browser(at) as member:
        page = await log_in(member, "shochiku", "taro-s")
        assert page.heading == "パスワード変更"
        assert "期限が過ぎています" in page.text
        for name in ("home", "profile"):
            assert (await member.get(f"/shochiku/{name}")).heading == "パスワード変更"
        done = await member.submit(page, {"old": PASSWORD, "new": NEXT, "again": NEXT})
        assert done.heading == "こんにちは、たろう さん"
        assert (await member.get("/shochiku/profile")).heading == "プロフィール設定"


async def test_the_profile_keeps_choices_and_proves_a_new_address(at: House) -> None:
    await at.member("yokokou", "taro-y", PASSWORD, "taro@docomo.ne.jp", household=HOUSEHOLD)
    await at.member("yokokou", "hana-y", PASSWORD, "hana@docomo.ne.jp", household=HOUSEHOLD, nickname="はな", name="x")
    async with browser(at) as member:
        await log_in(member, "yokokou", "taro-y")
        page = await member.get("/yokokou/profile")
        assert "本名でないもの" in page.text
        listed = [node.text_content() for node in page.tree.xpath("//section[@aria-labelledby='household']//li")]
        assert listed == ["たろう（ご本人）", "はな"]
        assert page.tree.xpath("//input[@name='disclosure.iryouhi'][@checked]/@value") == ["no"]
        fields = {
            "address_2": "taro@example.co.jp",
            "wanted.iryouhi": "yes",
            "disclosure.generic": "yes",
            "nickname": "{{7*7}}<script>",
        }
        refused = await member.submit(page, fields)
        assert refused.status == 422
        assert refused.value("address_2") == "taro@example.co.jp"
        assert refused.tree.xpath("//input[@name='wanted.iryouhi'][@checked]")
        assert refused.tree.xpath("//input[@name='disclosure.generic'][@checked]/@value") == ["yes"]
        saved = await member.submit(refused, {"password": PASSWORD})
        assert "登録しました" in saved.text
        assert "確認待ちです" in saved.text
        assert saved.value("nickname") == "{{7*7}}<script>"
        assert saved.tree.xpath("//input[@name='wanted.iryouhi'][@checked]")
        (proof,) = await mailed(at, "address-proof")
    async with browser(at) as elsewhere:
        page = await elsewhere.get(str(proof["url"]))
        assert page.heading == "メールアドレスの確認"
        assert "taro@example.co.jp" in page.text
        async with at.ctx.store.read() as tx:
            assert len((await tx.execute(select(tables.address))).all()) == 2
        done = await elsewhere.submit(page)
        assert done.heading == "メールアドレスを確認しました"
        assert (await elsewhere.submit(page)).heading == "メールアドレスを確認しました"
        assert (await elsewhere.get(str(proof["url"]))).heading == "メールアドレスを確認しました"
    async with browser(at) as stranger:
        assert (await stranger.get(str(proof["url"]))).status == 410
    async with at.ctx.store.read() as tx:
        assert len((await tx.execute(select(tables.address))).all()) == 3


async def test_the_profile_tells_of_an_address_that_mail_does_not_reach(at: House) -> None:
    await at.member("yokokou", "taro-y", PASSWORD, "taro@docomo.ne.jp")
    async with browser(at) as member:
        await log_in(member, "yokokou", "taro-y")
        assert "届きませんでした" not in (await member.get("/yokokou/profile")).text
        async with at.ctx.store.begin() as tx:
            await bounces.end_proofs(tx, [("yokokou", "taro@docomo.ne.jp")], at.now)
        page = await member.get("/yokokou/profile")
        assert "taro@docomo.ne.jp には、メールが届きませんでした" in page.text
        page = await member.submit(page, {"prove_1": "yes"})
        assert page.status == 422
        assert page.tree.xpath("//input[@name='prove_1']/@checked")
        page = await member.submit(page, {"prove_1": "yes", "password": PASSWORD})
        assert "登録しました" in page.text
    (facts,) = await mailed(at, "address-proof")
    link_url = str(facts["url"])
    async with browser(at) as member:
        await member.submit(await member.get(link_url.removeprefix(at.url)), {})
        await log_in(member, "yokokou", "taro-y")
        assert "届きませんでした" not in (await member.get("/yokokou/profile")).text


async def test_reissue_from_the_forgotten_link_to_the_new_password(at: House) -> None:
    await at.member("yokokou", "taro-y", PASSWORD, "taro@docomo.ne.jp")
    async with browser(at) as member, browser(at) as elsewhere:
        await log_in(elsewhere, "yokokou", "taro-y")
        page = await member.follow(await member.get("/yokokou/login"), "忘れた方")
        assert "info@yokokou.example" in page.text
        page = await member.submit(page, {"address": "taro@docomo.ne.jp"})
        assert page.heading == "メールをご覧ください"
        assert (await elsewhere.get("/yokokou/home")).heading.startswith("こんにちは")
        (facts,) = await mailed(at, "reissue")
        page = await member.get(str(facts["url"]))
        assert page.heading == "仮ログイン（パスワード再発行）"
        wrong = await member.submit(page, {"login_id": "taro-y", "temporary_password": "wrongwro"})
        assert (wrong.status, wrong.value("login_id")) == (422, "taro-y")
        secret = str(facts["temporary_password"])
        page = await member.submit(page, {"login_id": "taro-y", "temporary_password": secret})
        assert page.heading == "パスワード変更（パスワード再発行）"
        refused = await member.submit(page, {"password": "short", "password_again": "short"})
        assert refused.status == 422
        fields = {"password": NEXT, "password_again": NEXT}
        done = await member.submit(page, fields)
        assert done.heading == "パスワードを変更しました"
        assert (await member.submit(page, fields)).heading == "パスワードを変更しました"
        assert (await member.get("/yokokou/home")).heading == "ログイン"
        assert (await elsewhere.get("/yokokou/home")).heading == "ログイン"
        assert (await log_in(member, "yokokou", "taro-y", NEXT)).status == 200
    async with browser(at) as stranger:
        assert (await stranger.get(str(facts["url"]))).status == 410


@pytest.mark.parametrize("form", ["reissue", "entry"])
async def test_no_page_tells_whether_an_address_is_known(at: House, form: str) -> None:
    await at.member("yokokou", "taro-y", PASSWORD, "taro@docomo.ne.jp")
    seen = set()
    for address in ("taro@docomo.ne.jp", "nobody@docomo.ne.jp"):
        async with browser(at) as member:
            page = await member.submit(await member.get(f"/yokokou/{form}"), {"address": address})
            assert (page.status, page.heading) == (200, "メールをご覧ください")
            assert address in page.text
            assert "迷惑メール" in page.text
            seen.add(page.answer.text.replace(address, ""))
    assert len(seen) == 1


async def test_a_wrong_address_is_explained_and_kept(at: House) -> None:
    async with browser(at) as member:
        page = await member.submit(await member.get("/shochiku/entry"), {"address": "taro.docomo.ne.jp"})
        assert (page.status, page.value("address")) == (422, "taro.docomo.ne.jp")
        assert page.errors == ["メールアドレスに「@」が入っていません。お確かめください。"]
        assert page.link("ログイン").endswith("/shochiku/login")


async def test_the_journey_without_a_mail_is_for_societies_that_have_one(at: House) -> None:
    person = Person(name="松 竹子", nickname="たけ", address="take@example.co.jp", birth_date="1950-01-01")
    secret = await at.letter("shochiku", "12345678", person)
    async with browser(at) as member:
        page = await member.follow(await member.get("/shochiku/login"), "印字されていた方")
        page = await member.submit(page, {"login_id": "12345678", "password": secret})
        assert page.heading == "新規利用登録③"
        assert (page.value("login_id"), page.value("address")) == ("12345678", "take@example.co.jp")
        assert (await member.get("/yokokou/direct")).status == 404


async def test_larger_text_stays_and_leads_back(at: House) -> None:
    async with browser(at) as member:
        page = await member.get("/yokokou/entry")
        assert "text-normal" in page.tree.get("class")
        page = await member.follow(page, "大")
        assert page.url.endswith("/yokokou/entry")
        assert "text-large" in page.tree.get("class")
        assert "text-large" in (await member.get("/yokokou/login")).tree.get("class")
        for to in ("https://evil.example/", "//evil.example", "/yokokou/../x", "/shochiku/login", "/yokokou//evil"):
            page = await member.get(f"/yokokou/text/medium?to={to}")
            assert page.url.endswith("/yokokou/login")
        assert (await member.get("/yokokou/text/huge")).status == 404


async def test_help_names_questions_channels_and_what_to_say(at: House) -> None:
    async with browser(at) as member:
        page = await member.follow(await member.get("/shochiku/login"), "よくある質問")
        for word in (
            "ハガキや通知書をなくしました。",
            "03-0000-0000",
            "9:30–18:00",
            "記号・番号とお名前",
            "文字を大きくするには",
        ):
            assert word in page.text


async def test_forms_of_one_network_have_a_budget(tmp_path: Path) -> None:
    async with (
        house(tmp_path, MAILBOT_BUDGETS_WEB_REQUESTS_PER_MINUTE="3") as at,
        browser(at) as member,
        browser(at, "198.51.100.1") as other,
    ):
        page = await member.get("/yokokou/login")
        statuses = [(await member.submit(page, {"login_id": "x", "password": "y"})).status for _ in range(5)]
        assert statuses[-1] == 429
        last = await member.submit(page, {"login_id": "x", "password": "y"})
        assert last.heading == "しばらくお待ちください"
        assert "12時01分" in last.text
        assert (await log_in(other, "yokokou", "x")).status == 422
        at.now += 60_000
        assert (await member.submit(page, {"login_id": "x", "password": "y"})).status == 422
