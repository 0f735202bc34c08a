"""Wishes that every society has (docs/features.md), for each shipped one and for one that exists in this file only."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio

from mailbot.config import HelpCase, HelpChannel, Society, Start
from mailbot.config.labels import DEFAULT_LABELS
from mailbot.credentials import Format
from tests.support.identity import key_on, prove, wrong_key
from tests.support.member import Member, Page, log_in
from tests.support.robot import body, link_in
from tests.support.rows import (
    DAY,
    HOUR,
    NEXT_PASSWORD,
    PASSWORD,
    PIN,
    SHIPPED,
    Letter,
    Recorder,
    Stage,
    buttons,
    in_order,
    labels,
    needs,
    stage,
    starts,
    with_mail_first,
    with_paper,
)
from tests.support.sink import Taken

pytestmark = pytest.mark.asyncio(loop_scope="module")


def word(key: str) -> str:
    """The new society's own word for a label; with a dot it would be a host name to a phone."""
    return f"〔{key.replace('.', ' ')}〕"


# A society that differs from the shipped ones in everything a file may say; its words are its own.
NEW = "kaede"
KAEDE = """
name = "かえで健康保険組合"
service = "かえでの窓"

[addresses]
robot = "robot@kaede.example"
registration = "hajime@kaede.example"
bounce = "bounce@kaede.example"

[[help]]
kind = "phone"
name = "かえで窓口"
value = "03-1111-1111"
hours = "平日 8:45–16:15"
state = "保険証の記号"

[[help]]
kind = "phone"
name = "登録係"
value = "0120-222-222"
hours = "毎日 10:00–12:00"
cases = ["registration", "address-lost"]

[[help]]
kind = "form"
name = "書面係"
value = "https://kaede.example/lost"
cases = ["paper-lost"]
state = "お名前と社員番号"

[[help]]
kind = "mail"
name = "メール係"
value = "mail-desk@kaede.example"
cases = ["no-mail"]
state = "お使いの携帯電話会社"

[journeys.paper]
starts = ["web-form", "blank-mail"]
steps = ["temporary-login", "credentials"]

[temporary]
login_id = "easy:9"
password = "letters:12"
lifetime_days = 30

[password]
min_length = 10
require = ["upper", "symbol"]

[reissue]
temporary_password = "digits:12"

[profile]
household = true
wanted = [{ id = "news", label = "〔かえで通信〕" }]
disclosure = [{ id = "card", label = "保険証" }]

[labels]
""" + "".join(f'"{key}" = "{word(key)}"\n' for key in DEFAULT_LABELS)
# Who needs no paper and no mail first has rows of its own: test_rows_kenpos.py, test_rows_no_mail_first.py.
EVERY = [me for me in SHIPPED if with_mail_first(me)] + [NEW]
every = pytest.mark.parametrize("me", EVERY)
INVITED, DONE, AGAIN = "利用登録手続きのご案内", "利用登録完了のご案内", "パスワード再発行のご案内"
PROOF, MOVED, CHANGED = "メールアドレスの確認のお願い", "メールアドレス変更のお知らせ", "パスワード変更のお知らせ"
SECOND, EXPIRES = "本人確認完了のご案内", "パスワードの有効期限のお知らせ"


@dataclass
class Walk:
    """Every page a member of a society can meet, and every mail."""

    pages: list[Page] = field(default_factory=list)
    mails: list[Taken] = field(default_factory=list)


@dataclass
class World:
    stage: Stage
    walks: dict[str, Walk] = field(default_factory=dict)

    def society(self, me: str) -> Society:
        return self.stage.societies[me]

    async def walk(self, me: str) -> Walk:
        if me not in self.walks:
            self.walks[me] = await _walk(self.stage, self.stage.societies[me])
        return self.walks[me]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    everybody: dict[str, list[dict[str, str]]] = {me: [] for me in EVERY}
    async with stage(tmp_path_factory.mktemp("all"), everybody, {NEW: KAEDE}) as running:
        yield World(running)


