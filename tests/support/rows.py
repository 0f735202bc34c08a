"""What the tests of the societies' wishes share: one running robot a module, people on its roster, its mails.

Everything goes through the doors members and staff use. Only time is helped along, by moving times in the database.
"""

from __future__ import annotations

import asyncio
import csv
import random
import re
import sqlite3
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count, product
from pathlib import Path
from typing import Any

from mailbot.config import Society, Start, load
from mailbot.credentials import Format
from tests.support.member import Member, Page, log_in
from tests.support.robot import REPOSITORY, Robot, body, link_in, robot
from tests.support.sink import Sink, Taken, sink

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
SHIPPED = sorted(file.stem for file in (REPOSITORY / "config" / "societies").glob("*.toml"))
PASSWORD = "Asagiri-2026-yama"  # fits every rule a society may have
NEXT_PASSWORD = "Yuunagi-2027-kawa"
PIN = "暗証キーのお知らせ"
SPARE = 30  # people of each society who are nobody in particular

# A module's tests come from one loopback address and follow each other closely; members do not.
_WIDE = {
    "BUDGETS_ADDRESS_PER_MINUTE": "500",
    "BUDGETS_ADDRESS_PER_HOUR": "1000",
    "BUDGETS_ADDRESS_PER_DAY": "1000",
    "BUDGETS_WEB_REQUESTS_PER_MINUTE": "5000",
    "BUDGETS_LINK_FAILURES_PER_10_MINUTES": "500",
    "COURIER_POLL_MS": "100",
}


@dataclass(frozen=True)
class Letter:
    """What the letter of one person on the roster says, and the row it came from."""

    row: dict[str, str]
    printed_id: str
    printed_password: str

    @property
    def nickname(self) -> str:
        return self.row["仮ニックネーム"]


@dataclass(frozen=True)
class Account:
    """A registered member. `mails`: what the registration brought."""

    letter: Letter
    address: str
    login_id: str
    password: str = PASSWORD
    mails: tuple[Taken, ...] = ()


class Recorder(Member):
    """A browser that keeps every page it was shown."""

    def __init__(self, base: str, **options: Any) -> None:
        super().__init__(base, **options)
        self.seen: list[Page] = []

    async def get(self, url: str) -> Page:
        self.seen.append(await super().get(url))
        return self.seen[-1]

    async def submit(self, page: Page, fields: dict[str, Any] | None = None, *, button: str | None = None) -> Page:
        self.seen.append(await super().submit(page, fields, button=button))
        return self.seen[-1]


def _numbers() -> Iterator[int]:
    return count(1)


def _names() -> Iterator[str]:
    """Short names without digits and without letters that are read for each other."""
    return ("".join(letters) for letters in product("bcdfghjkm", "aeu", "npqrstwxz"))


