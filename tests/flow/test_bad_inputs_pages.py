"""Bad input at the pages of the real process: bent links, hostile forms, strange requests, browsers that cannot much.

`docs/bad-inputs.md` names the case each test proves.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import httpx2
import pytest
import pytest_asyncio

from tests.support.member import Member, Page, log_in
from tests.support.robot import JIRO, Person, Robot, body, invitation, link_in, robot
from tests.support.sink import Sink, sink

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOCIETY, TO = "shochiku", "touroku@yokokou.example"
PASSWORD = "ishi-no-ue-nimo3nen"
HOUR_MS = 3_600_000
GENEROUS = {
    f"BUDGETS_{name}": "100000"
    for name in (
        "ADDRESS_PER_MINUTE",
        "ADDRESS_PER_HOUR",
        "ADDRESS_PER_DAY",
        "LINK_FAILURES_PER_10_MINUTES",
        "WEB_REQUESTS_PER_MINUTE",
    )
}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass
class House:
    robot: Robot
    sink: Sink
    people: dict[str, Iterator[Person]]

    def browser(self, **options: object) -> Member:
        return Member(self.robot.web, **options)

    def database(self) -> sqlite3.Connection:
        return sqlite3.connect(self.robot.folder / "var" / "mailbot.sqlite3", timeout=30)

    def sql(self, statement: str, *values: object) -> None:
        with closing(self.database()) as db, db:
            assert db.execute(statement, values).rowcount >= 1

    def join(self, society: str = SOCIETY) -> tuple[Person, str]:
        """Somebody of the roster who was not here yet, and an address."""
        person = next(self.people[society])
        return person, f"person-{person.number}@phone.example"

    async def invited(self, address: str, society: str = SOCIETY) -> str:
        """Web entry -> the URL of the last mail."""
        known = len(self.sink.to(address))
        async with self.browser() as member:
            await member.submit(await member.get(f"/{society}/entry"), {"address": address})
        return link_in((await self.sink.wait(known + 1, to=address))[-1])

    async def at_credentials(self, member: Member) -> tuple[Page, str]:
        """The page that asks for ID and password, of somebody new, and the address."""
        person, address = self.join()
        page = await member.get(await self.invited(address))
        page = await member.submit(page, {"login_id": person.printed_id, "password": person.printed_password})
        assert page.heading == "新規利用登録③", page.text
        return page, address

    async def raw(self, request: bytes) -> tuple[int, bytes]:
        """Bytes to the pages' port -> (status, all that came back)."""

        def exchange() -> bytes:
            with socket.create_connection(("127.0.0.1", self.robot.web_port), 30) as connection:
                connection.sendall(request)
                answer = b""
                while part := connection.recv(65536):
                    answer += part
                return answer

        answer = await asyncio.to_thread(exchange)
        return int(answer.split(b" ", 2)[1]), answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("pages")
    people = {
        society: [
            replace(JIRO, number=f"{300000 + n}", printed_id=f"{40000000 + 7 * n}", nickname="ミケ")
            for n in range(size)
        ]
        for society, size in ((SOCIETY, 20), ("yokokou", 1))
    }
    async with sink() as taken, robot(folder, taken.port, overrides=GENEROUS) as made:
        for society, several in people.items():
            await asyncio.to_thread(made.import_roster, society, *(person.row for person in several))
        yield House(made, taken, {society: iter(several) for society, several in people.items()})


def chosen(login_id: str, password: str = PASSWORD, **more: str) -> dict[str, str]:
    return {"login_id": login_id, "password": password, "password_again": password, **more}


# Links