async def _walk(at: Stage, society: Society) -> Walk:
    me, label = society.id, society.label
    address, second = at.new_address(), at.new_address()
    login_id = at.new_login_id()
    async with Recorder(at.robot.web) as member, Recorder(at.robot.web) as other:
        for name in ("login", "help", "nothing", "entry"):
            page = await member.get(f"/{me}/{name}")
        await member.submit(page, {"address": "no-address"})
        link = await at.invite(member, me, address)
        await _register(at, society, member, link, address, login_id)
        await _log_in_and_change(at, society, member, login_id, second)
        await _reissue(at, society, member, other, second, login_id)
        await other.get(link)
        await other.submit(await other.get(f"/{me}/login"), {"login_id": "x" * 70_000})
        other.client.cookies.clear()
        for fields in ({}, {"form-key": "x"}):
            other.seen.append(Page(await other.client.post(f"/{me}/login", data=fields)))
        other.seen.append(Page(await other.client.put(f"/{me}/login")))
        if Start.PAGE in starts(society):
            await other.get(f"/{me}/direct")
        if Start.BLANK_MAIL in starts(society):
            sender = at.new_address()
            assert society.addresses.registration is not None
            await asyncio.to_thread(at.robot.send_blank_mail, sender, society.addresses.registration)
            await at.mails(sender, INVITED)
        if society.password.expires_days is not None:
            age = (society.password.expires_days - society.password.remind_days[-1] + 1) * DAY
            await _age_password(at, login_id, age)
            await at.mails(second, EXPIRES, seconds=30)
            await _age_password(at, login_id, society.password.remind_days[-1] * DAY)
            await log_in(other, me, login_id, PASSWORD)
        if me == NEW:  # the page is the same everywhere
            await asyncio.to_thread(at.robot.command, "society", "pause", me, "--reason", "test")
            await other.get(f"/{me}/login")
            await asyncio.to_thread(at.robot.command, "society", "resume", me)
        mine = {address, second} | ({sender} if Start.BLANK_MAIL in starts(society) else set())
        mails = [mail for mail in at.sink.mails if set(mail.rcpt_tos) & mine]
        pages = [page for page in (*member.seen, *other.seen) if page.url.startswith(f"{at.robot.web}/{me}/")]
        statuses = {page.status for page in pages}
        assert statuses >= {200, 403, 404, 405, 410, 413, 422, *([503] if me == NEW else [])}, statuses
        assert label("home.logout") in " ".join(page.text for page in pages)
    return Walk(pages, mails)


async def _register(at: Stage, society: Society, member: Member, link: str, address: str, login_id: str) -> None:
    letter = at.letter(society.id)
    page = await with_paper(member, society, link)
    await member.submit(page, {"login_id": letter.printed_id, "password": "wrong"})
    page = await member.submit(page, {"login_id": letter.printed_id, "password": letter.printed_password})
    fields = {"login_id": login_id, "password": PASSWORD, "password_again": PASSWORD}
    await member.submit(page, {**fields, "password": "short"})
    shown = await member.submit(page, fields, button=society.label("password.show"))
    assert shown.value("password") == PASSWORD
    done = await member.submit(page, fields)
    assert done.url.endswith("/done"), done.text
    await at.mails(address, DONE)
    await at.opened(society.id, login_id)
    if society.pages.family:
        await member.submit(done, button=society.label("done.family"))
    else:
        await at.invite(member, society.id, address)
    await at.mails(address, INVITED, 2)
    await member.get(link)
    await _by_details(at, society, member, address)


