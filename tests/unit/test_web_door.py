"""What is refused before the database is asked, and what every answer carries. The database here is one that fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from argon2 import Parameters, Type
from lxml import html
from sqlalchemy.exc import OperationalError

from mailbot.config import load
from mailbot.credentials import KeyRing, LinkPurpose, Passwords, encode_id, mint
from mailbot.registration.context import Context
from mailbot.web.app import member_app

REPOSITORY = Path(__file__).parents[2]
NOON = 1_795_143_600_000
RING = KeyRing.create(NOON)
CHEAP = Parameters(type=Type.ID, version=19, salt_len=16, hash_len=32, time_cost=1, memory_cost=8, parallelism=1)


class NoDatabase:
    """Counts who asks, and fails."""

    dialect = "sqlite"

    def __init__(self, error: Exception | None) -> None:
        self.asked = 0
        self._error = error

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Any]:
        self.asked += 1
        if self._error is not None:
            raise self._error
        yield

    begin = read


DOWN = OperationalError("SELECT", {}, Exception("database is locked"))


@asynccontextmanager
async def browser(
    tmp_path: Path, error: Exception = DOWN, url: str = "http://127.0.0.1:8080", **settings: str
) -> AsyncIterator[tuple[httpx2.AsyncClient, NoDatabase]]:
    societies = tmp_path / "societies"
    if not societies.exists():
        societies.symlink_to(REPOSITORY / "config" / "societies")
        (tmp_path / "mailbot.toml").touch()
    site = load(tmp_path, {"MAILBOT_SITE_WEB_URL": url, **settings})
    passwords, database = Passwords(CHEAP), NoDatabase(error)
    ctx = Context(site, RING, passwords, database)  # type: ignore[arg-type]  # no store
    app = member_app(ctx, [REPOSITORY / "templates"], lambda: NOON)
    transport = httpx2.ASGITransport(app=app, client=("203.0.113.9", 5000))
    async with httpx2.AsyncClient(transport=transport, base_url=url) as client:
        yield client, database
    await passwords.close()


def token(purpose: LinkPurpose = LinkPurpose.REGISTRATION, society: str = "yokokou", ring: KeyRing = RING) -> str:
    return mint(ring, purpose, society, 12345, ring.active(NOON).kid)


def heading(answer: httpx2.Response) -> str:
    return str(html.fromstring(answer.text).xpath("string(//h1)"))


GOOD = token()
FORGED = {
    "one character changed": GOOD[:-1] + ("b" if GOOD[-1] == "a" else "a"),
    "ten kilobytes": "a" * 10_000,
    "empty": "",
    "NUL": "%00",
    "dots": "%2E%2E%2F%2E%2E%2Fetc",
    "half a character": "%E3",
    "for another purpose": token(LinkPurpose.REISSUE),
    "of another society": token(society="shochiku"),
    "of another ring": token(ring=KeyRing.create(NOON)),
}


@pytest.mark.parametrize("text", FORGED.values(), ids=FORGED.keys())
async def test_a_forged_link_is_neutral_and_never_reaches_the_database(tmp_path: Path, text: str) -> None:
    async with browser(tmp_path) as (client, database):
        answer = await client.get(f"/yokokou/r/{text}")
        plain = await client.get("/yokokou/r/rubbish")
        assert (answer.status_code, answer.content) == (410, plain.content)
        assert database.asked == 0
        assert "set-cookie" not in answer.headers
        assert "touroku@yokokou.example" in answer.text
        assert "045-000-0000" in answer.text


MENDED = {
    "as it was": GOOD,
    "upper case": GOOD.upper(),
    "full stop": GOOD + ".",
    "bracket": GOOD + "%3E",
    "Japanese bracket": GOOD + "）",
    "line end": GOOD + "%0A",
    "tracking": GOOD + "&utm_source=x",
    "query": GOOD + "?fbclid=1",
    "wrapped": GOOD[:20] + "%20" + GOOD[20:],
    "full width": "".join(chr(ord(c) + 0xFEE0) for c in GOOD),
}


@pytest.mark.parametrize("text", MENDED.values(), ids=MENDED.keys())
async def test_a_link_that_a_mail_program_bent_is_mended(tmp_path: Path, text: str) -> None:
    async with browser(tmp_path) as (client, database):
        answer = await client.get(f"/yokokou/r/{text}")
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/yokokou/open/{encode_id(12345)}"
        assert GOOD not in answer.headers["location"] + answer.headers["set-cookie"]
        assert database.asked == 0


async def test_twenty_forged_links_are_enough(tmp_path: Path) -> None:
    async with browser(tmp_path) as (client, database):
        for _ in range(20):
            assert (await client.get("/yokokou/r/rubbish")).status_code == 410
        answer = await client.get("/yokokou/r/rubbish")
        assert answer.status_code == 429
        assert "12時10分" in answer.text
        assert answer.headers["retry-after"] == "600"
        assert (await client.get(f"/yokokou/r/{GOOD}")).status_code == 303
        assert database.asked == 0


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:8081", "", "localhost:8080.evil.example"])
async def test_another_host_is_refused(tmp_path: Path, host: str) -> None:
    async with browser(tmp_path) as (client, database):
        answer = await client.get("/yokokou/login", headers={"host": host})
        assert answer.status_code == 400
        assert "evil" not in answer.text
        assert database.asked == 0


async def test_a_forwarded_host_changes_nothing(tmp_path: Path) -> None:
    async with browser(tmp_path) as (client, _):
        bent = await client.get("/yokokou/r/x", headers={"x-forwarded-host": "evil.example"})
        assert bent.content == (await client.get("/yokokou/r/x")).content


@pytest.mark.parametrize(
    "path", ["/", "/yokokou/login", "/yokokou/r/x", "/nowhere", "/yokokou/nowhere", "/favicon.ico", "/robots.txt"]
)
async def test_every_answer_carries_the_security_headers(tmp_path: Path, path: str) -> None:
    async with browser(tmp_path, url="https://kenpo.example") as (client, _):
        answer = await client.get(path)
        headers = answer.headers
        assert headers["content-security-policy"] == (
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        )
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["strict-transport-security"] == "max-age=31536000"
        assert "camera=()" in headers["permissions-policy"]
        if headers["content-type"].startswith("text/html"):
            assert headers["cache-control"] == "no-store"


async def test_cookies_are_host_bound_and_secure_over_https(tmp_path: Path) -> None:
    async with browser(tmp_path, url="https://kenpo.example") as (client, _):
        cookie = (await client.get(f"/yokokou/r/{GOOD}")).headers["set-cookie"]
        assert cookie.startswith(f"__Host-mb-link-{encode_id(12345)}=r.")
        for word in ("Secure", "HttpOnly", "SameSite=lax", "Path=/"):
            assert word in cookie


async def test_no_hsts_on_plain_loopback(tmp_path: Path) -> None:
    async with browser(tmp_path) as (client, _):
        assert "strict-transport-security" not in (await client.get("/")).headers


async def _form(client: httpx2.AsyncClient) -> dict[str, str]:
    """A form key of this browser: pages that need no database show none, so it is taken from the app itself."""
    client.cookies.set("mb-form", "a-browser")
    from mailbot.web.marks import Marks

    return {"form-key": Marks(RING).make(NOON, "form", "yokokou", 0, "browser:a-browser")}


async def test_a_form_of_our_own_comes_through_to_the_database(tmp_path: Path) -> None:
    async with browser(tmp_path) as (client, database):
        answer = await client.post("/yokokou/login", data={**await _form(client), "login_id": "x", "password": "y"})
        assert answer.status_code == 503
        assert database.asked == 1


@pytest.mark.parametrize("key", ["", "a" * 33, "missing"])
async def test_a_form_without_its_key_is_refused(tmp_path: Path, key: str) -> None:
    async with browser(tmp_path) as (client, database):
        await _form(client)
        fields = {} if key == "missing" else {"form-key": key}
        answer = await client.post("/yokokou/login", data={**fields, "login_id": "x", "password": "y"})
        assert answer.status_code == 403
        assert heading(answer) == "画面を開き直してください"
        assert 'href="/yokokou/login"' in answer.text
        assert database.asked == 0


async def test_a_form_key_of_another_society_or_browser_is_refused(tmp_path: Path) -> None:
    async with browser(tmp_path) as (client, database):
        fields = await _form(client)
        assert (await client.post("/shochiku/login", data=fields)).status_code == 403
        client.cookies.set("mb-form", "another-browser")
        assert (await client.post("/yokokou/login", data=fields)).status_code == 403
        assert database.asked == 0


async def test_a_browser_without_cookies_is_told_what_to_do(tmp_path: Path) -> None:
    async with browser(tmp_path) as (client, _):
        fields = await _form(client)
        client.cookies.clear()
        for answer in (
            await client.post("/yokokou/login", data=fields),
            await client.post("/yokokou/entry", data=fields),
        ):
            assert answer.status_code == 403
            assert heading(answer) == "この画面を続けられません"
            assert "Cookieを許可する" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
    ],
)
async def test_a_form_sent_by_another_site_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    async with browser(tmp_path) as (client, database):
        answer = await client.post("/yokokou/login", data=await _form(client), headers=headers)
        assert answer.status_code == 403
        assert database.asked == 0


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"a=" + b"x" * 70_000, "application/x-www-form-urlencoded", 413),
        (b"password=" + b"x" * 2000, "application/x-www-form-urlencoded", 400),
        (b"a=%FF", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"f=1" for _ in range(10_000)), "application/x-www-form-urlencoded", 400),
        (b"--x\r\n", "multipart/form-data; boundary=x", 400),
        (b"{}", "application/json", 400),
    ],
)
async def test_a_body_that_is_no_form_is_refused(tmp_path: Path, body: bytes, kind: str, status: int) -> None:
    async with browser(tmp_path) as (client, database):
        answer = await client.post("/yokokou/login", content=body, headers={"content-type": kind})
        assert answer.status_code == status
        assert html.fromstring(answer.text).xpath("//h1")
        assert database.asked == 0


async def test_a_body_that_claims_a_gigabyte_is_refused_unread(tmp_path: Path) -> None:
    async with browser(tmp_path) as (client, _):
        headers = {"content-type": "application/x-www-form-urlencoded", "content-length": "1000000000"}
        answer = await client.post("/yokokou/login", content=b"a=1", headers=headers)
        assert answer.status_code == 413


async def test_a_database_that_is_away_gives_words_and_no_details(tmp_path: Path) -> None:
    async with browser(tmp_path) as (client, _):
        answer = await client.get("/yokokou/login")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "60"
        assert "locked" not in answer.text
        assert "045-000-0000" in answer.text


async def test_an_unknown_error_gives_words_and_no_details(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with browser(tmp_path, ZeroDivisionError("the secret detail")) as (client, _):
        answer = await client.get("/yokokou/login")
        assert answer.status_code == 500
        assert "secret detail" not in answer.text
        assert heading(answer) == "ただいま、この画面を表示できません"
    shown = capsys.readouterr()
    assert "secret detail" in shown.out + shown.err


async def test_unknown_paths_and_methods_have_pages_of_their_own(tmp_path: Path) -> None:
    async with browser(tmp_path) as (client, _):
        assert (await client.get("/nobody/login")).status_code == 404
        assert (await client.get("/yokokou/nothing")).status_code == 404
        answer = await client.post("/yokokou/help", data={})
        assert answer.status_code == 405
        assert "GET" in answer.headers["allow"]
        assert "横浜港運健康保険組合" in answer.text


async def test_the_style_sheet_never_changes_under_its_name(tmp_path: Path) -> None:
    async with browser(tmp_path) as (client, _):
        page = html.fromstring((await client.get("/yokokou/r/x")).text)
        for path in page.xpath("//link[@rel='stylesheet']/@href"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/css")
            assert "immutable" in answer.headers["cache-control"]
        assert (await client.get("/static/site.000000000000.css")).status_code == 404
        assert (await client.get("/favicon.ico")).headers["content-type"] == "image/x-icon"


async def test_the_log_never_names_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr("mailbot.web.door.emit", lambda event, **facts: said.append((event, facts)))
    async with browser(tmp_path) as (client, _):
        await client.get(f"/yokokou/r/{GOOD}")
        await client.get("/yokokou/r/rubbish")
    assert [facts["route"] for _, facts in said] == ["/{society}/r/{token:path}"] * 2
    assert [facts["status"] for _, facts in said] == [303, 410]
    assert GOOD not in repr(said)
    assert encode_id(12345) not in repr(said)