async def test_bent_links_open_and_forged_ones_are_all_the_same_page(house: House) -> None:
    """Cases 60, 61, 62 and 66."""
    person, address = house.join("yokokou")
    link = await invitation(house.robot, house.sink, address, TO)
    head, _, token = link.rpartition("/")
    for tail in (".", ">", "%3E", "）", "%0A", "&utm_source=x", "%EF%BC%89"):
        async with house.browser() as member:
            assert (await member.get(link + tail)).heading == "新規利用登録", tail
    for bent in (token.upper(), f"{token[:12]}%20{token[12:]}"):
        async with house.browser() as member:
            assert (await member.get(f"{head}/{bent}")).heading == "新規利用登録", bent
    seen = set()
    other = "b" if token[0] == "a" else "a"
    for forged in (
        other + token[1:],
        token[:-1],
        "a" * 10_000,
        "%00",
        "..%2F..%2Fetc%2Fpasswd",
        "%E3",
        "é",
        other * 34,
    ):
        async with house.browser() as member:
            page = await member.get(f"{head}/{forged}")
            assert page.status == 410, forged
            seen.add(page.answer.content)
    async with house.browser() as member:
        page = await member.get(link.replace("/r/", "/p/"))  # made for registration, held out for a reissue
        seen.add(page.answer.content)
    assert len(seen) == 1
    assert "新しいご案内をメールで受け取る" in page.text
    async with house.browser() as member:
        page = await member.submit(
            await member.get(link), {"login_id": person.printed_id, "password": person.printed_password}
        )
        assert page.heading == "利用者情報入力"


async def test_a_link_past_its_end_says_where_to_begin_again(house: House) -> None:
    """Case 63, through the clock of the process: the database says that the end was just now."""
    person, address = house.join()
    link = await house.invited(address)
    async with house.browser() as member:
        page = await member.get(link)
        now = time.time_ns() // 1_000_000
        await asyncio.to_thread(house.sql, "UPDATE link SET expires_at = ? WHERE address = ?", now, address)
        for dead in (
            await member.get(link),
            await member.submit(page, {"login_id": person.printed_id, "password": person.printed_password}),
        ):
            assert (dead.status, dead.heading) == (410, "このリンクは使えません")
            assert "もう一度始めるには" in dead.text
        assert (await member.follow(dead, "新しいご案内")).heading == "新規利用登録①"


async def test_what_scanners_do_with_a_link_does_not_use_it_up(house: House) -> None:
    """Case 64."""
    person, address = house.join()
    link = await house.invited(address)
    async with house.browser() as scanner:
        for _ in range(20):
            page = await scanner.get(link)
        assert (await scanner.client.head(link)).status_code == 200
        assert (await scanner.client.get(link, headers={"Sec-Purpose": "prefetch;prerender"})).status_code == 200
        assert (await scanner.submit(page, {"login_id": "", "password": ""})).status == 422
        assert (await scanner.submit(page, {"login_id": "test", "password": "test"})).status == 422
    async with house.browser() as member:
        page = await member.submit(
            await member.get(link), {"login_id": person.printed_id, "password": person.printed_password}
        )
        assert (await member.submit(page, chosen("after-scanner"))).heading.startswith("新規利用登録④")


async def test_of_two_outstanding_links_the_older_works_too(house: House) -> None:
    """Case 68. A repeated request brings the same link for half its life; then there is a second one, never a third."""
    person, address = house.join()
    first = await house.invited(address)
    assert await house.invited(address) == first
    links = [first]
    for _ in range(2):
        older = "UPDATE link SET created_at = created_at - ? WHERE address = ?"  # so that less than half is left
        await asyncio.to_thread(house.sql, older, 10 * HOUR_MS, address)
        links.append(await house.invited(address))
        assert links[-1] not in links[:-1]
    oldest, middle, newest = links
    async with house.browser() as member:
        assert (await member.get(oldest)).status == 410  # the third took its place
        page = await member.submit(
            await member.get(middle), {"login_id": person.printed_id, "password": person.printed_password}
        )
        assert (await member.submit(page, chosen("older-link"))).heading.startswith("新規利用登録④")
    async with house.browser() as stranger:
        assert (await stranger.get(middle)).status == 410
        # the other one is still good, for the family that shares the mailbox; the letter that was used is not
        page = await stranger.get(newest)
        used = await stranger.submit(page, {"login_id": person.printed_id, "password": person.printed_password})
        assert (used.status, used.heading) == (422, "新規利用登録②")