async def _log_in_and_change(at: Stage, society: Society, member: Member, login_id: str, second: str) -> None:
    """Moves the second address into the first place too, so that every later mail goes there."""
    me, label = society.id, society.label
    await log_in(member, me, login_id, "wrong")
    await at.log_in(member, me, login_id, PASSWORD)
    page = await member.get(f"/{me}/profile")
    await member.submit(page, {"address_1": "", "password": PASSWORD})
    saved = await member.submit(page, {"address_1": second, "password": PASSWORD})
    assert saved.status == 200, saved.errors
    page = await member.get(await at.link(second, PROOF))
    done = await member.submit(page, button=label("address.submit"))
    assert done.url.endswith("/address/done")
    await member.get(f"/{me}/profile")
    page = await member.get(f"/{me}/password")
    fields = {"old": PASSWORD, "new": NEXT_PASSWORD, "again": NEXT_PASSWORD}
    await member.submit(page, {**fields, "again": "else"})
    await member.submit(page, fields, button=label("password.show"))
    changed = await member.submit(page, fields)
    assert changed.url.endswith("/home?changed=1"), changed.errors
    await at.mails(second, CHANGED)
    await member.submit(changed, button=label("home.logout"))


async def _reissue(at: Stage, society: Society, member: Member, other: Member, address: str, login_id: str) -> None:
    me = society.id
    page = await member.get(f"/{me}/reissue")
    await member.submit(page, {"address": "no-address"})
    await member.submit(page, {"address": address})
    (mail,) = await at.mails(address, AGAIN)
    page = await member.get(link_in(mail))
    if society.reissue.temporary_password is not None:
        what = society.label("reissue.temporary-password")
        (temporary,) = (line.partition("：")[2] for line in body(mail).splitlines() if line.startswith(f"{what}："))
        await member.submit(page, {"login_id": login_id, "temporary_password": "wrong"})
        page = await member.submit(page, {"login_id": login_id, "temporary_password": temporary})
    fields = {"password": PASSWORD, "password_again": PASSWORD}
    await member.submit(page, {**fields, "password_again": "else"})
    await member.submit(page, fields, button=society.label("password.show"))
    done = await member.submit(page, fields)
    assert done.url.endswith("/reissue/done"), done.errors
    await at.mails(address, CHANGED, 2)
    assert (await other.get(link_in(mail))).status == 410


async def _age_password(at: Stage, login_id: str, ms: int) -> None:
    await at.sql("UPDATE member SET password_set_at = password_set_at - ? WHERE login_id = ?", ms, login_id)
    await at.sql("UPDATE lease SET until = 0 WHERE name = 'timetable.minute'")


async def _by_details(at: Stage, society: Society, member: Member, address: str) -> None:
    """The pages of a society that knows people by symbol and number too, from the newest invitation."""
    for journey in society.journeys.values():
        if journey.steps[:2] != ("insurance-details", "show-key") or Start.WEB_FORM not in journey.starts:
            continue
        letter, mails = at.letter(society.id), len(at.sink.to(address))
        choose = await member.get(await at.link(address, INVITED))
        page = choose if journey.label is None else await member.follow(choose, journey.label)
        page = await prove(member, page, letter.row, "else@else.example")
        shown = await prove(member, page, letter.row, address)
        page = await member.get(link_in((await at.mails(address, count=mails + 1))[-1]))
        page = await member.submit(page, {"key": wrong_key(key_on(shown))})
        await member.submit(page, {"key": key_on(shown)})


def _reached(channel: HelpChannel) -> str:
    """What a page shows of a help channel."""
    return "お問い合わせフォーム" if channel.kind == "form" else channel.value


def footer(page: Page) -> str:
    return " ".join(page.tree.xpath("string(//footer)").split())


# --- mails ------------------------------------------------------------------------------------------------------------


@pytest.mark.row("ALL-1")
@every
async def test_mails_show_the_society_as_sender_and_take_no_reply(world: World, me: str) -> None:
    society, mails = world.society(me), (await world.walk(me)).mails
    kinds = {str(mail.message["Subject"]) for mail in mails}
    expiry = {EXPIRES} if society.password.expires_days else set()
    pin = {PIN} if society.login.pin else set()
    name = society.addresses.sender_name or society.name
    second = {SECOND} if any("mailed-link" in one.steps for one in society.journeys.values()) else set()
    assert kinds == {INVITED, DONE, AGAIN, PROOF, MOVED, CHANGED} | expiry | pin | second
    for mail in mails:
        (sender,) = mail.message["From"].addresses
        assert (sender.display_name, sender.addr_spec) == (name, society.addresses.robot)
        assert mail.message["Reply-To"] is None
        assert "送信専用のアドレス" in body(mail)
        assert "返信はお受けできません" in body(mail)