@dataclass
class Stage:
    """A running robot with its relay, and people who have not registered yet."""

    robot: Robot
    sink: Sink
    societies: dict[str, Society]
    letters: dict[str, dict[str, Letter]] = field(default_factory=dict)
    """Society -> name -> letter, of everybody on the roster."""
    _spare: dict[str, Iterator[Letter]] = field(default_factory=dict)
    _number: Iterator[int] = field(default_factory=_numbers)
    _name: Iterator[str] = field(default_factory=_names)

    # --- people -----------------------------------------------------------------------------------------------------

    async def import_roster(self, society: str, rows: list[dict[str, str]], *, printed: bool) -> None:
        """Takes the people over. `printed`: the society made the credentials itself, else the robot makes them, and
        they are read as the printer gets them."""
        found = self.letters.setdefault(society, {})
        if printed:
            made = [self._letter(society, number, row) for number, row in enumerate(rows)]
            given = [{**one.row, "仮ログインID": one.printed_id, "仮パスワード": one.printed_password} for one in made]
            await asyncio.to_thread(self.robot.import_roster, society, *given)
            found.update({one.row["氏名"]: one for one in made})
            return
        await asyncio.to_thread(self.robot.import_roster, society, *rows)
        file = self.robot.folder / f"letters-{next(self._number)}.csv"
        await asyncio.to_thread(self.robot.command, "roster", "letters", society, "--out", str(file))
        known = {row["氏名"]: row for row in rows}
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for line in csv.DictReader(lines):
                if line["氏名"] in known:
                    found[line["氏名"]] = Letter(known[line["氏名"]], line["仮ログインID"], line["仮パスワード"])

    def _letter(self, society: str, number: int, row: dict[str, str]) -> Letter:
        rule = self.societies[society].temporary
        dice = random.Random(f"{society} {number}")  # the same in every run
        forms = (Format.parse(rule.login_id), Format.parse(rule.password))
        login_id, password = ("".join(dice.choices(form.letters, k=form.length)) for form in forms)
        return Letter(row, login_id, password)

    async def settle(self, society: str, rows: list[dict[str, str]], *, printed: bool) -> None:
        """Imports these people and some spare ones."""
        spare = [person(f"予備{number}", f"{5000 + number}", f"よび{number}") for number in range(SPARE)]
        await self.import_roster(society, [*rows, *spare], printed=printed)
        self._spare[society] = iter([self.letters[society][one["氏名"]] for one in spare])

    def letter(self, society: str) -> Letter:
        """Somebody who was nobody in particular so far."""
        return next(self._spare[society])

    def new_address(self) -> str:
        return f"m{next(self._number)}@phone.example"

    def new_login_id(self) -> str:
        """9 letters that no other member has."""
        return f"kumo-{next(self._name)}x"

    # --- mails ------------------------------------------------------------------------------------------------------

    async def mails(self, to: str, subject: str = "", count: int = 1, seconds: float = 20) -> list[Taken]:
        """The mails with this subject (any, when empty) once `count` have come."""
        end = time.monotonic() + seconds
        while True:
            found = [mail for mail in self.sink.to(to) if not subject or mail.message["Subject"] == subject]
            if len(found) >= count:
                return found
            subjects = [str(mail.message["Subject"]) for mail in self.sink.to(to)]
            assert time.monotonic() < end, f"{len(found)} of {count} mails {subject!r} to {to}; there are {subjects}"
            await asyncio.sleep(0.02)

    async def link(self, to: str, subject: str) -> str:
        """The URL in the newest mail with this subject."""
        return link_in((await self.mails(to, subject))[-1])

    async def invite(self, member: Member, society: str, address: str) -> str:
        """Web entry -> the URL of the mail."""
        before = len(self.sink.to(address))
        page = await member.submit(await member.get(f"/{society}/entry"), {"address": address})
        assert page.heading == "メールをご覧ください", page.text
        return link_in((await self.mails(address, count=before + 1))[-1])

    # --- members ----------------------------------------------------------------------------------------------------

    async def credentials_page(self, member: Member, society: str, letter: Letter, address: str) -> Page:
        """From the web entry through the temporary login."""
        page = await with_paper(member, self.societies[society], await self.invite(member, society, address))
        return await member.submit(page, {"login_id": letter.printed_id, "password": letter.printed_password})

    async def register(
        self, society: str, letter: Letter | None = None, address: str | None = None, **fields: str
    ) -> Account:
        """A member who has gone through it all."""
        letter, address = letter or self.letter(society), address or self.new_address()
        account = Account(letter, address, fields.pop("login_id", "") or self.new_login_id())
        before = len(self.sink.to(address))
        async with Member(self.robot.web) as member:
            page = await self.credentials_page(member, society, letter, address)
            typed = {"login_id": account.login_id, "password": PASSWORD, "password_again": PASSWORD, **fields}
            page = await member.submit(page, typed)
            assert page.url.endswith("/done"), page.text
        mails = await self.mails(address, count=before + 2)
        await self.opened(society, account.login_id)
        return replace(account, mails=tuple(mails[before:]))

    async def opened(self, society: str, login_id: str) -> None:
        """Waits until the relay's word for the completion mail has opened the login, where the society waits for it."""
        statement = "SELECT login_opens_at FROM member WHERE society = ? AND login_id = ?"
        end = time.monotonic() + 20
        while (await self.sql(statement, society, login_id))[0][0] is None:
            assert time.monotonic() < end, "the login stayed closed"
            await asyncio.sleep(0.02)

    async def log_in(self, member: Member, society: str, login_id: str, password: str) -> Page:
        """ID and password, and the mailed PIN where the society asks for one; the page that follows."""
        before = len(self.sink.mails)
        page = await log_in(member, society, login_id, password)
        if not page.url.endswith("/pin"):
            return page
        end = time.monotonic() + 20
        while not (found := [mail for mail in self.sink.mails[before:] if mail.message["Subject"] == PIN]):
            assert time.monotonic() < end, "no PIN came"
            await asyncio.sleep(0.02)
        return await member.submit(page, {"pin": pin_in(found[-1])})

    @asynccontextmanager
    async def logged_in(self, society: str, account: Account) -> AsyncIterator[tuple[Member, Page]]:
        """The member's browser and the home page."""
        async with Member(self.robot.web) as member:
            page = await self.log_in(member, society, account.login_id, account.password)
            assert page.url.endswith("/home"), page.text
            yield member, page

    # --- what is kept -----------------------------------------------------------------------------------------------

    async def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return await asyncio.to_thread(self._sql, statement, values)

    def _sql(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.robot.folder / "var" / "mailbot.sqlite3", timeout=30)
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    async def age_links(self, address: str, ms: int) -> None:
        """Lets time go by for every link that was mailed to an address, and for the mails to it."""
        await self.sql("UPDATE outbox SET created_at = created_at - ?1 WHERE recipient = ?2", ms, address)
        await self.sql("UPDATE link SET created_at = created_at - ?1, expires_at = expires_at - ?1 "
                       "WHERE address = ?2", ms, address)  # fmt: skip

    async def kept(self, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of these tables."""
        return {table: sorted(await self.sql(f"SELECT * FROM {table}"), key=repr) for table in tables}

    async def exported(self, society: str) -> dict[str, dict[str, str]]:
        """Login ID -> line of the export for the portal."""
        file = self.robot.folder / f"export-{next(self._number)}.csv"
        await asyncio.to_thread(self.robot.command, "member", "export", society, "--out", str(file))
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return {line["ログインID"]: line for line in csv.DictReader(lines)}


@asynccontextmanager
async def stage(
    folder: Path,
    people: dict[str, list[dict[str, str]]],
    files: dict[str, str] | None = None,
    **overrides: str,
) -> AsyncIterator[Stage]:
    """A robot with these people (and spare ones) on its rosters. `files`: further societies, id -> text of the file."""
    async with sink() as relay:
        Robot(folder, relay.port)  # lays the configuration out
        for name, text in (files or {}).items():
            (folder / "config" / "societies" / f"{name}.toml").write_text(text, "utf-8")
        async with robot(folder, relay.port, overrides={**_WIDE, **overrides}) as made:
            societies = dict(load(folder / "config", made.environment).societies)
            running = Stage(made, relay, societies)
            await asyncio.gather(
                *(running.settle(society, rows, printed=society in SHIPPED) for society, rows in people.items())
            )
            yield running


def person(name: str, number: str, nickname: str = "", **more: str) -> dict[str, str]:
    """A row of a roster. Who has the same number belongs to the same household."""
    kana = "".join(chr(0x30A2 + int(digit) * 2) for digit in f"{abs(hash_of(name)):06}")
    row = {"記号": "77", "番号": number, "氏名": name, "カナ氏名": f"テスト{kana}", "生年月日": "1970-04-01"}
    return {**row, "仮ニックネーム": nickname, "メールアドレス": "", "保護": "", **more}


def pin_in(mail: Taken) -> str:
    """The PIN of a mail, as it is written there."""
    found = re.search(r"^　(\d+ \d+)$", body(mail), re.MULTILINE)
    assert found, body(mail)
    return found[1]


def hash_of(text: str) -> int:
    """A number of up to six digits that is the same in every run."""
    value = 7
    for letter in text:
        value = (value * 131 + ord(letter)) % 999_983
    return value


async def with_paper(member: Member, society: Society, link: str) -> Page:
    """The temporary login behind a link, chosen where the society has other ways too."""
    page = await member.get(link)
    if page.heading != society.label("choose.title"):
        return page
    mailed = [one for one in society.journeys.values() if {Start.WEB_FORM, Start.BLANK_MAIL} & set(one.starts)]
    (paper,) = [one.label or "" for one in mailed if one.steps[0] == "temporary-login"]
    return await member.follow(page, paper)


# --- reading pages ----------------------------------------------------------------------------------------------------


def _words(node: Any) -> str:
    return " ".join(node.text_content().split())


def labels(page: Page) -> list[str]:
    """Labels and legends of the forms in the main part, in order, without the mark for required ones."""
    nodes = page.tree.xpath("//main//form//label|//main//form//legend")
    return ["".join(node.xpath("text()")).strip() for node in nodes]


def needs(page: Page) -> dict[str, str]:
    """Label -> ※必須 or ※任意."""
    nodes = page.tree.xpath("//main//form//label[span]|//main//form//legend[span]")
    return {"".join(node.xpath("text()")).strip(): _words(node.xpath("span")[0]) for node in nodes}


def buttons(page: Page) -> list[str]:
    """Buttons and links that look like one, in the main part, in order; the invisible default ones left aside."""
    nodes = page.tree.xpath("//main//button[not(contains(@class,'default'))]|//main//a[contains(@class,'btn')]")
    return [_words(node) for node in nodes]


def flat(text: str) -> str:
    """Width of brackets and blanks aside: titles are compared so."""
    return re.sub(r"\s+", "", text.replace("(", "（").replace(")", "）"))


def in_order(text: str, *words: str) -> bool:
    """Whether the words stand in the text, one behind the other."""
    at = 0
    for word in words:
        at = text.find(word, at)
        if at < 0:
            raise AssertionError(f"{word!r} does not follow in its turn in: {text}")
        at += len(word)
    return True


def starts(society: Society) -> set[Start]:
    """All the ways a registration with this society may begin."""
    return {start for journey in society.journeys.values() for start in journey.starts}


def with_mail_first(society: str) -> bool:
    """Whether a shipped society has a registration that begins with a mail."""
    file = REPOSITORY / "config" / "societies" / f"{society}.toml"
    journeys = tomllib.loads(file.read_text("utf-8"))["journeys"].values()
    return any(start in journey["starts"] for journey in journeys for start in ("blank-mail", "web-form"))