async def test_no_host_but_ours_comes_into_a_mail(house: House) -> None:
    """Case 67."""
    for host in ("evil.example", f"127.0.0.1:{house.robot.ops_port}", "127.0.0.1"):
        status, answer = await house.raw(
            f"GET /{SOCIETY}/login HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )
        assert status == 400
        assert b"evil" not in answer
    forwarded = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example", "X-Forwarded-Proto": "https"}
    _, address = house.join()
    async with house.browser(headers=forwarded) as member:
        page = await member.get(f"/{SOCIETY}/entry")
        assert "evil" not in page.answer.text
        await member.submit(page, {"address": address})
    (mail,) = await house.sink.wait(to=address)
    assert link_in(mail).startswith(f"{house.robot.web}/{SOCIETY}/r/")
    assert b"evil" not in mail.content


# Forms


@pytest.mark.parametrize(
    ("login_id", "typed", "shown"),
    [
        ("sql-cat", "' OR 1=1--", "' OR 1=1--"),
        ("template-cat", "{{7*7}}${7*7}", "{{7*7}}${7*7}"),
        ("script-cat", "<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("header-cat", "ミケ\r\nBcc: x@e.example", "ミケ Bcc: x@e.example"),
    ],
)
async def test_a_hostile_nickname_is_only_a_nickname(house: House, login_id: str, typed: str, shown: str) -> None:
    """Case 69."""
    async with house.browser() as member:
        page, address = await house.at_credentials(member)
        done = await member.submit(page, chosen(login_id, nickname=typed))
        assert f"{shown} さん" in done.text
        home = await log_in(member, SOCIETY, login_id, PASSWORD)
        assert home.heading == f"こんにちは、{shown} さん"
        assert not home.tree.xpath("//script")
        profile = await member.get(f"/{SOCIETY}/profile")
        assert profile.value("nickname") == shown
        mails = await house.sink.wait(2, to=address)
        assert mails[-1].message["Subject"] == "利用登録完了のご案内"
        assert [mail.rcpt_tos for mail in mails] == [(address,), (address,)]
        assert not any(shown in body(mail) or mail.message["Bcc"] for mail in mails)
        # a letter that greets by nickname holds it as text
        await member.submit(await member.get(f"/{SOCIETY}/reissue"), {"address": address})
        reissue = (await house.sink.wait(3, to=address))[-1]
        assert f"{shown} 様" in body(reissue)
        assert (reissue.rcpt_tos, reissue.message["Bcc"]) == ((address,), None)


async def test_login_ids_are_read_kindly_and_may_not_look_like_printed_ones(house: House) -> None:
    """Case 70."""
    async with house.browser() as member:
        page, _ = await house.at_credentials(member)
        refused = await member.submit(page, chosen("99999999"))
        (error,) = refused.errors
        assert "お知らせのIDと同じ形（数字8文字）は使えません" in error
        done = await member.submit(page, chosen("　ＴＡＲＯ１２３ "))
        assert "TARO123" in done.text
    for typed in ("taro123", " TARO123　", "ｔａｒｏ１２３"):
        async with house.browser() as member:
            assert (await log_in(member, SOCIETY, typed, PASSWORD)).heading == "こんにちは、ミケ さん", typed


async def test_a_password_is_short_enough_to_be_hashed_and_may_be_a_sentence(house: House) -> None:
    """Case 71: too long a form costs no hash, spaces and kana are welcome."""
    sentence = "さくら さく 7 haru"
    async with house.browser() as member:
        page, _ = await house.at_credentials(member)
        for size, status in ((1_000_000, 413), (2000, 400), (1000, 422)):
            assert (await member.submit(page, chosen("kana-id", "x" * size))).status == status
        assert (await member.submit(page, chosen("kana-id", sentence))).heading.startswith("新規利用登録④")
        assert (await log_in(member, SOCIETY, "kana-id", sentence)).heading == "こんにちは、ミケ さん"
    async with house.browser() as member:
        login = await member.get(f"/{SOCIETY}/login")
        assert (await member.submit(login, {"login_id": "kana-id", "password": "x" * 1_000_000})).status == 413


async def test_a_reissue_looks_the_same_for_known_unknown_and_suppressed_addresses(house: House) -> None:
    """Case 75. That the work done is the same too is a contract: statement by statement, on both databases."""
    async with house.browser() as member:
        page, known = await house.at_credentials(member)
        await member.submit(page, chosen("reissue-id"))
    suppressed = "suppressed@phone.example"
    await asyncio.to_thread(
        house.robot.command, "suppression", "add", SOCIETY, suppressed, "--reason", "returned letter"
    )
    seen = set()
    for address in (known, "nobody@phone.example", suppressed):
        async with house.browser() as member:
            page = await member.submit(await member.get(f"/{SOCIETY}/reissue"), {"address": address})
            seen.add((page.status, page.url, page.answer.text.replace(address, "")))
    assert len(seen) == 1
    assert (await house.sink.wait(3, to=known))[-1].message["Subject"] == "パスワード再発行のご案内"
    assert house.sink.to("nobody@phone.example") == house.sink.to(suppressed) == []


async def test_forms_without_key_or_cookies_say_what_to_do(house: House) -> None:
    """Case 76; with and without JavaScript the same forms work, which Chromium shows elsewhere."""
    async with house.browser() as member, house.browser() as other:
        page = await member.get(f"/{SOCIETY}/login")
        await other.get(f"/{SOCIETY}/login")
        for key in ("", "x" * 40):
            refused = await member.submit(page, {"form-key": key, "login_id": "a", "password": "b"})
            assert (refused.status, refused.heading) == (403, "画面を開き直してください")
            assert refused.link("ログイン").endswith(f"/{SOCIETY}/login")
        foreign = await other.submit(page, {"login_id": "a", "password": "b"})
        assert (foreign.status, foreign.heading) == (403, "画面を開き直してください")
        member.client.cookies.clear()
        without = await member.submit(page, {"login_id": "a", "password": "b"})
        assert (without.status, without.heading) == (403, "この画面を続けられません")
        assert "Cookieを許可する" in without.text


async def test_back_and_reload_after_the_end_register_nobody_twice(house: House) -> None:
    """Case 77, and 65: the form sent twice at once."""
    async with house.browser() as member:
        page, address = await house.at_credentials(member)
        both = await asyncio.gather(*(member.submit(page, chosen("back-button")) for _ in range(2)))
        assert {one.status for one in both} == {200}
        assert {one.heading for one in both} <= {"新規利用登録④ 完了", "登録済みです"}
        again = await member.submit(page, chosen("back-button"))
        assert (again.status, again.heading) == (200, "登録済みです")
        assert (await member.get(page.url)).heading == "登録済みです"
        mails = await house.sink.wait(2, to=address)
        await member.submit(await member.get(f"/{SOCIETY}/reissue"), {"address": address})
        mails = await house.sink.wait(3, to=address)
    subjects = [mail.message["Subject"] for mail in mails]
    assert subjects.count("利用登録完了のご案内") == 1


async def test_requests_that_no_browser_sends(house: House) -> None:
    """Case 78."""
    async with house.browser() as member:
        await member.get(f"/{SOCIETY}/login")
        cookies = "; ".join(f"{name}={value}" for name, value in member.client.cookies.items())
    path = f"/{SOCIETY}/login"
    bodies = {
        b"login_id=%FF&password=x": 400,
        b"login_id=\xe3\x81&password=x": 400,
        b"login_id=%ED%A0%80&password=x": 400,
        b"login_id=%00&password=x": 400,
        b"&".join(b"f%d=1" % number for number in range(10_000)): 413,
        b"&".join(b"f=%d" % number for number in range(5000)): 400,
    }
    async with httpx2.AsyncClient(base_url=house.robot.web, headers={"Cookie": cookies}, timeout=30) as client:
        for content, status in bodies.items():
            answer = await client.post(path, content=content, headers=FORM)
            assert answer.status_code == status, content[:40]
            assert "お困りのときは" in answer.text
        assert (await client.post(path, files={"login_id": b"x"})).status_code == 400
        assert (await client.post(path, json={"login_id": "x"})).status_code == 400
    huge = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{house.robot.web_port}\r\nCookie: {cookies}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000000000\r\n\r\nlogin_id=x"
    )
    assert (await house.raw(huge.encode()))[0] == 413
    assert (await house.raw(b"GET /\x00 HTTP/1.1\r\n\r\n"))[0] == 400
    assert "Traceback" not in house.robot.log
    async with house.browser() as member:
        assert (await member.get(path)).status == 200