@pytest.mark.row("ALL-1")
@every
async def test_a_reply_is_taken_and_never_answered(world: World, me: str) -> None:
    at, society, writer = world.stage, world.society(me), world.stage.new_address()
    code, _ = await asyncio.to_thread(at.robot.send_blank_mail, writer, society.addresses.robot, subject="Re: ご案内")
    assert code == 250
    async with Member(at.robot.web) as member:
        await at.invite(member, me, at.new_address())  # what came later is out
    assert at.sink.to(writer) == []


# --- pages ------------------------------------------------------------------------------------------------------------

NO_MAIL = (
    "メールが届かないとき",
    "入力したメールアドレスに、まちがいがないか",
    "迷惑メールのフォルダ",
    "受信設定で",
    "からのメールを受け取れるように",
    "お困りのときは",
)


@pytest.mark.row("ALL-2")
@every
@pytest.mark.parametrize("form", ["entry", "reissue"])
async def test_the_sender_is_named_before_and_what_to_do_without_a_mail_after(world: World, me: str, form: str) -> None:
    at, society, typed = world.stage, world.society(me), world.stage.new_address()
    async with Member(at.robot.web) as member:
        page = await member.get(f"/{me}/{form}")
        assert in_order(page.text, society.addresses.robot, "受け取れるように", society.label(f"{form}.submit"))
        page = await member.submit(page, {"address": typed})
        channel = society.help_for(HelpCase.NO_MAIL if form == "entry" else HelpCase.ADDRESS_LOST)[0]
        assert in_order(page.text, typed, society.addresses.robot, *NO_MAIL, _reached(channel))
        assert page.link(society.label("entry.again")) == f"{at.robot.web}/{me}/{form}"


@pytest.mark.row("ALL-2")
@every
async def test_other_pages_that_bring_a_mail_name_the_sender_too(world: World, me: str) -> None:
    society, pages = world.society(me), (await world.walk(me)).pages
    headings = {society.label(key) for key in ("credentials.title", "profile.title")}
    leading = [page for page in pages if page.heading in headings or page.url.rpartition("?")[0].endswith("/done")]
    waiting = [page for page in pages if "確認待ちです" in page.text]
    blank = [page for page in pages if "空メール" in page.text]
    assert len(leading) > 5
    assert waiting
    assert bool(blank) == (Start.BLANK_MAIL in starts(society))
    for page in (*leading, *blank):
        assert society.addresses.robot in page.text, page.url
    for page in waiting:
        assert in_order(page.text, society.addresses.robot, *NO_MAIL)


@pytest.mark.row("ALL-3")
@every
async def test_a_wrong_or_expired_url_says_so_and_changes_nothing(world: World, me: str) -> None:
    at, society = world.stage, world.society(me)
    address, letter = at.new_address(), at.letter(me)
    async with Member(at.robot.web) as member, Member(at.robot.web) as stranger:
        live = await at.invite(member, me, address)
        used = (await at.register(me)).mails[0]
        token = live.rpartition("/")[2]
        elsewhere = next(one for one in EVERY if one != me)
        opened = await with_paper(member, society, live)
        await at.age_links(address, society.links.registration_minutes * 60_000)
        wrong = {
            "expired": live,
            "used": link_in(used),
            "cut": live[:-3],
            "longer": live + "a",
            "changed": live[:-1] + ("a" if live[-1] != "a" else "b"),
            "another society's": live.replace(f"/{me}/", f"/{elsewhere}/"),
            "another purpose": live.replace("/r/", "/p/"),
            "an address proof": live.replace("/r/", "/a/"),
            "nothing": live.removesuffix(token) + "x",
            "folder": live + "/x",
        }
        before = await at.kept("member", "temporary", "address", "link", "journey", "session", "outbox")
        for what, url in wrong.items():
            page = await stranger.get(url)
            assert (page.status, page.heading) == (410, "このリンクは使えません"), what
            assert "何も変わっていません" in page.text
            there = world.society(elsewhere if what.startswith("another society") else me)
            assert page.link(there.label("entry.renew")) == f"{at.robot.web}/{there.id}/entry"
            if Start.BLANK_MAIL in starts(there):
                assert there.addresses.registration is not None
                assert there.addresses.registration in page.text
            assert page.link(there.label("login.forgotten")) == f"{at.robot.web}/{there.id}/reissue"
        late = await member.submit(opened, {"login_id": letter.printed_id, "password": letter.printed_password})
        assert late.status == 410
        assert await at.kept(*before) == before
        page = await member.submit(await member.follow(late, society.label("entry.renew")), {"address": address})
        page = await with_paper(member, society, link_in((await at.mails(address, INVITED, 2))[-1]))
        page = await member.submit(page, {"login_id": letter.printed_id, "password": letter.printed_password})
        assert page.heading == society.label("credentials.title")


@pytest.mark.row("ALL-4")
@every
async def test_name_and_help_stand_on_every_page_and_in_every_mail(world: World, me: str) -> None:
    society, walk = world.society(me), await world.walk(me)
    assert len({page.heading for page in walk.pages}) > 12
    for page in walk.pages:
        assert page.tree.xpath("string(//header//*[@class='society'])") == society.name, page.url
        assert society.name in page.tree.xpath("string(//title)"), page.url
        assert any(channel.value in footer(page) or channel.kind == "form" for channel in society.help), page.url
        assert page.tree.xpath("//footer//*[@class='channel']//a/@href"), page.url
    for mail in walk.mails:
        text = body(mail)
        assert text.startswith(f"{society.name}の")
        foot = text.partition("-----")[2]
        named = [channel for channel in society.help if channel.name in foot.replace(society.name, "", 1)]
        assert named, text
        for channel in named:
            where = _reached(channel)
            assert in_order(foot, society.name, "お困りのときは", channel.name, where)


@pytest.mark.row("ALL-5")
@every
async def test_pages_show_the_channels_that_fit(world: World, me: str) -> None:
    at, society = world.stage, world.society(me)
    async with Member(at.robot.web) as member:
        address = at.new_address()
        landing = await member.get(await at.invite(member, me, address))
        found = {
            HelpCase.LOGIN: await member.get(f"/{me}/login"),
            HelpCase.NO_MAIL: await member.get(f"/{me}/entry/sent"),
            HelpCase.ADDRESS_LOST: await member.get(f"/{me}/reissue"),
            HelpCase.PAPER_LOST: landing,
            HelpCase.REGISTRATION: await member.get(f"/{me}/r/x"),
        }
        everything = await member.get(f"/{me}/help")
    for case, page in found.items():
        fitting = society.help_for(case)
        for channel in society.help:
            shown = channel in fitting
            hrefs = [str(href) for href in page.tree.xpath("//footer//a/@href")]
            assert any(channel.value.replace("-", "") in href.replace("-", "") for href in hrefs) == shown, case
            for word in filter(None, (channel.hours, channel.state)):
                assert (word in footer(page)) == shown, case
    for channel in society.help:
        assert channel.name in everything.tree.xpath("string(//main)")


@pytest.mark.row("ALL-5")
async def test_a_society_sends_each_trouble_to_its_own_desk(world: World) -> None:
    at = world.stage
    async with Member(at.robot.web) as member:
        landing = await member.get(await at.invite(member, NEW, at.new_address()))
        said = {
            "login": footer(await member.get(f"/{NEW}/login")),
            "entry": footer(await member.get(f"/{NEW}/entry")),
            "reissue": footer(await member.get(f"/{NEW}/reissue")),
            "letter": footer(landing),
        }
    assert in_order(said["login"], "かえで窓口へのお電話", "03-1111-1111", "平日 8:45–16:15", "保険証の記号をお伝え")
    assert in_order(said["entry"], "メール係へのメール", "mail-desk@kaede.example", "お使いの携帯電話会社をお伝え")
    assert in_order(said["reissue"], "登録係へのお電話", "0120-222-222", "毎日 10:00–12:00")
    assert in_order(said["letter"], "書面係のお問い合わせフォーム", "お名前と社員番号をお伝え")
    assert landing.link("書面係のお問い合わせフォーム") == "https://kaede.example/lost"


@pytest.mark.row("ALL-6")
@every
async def test_the_login_page_has_id_password_and_both_ways_out(world: World, me: str) -> None:
    at, society = world.stage, world.society(me)
    async with Member(at.robot.web) as member:
        page = await member.get(f"/{me}")
        assert (page.url, page.heading) == (f"{at.robot.web}/{me}/login", society.label("login.title"))
        assert labels(page) == [society.label("login.id"), society.label("login.password")]
        assert list(needs(page).values()) == ["※必須", "※必須"]
        assert buttons(page) == [society.label("login.submit")]
        (secret,) = page.tree.xpath("//input[@name='password']/@type")
        assert secret == "password"
        forgotten = await member.follow(page, society.label("login.forgotten"))
        assert (forgotten.status, labels(forgotten)) == (200, [society.label("reissue.address")])
        register = await member.follow(page, society.label("login.register"))
        assert (register.status, labels(register)) == (200, [society.label("entry.address")])
        if Start.BLANK_MAIL in starts(society):
            assert page.link("@") == f"mailto:{society.addresses.registration}"


PLAIN = {"entry", "temporary", "credentials", "done", "login", "password", "profile", "address", "home", "help"}
"""Pages that the new society has; it gives words of its own to all labels, of other kinds of steps too."""
OTHER_WAYS = {
    *("login.next", "login.first", "login.forgotten-id", "login.forgotten-password"),  # a login on two pages
    *("profile.pin", "profile.name", "profile.kana", "profile.birth-date"),
}


@pytest.mark.row("ALL-7")
@every
async def test_the_service_and_every_word_of_the_file_appear(world: World, me: str) -> None:
    society, walk = world.society(me), await world.walk(me)
    for page in walk.pages:
        assert page.tree.xpath("string(//header//*[@class='service'])") == society.service
    assert all(society.service in body(mail) for mail in walk.mails)
    said = " ".join(page.text for page in walk.pages)
    unsaid = {key for key, word in society.labels.items() if " ".join(word.split()) not in said}
    if me == NEW:
        unsaid = {key for key in unsaid if key.partition(".")[0] in PLAIN} - OTHER_WAYS
    assert unsaid == set()


@pytest.mark.row("ALL-7")
async def test_no_label_or_button_has_words_of_the_program(world: World) -> None:
    own = {word(key) for key in DEFAULT_LABELS}
    own |= {"〔かえで通信〕", f"{word('profile.disclosure')}：保険証", f"もう一度{word('login.title')}する"}
    for page in (await world.walk(NEW)).pages:
        spoken = [*labels(page), *buttons(page)]
        ways = page.tree.xpath("//header//nav[@aria-label='メニュー']//a|//header//nav[@aria-label='メニュー']//button")
        spoken += [" ".join(node.text_content().split()) for node in ways]
        login = f"{word('login.title')}の画面"
        assert [said for said in spoken if said not in own and not said.startswith(login)] == []


# --- credentials ------------------------------------------------------------------------------------------------------


async def opens(at: Stage, society: Society, letter: Letter) -> bool:
    """Whether the letter's credentials open the registration."""
    async with Member(at.robot.web) as member:
        page = await at.credentials_page(member, society.id, letter, at.new_address())
        if page.heading == society.label("credentials.title"):
            return True
        assert page.status == 422
        assert f"{society.label('temporary.id')}または{society.label('temporary.password')}が違います" in page.text
        return False


async def age_letters(at: Stage, me: str, ms: int) -> None:
    await at.sql(
        "UPDATE temporary SET created_at = created_at - ?1, expires_at = expires_at - ?1 WHERE society = ?2", ms, me
    )


@pytest.mark.row("ALL-8")
@every
async def test_credentials_on_paper_end_only_where_the_file_says_so(world: World, me: str) -> None:
    at, society = world.stage, world.society(me)
    letter, days = at.letter(me), society.temporary.lifetime_days
    try:
        if days is not None:
            await age_letters(at, me, days * DAY - HOUR)
            assert await opens(at, society, letter)
            await age_letters(at, me, HOUR)
            assert not await opens(at, society, letter)
            await age_letters(at, me, -days * DAY)
        await age_letters(at, me, 20 * 365 * DAY)
        assert await opens(at, society, letter) == (days is None)
    finally:
        await age_letters(at, me, -20 * 365 * DAY)


@pytest.mark.row("ALL-8")
@every
async def test_credentials_on_paper_die_at_registration(world: World, me: str) -> None:
    at, society, letter = world.stage, world.society(me), world.stage.letter(me)
    assert await opens(at, society, letter)
    assert await opens(at, society, letter)  # looking does not use them up
    await at.register(me, letter)
    assert not await opens(at, society, letter)


@pytest.mark.row("ALL-8")
@every
async def test_credentials_on_paper_die_on_reprint_and_by_staff(world: World, me: str) -> None:
    at, society, first = world.stage, world.society(me), world.stage.letter(me)
    printed = Format.parse(society.temporary.password)
    again = "".join(itertools.islice(itertools.cycle(printed.letters[3:9]), printed.length))
    second = Letter(first.row, first.printed_id, again)
    given = {"仮ログインID": second.printed_id, "仮パスワード": second.printed_password}
    await asyncio.to_thread(at.robot.import_roster, me, {**first.row, **given})
    assert not await opens(at, society, first)
    assert await opens(at, society, second)

    await age_letters(at, me, 2 * DAY)
    live = "SELECT count(*) FROM temporary WHERE society = ? AND state = 'live'"
    newest = "SELECT id FROM temporary WHERE society = ? ORDER BY created_at DESC LIMIT 1"
    ((count,),) = await at.sql(live, me)
    await at.sql(f"UPDATE temporary SET created_at = created_at + ? WHERE id = ({newest})", 2 * DAY, me)
    revoke = ("revoke", "--letters", "--society", me, "--since", "1d", "--yes")
    assert "1 letters revoked" in (await asyncio.to_thread(at.robot.command, *revoke)).stdout
    assert not await opens(at, society, second)
    assert await at.sql(live, me) == [(count - 1,)]


@pytest.mark.row("ALL-9")
@every
async def test_every_member_can_change_the_password(world: World, me: str) -> None:
    at, society = world.stage, world.society(me)
    account = await at.register(me)
    names = ("password.old", "password.new", "password.again")
    async with at.logged_in(me, account) as (member, home):
        page = await member.follow(home, society.label("home.password"))
        assert page.heading == society.label("password.title")
        assert labels(page) == [society.label(name) for name in names]
        assert buttons(page)[-1] == society.label("password.submit")
        right: dict[str, Any] = {"old": PASSWORD, "new": NEXT_PASSWORD, "again": NEXT_PASSWORD}
        for change in ({"old": "wrong"}, {"again": PASSWORD}, {"new": "short", "again": "short"}, {"new": ""}):
            page = await member.submit(page, {**right, **change})
            assert (page.status, page.heading) == (422, society.label("password.title")), change
        page = await member.submit(page, right)
        assert "パスワードを変更しました" in page.text
    async with Member(at.robot.web) as member:
        assert (await log_in(member, me, account.login_id, PASSWORD)).status == 422
    async with at.logged_in(me, replace(account, password=NEXT_PASSWORD)):
        pass
    (mail,) = await at.mails(account.address, CHANGED)
    by_name = society.credentials.nickname_from == "name"
    assert (account.letter.row["氏名"] if by_name else account.letter.nickname) in body(mail)
