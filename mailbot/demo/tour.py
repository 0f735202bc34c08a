"""The main job before the eyes: each step goes through people's own doors and is printed with its mail and time."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiosmtplib import SMTP

from mailbot.app import Robot
from mailbot.config import Settings, Society, Start, split_endpoint
from mailbot.delivery.relay import CaptureRelay
from mailbot.demo import mailbox, people
from mailbot.demo.browser import Browser, Page
from mailbot.demo.mailbox import Mail
from mailbot.letters import LETTERS
from mailbot.web.captcha import READINGS

PASSWORD = "Sakura-no-hana2026"  # noqa: S105 - an invented member's
LOGIN_ID = "hanako-demo"
NEW_PASSWORD = "Momiji-no-yama2026"  # noqa: S105 - an invented member's


class Stumbled(Exception):
    """A step did not end as it should."""


class _Tour:
    """Prints the steps of one member and remembers whether each held."""

    def __init__(self, robot: Robot, settings: Settings, relay: CaptureRelay) -> None:
        self.robot, self.settings, self.relay = robot, settings, relay
        self.held = True
        self.number = 0

    async def step(self, title: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Runs one step; a failed one ends this member's tour."""
        self.number += 1
        begun = time.perf_counter()
        try:
            found = await work()
        except (Stumbled, LookupError, TimeoutError, OSError) as error:
            self.held = False
            print(f"{self.number:2}. {title} – FAILED: {error or type(error).__name__}")
            raise Stumbled(title) from error
        print(f"{self.number:2}. {title}   {1000 * (time.perf_counter() - begun):.0f} ms")
        for mail in [found] if isinstance(found, Mail) else []:
            _print_mail(mail)
        return found


def _print_mail(mail: Mail) -> None:
    print(
        f"    ┌ From: {mail.sender}\n    │ To: {mail.to}\n    │ Subject: {mail.subject}"
        + ("   (DKIM-signed)" if mail.signed else "")
    )
    for line in mail.body.rstrip().splitlines():
        print(f"    │ {line}")
    print("    └")


async def blank_mail(settings: Settings, sender: str, to: str) -> str:
    """What a phone sends after the scan -> the robot's answer. Raises Stumbled."""
    host, port = split_endpoint(settings.site.smtp.listen[0])
    async with SMTP(hostname=host, port=port, start_tls=False, local_hostname="phone.example") as client:
        message = f"From: {sender}\r\nTo: {to}\r\nMessage-ID: <{time.time_ns()}@phone.example>\r\n\r\n".encode()
        errors, answer = await client.sendmail(sender, [to], message)
    if errors:
        raise Stumbled(str(errors))
    return answer


def _expect(page: Page, words: str) -> Page:
    if " ".join(words.split()) not in page.heading:
        raise Stumbled(f"expected a page {words!r}, got {page.heading!r} ({page.status}) {page.alert}")
    return page


async def walk(robot: Robot, settings: Settings, relay: CaptureRelay) -> bool:
    """Goes through a journey of every society that has demo members. True when every step held."""
    tour = _Tour(robot, settings, relay)
    for society in settings.societies.values():
        somebody = await people.everybody(robot.ctx, society, robot.clock.now())
        if not somebody:
            continue
        print(f"\n{society.name} – {society.service}")
        # the first stay for the demo page; the eldest of a household, an insured person where there is one
        someone = next((one for one in reversed(somebody) if one.relation == "本人"), somebody[-1])
        try:
            await _Walk(tour, society, someone).go()
        except Stumbled as error:
            if tour.held:
                print(f"    FAILED: {error}")
            tour.held = False
    print("\nEvery step held." if tour.held else "\nSome steps did not hold.")
    return tour.held


class _Walk:
    """One member's way from the first mail to the login after a reissue."""

    def __init__(self, tour: _Tour, society: Society, someone: people.Someone) -> None:
        self.tour, self.society, self.someone = tour, society, someone
        self.settings, self.relay = tour.settings, tour.relay
        self.base = f"{self.settings.site.site.web_url}/{society.id}"
        self.address = f"demo.{society.id}@phone.example"
        self.browser = Browser()
        self.login_id = LOGIN_ID
        self.key = ""
        self.seen = 0

    async def go(self) -> None:
        page = await self._begin()
        while not page.url.partition("?")[0].endswith("/done"):
            page = await self._take(page)
        _expect(page, self.society.label("done.title"))
        await self._mail("The completion mail follows", "完了")
        await self._log_in(PASSWORD)
        await self._reissue()

    async def _mail(self, title: str, subject: str) -> Mail:
        """The next mail with this subject."""
        found = await self.tour.step(title, lambda: mailbox.wait_for(self.relay, self.address, subject, self.seen))
        assert isinstance(found, Mail)
        self.seen = found.number + 1
        return found

    async def _begin(self) -> Page:
        """The first page of the society's first journey."""
        society, browser, someone = self.society, self.browser, self.someone
        name, journey = next(iter(society.journeys.items()))
        self.seen = len(self.relay.messages)
        if journey.steps[0] == "formula-login":
            self.login_id = self._formula_id()
            return await self._first_login()
        if Start.BLANK_MAIL in journey.starts:
            to = society.addresses.registration or ""
            await self.tour.step(
                f"A phone scans the notice and sends a blank mail to {to}",
                lambda: blank_mail(self.settings, self.address, to),
            )
        elif Start.WEB_FORM in journey.starts:
            page = await browser.get(f"{self.base}/entry")
            await self.tour.step(
                "A member types the mail address on the web page", lambda: browser.send(page, address=self.address)
            )
        else:
            return _page(
                await self.tour.step(
                    f"{someone.kana} begins without a mail", lambda: browser.get(f"{self.base}/direct?journey={name}")
                )
            )
        invitation = await self._mail("The robot answers with the one-time URL", "利用登録手続き")
        page = _page(await self.tour.step("The member opens the link", lambda: browser.get(invitation.url or "")))
        if len(page.forms) == 0 or "step" not in page.forms[0].values:
            words = journey.label or society.label("entry.title")
            page = _page(
                await self.tour.step("… says which letter lies on the table", lambda: browser.get(page.link(words)))
            )
        return page

    async def _first_login(self) -> Page:
        """Symbol and number make the login ID, the birth date is the first password."""
        page = await self.browser.get(f"{self.base}/login")
        page = _page(
            await self.tour.step(
                f"A member types the login ID that follows from symbol and number: {self.login_id}",
                lambda: self.browser.send(page, login_id=self.login_id),
            )
        )
        born = self.someone.born.strftime("%Y%m%d") if self.someone.born else ""
        return _page(
            await self.tour.step(
                "… and the birth date as first password", lambda: self.browser.send(page, password=born)
            )
        )

    def _formula_id(self) -> str:
        formula = self.society.formula
        assert formula is not None  # held by the step's problems at start-up
        parts = {"symbol": self.someone.symbol, "number": self.someone.number}
        return re.sub(r"\{(\w+):(\d)\}", lambda gap: parts[gap[1]].zfill(int(gap[2])), formula.login_id)

    async def _take(self, page: Page) -> Page:
        """One step of the journey, whichever the page says it is."""
        if page.alert:
            raise Stumbled(page.alert[:200])
        form = next((one for one in page.forms if "step" in one.values), None)
        if form is None:
            raise Stumbled(f"no step on {page.heading!r} ({page.status})")
        step = form.values["step"]
        if step in ("mailed-link", "confirm-by-mail") and not {"key", "password"} & set(form.values):
            return await self._open_mailed(page, step)
        title, values = self._fill(step, page)
        values = {name: value for name, value in values.items() if name in form.values or name in form.boxes}
        if "captcha" in form.values:
            values["captcha"] = _digits(page.text)
        return _page(await self.tour.step(title, lambda: self.browser.fill(page, form, values)))

    async def _open_mailed(self, page: Page, step: str) -> Page:
        found = re.search(r'class="key code">(\d+)<', page.text)
        self.key = found[1] if found else ""
        if self.key:
            print(f"    the screen shows {self.key}")
        mail = await self._mail("A second mail comes", LETTERS[step].title)
        self.browser = Browser()
        return _page(
            await self.tour.step(
                "The member opens its link, in another browser", lambda: self.browser.get(mail.url or "")
            )
        )

    def _fill(self, step: str, page: Page) -> tuple[str, dict[str, str]]:
        """(what is printed, what is typed)."""
        one = self.someone
        chosen = {"password": PASSWORD, "password_again": PASSWORD, "address": self.address}
        born = one.born
        match step:
            case "temporary-login":
                return "… logs in with the temporary credentials", {"login_id": one.login_id, "password": one.password}
            case "insurance-details":
                when = {"year": str(born.year), "month": str(born.month), "day": str(born.day)} if born else {}
                facts = {"address": self.address, "symbol": one.symbol, "number": one.number, "kana": one.kana}
                typed = facts | {f"birth_date_{part}": text for part, text in when.items()}
                return "… says who it is with the facts on the insurance card", typed
            case "consent":
                boxes = [box for form in page.forms for box in form.boxes]
                return "… reads and agrees", dict.fromkeys(boxes, "yes")
            case "settings":
                return "… chooses the password", chosen
            case "review":
                return "… looks at everything once more", {}
            case "enter-key":
                return f"… types {self.key}", {"key": self.key}
            case "confirm-by-mail":
                return "… types the password once more", {"password": PASSWORD}
            case "credentials":
                return "… and chooses login ID and password", {"login_id": LOGIN_ID, **chosen}
        raise Stumbled(f"the tour does not know the step {step}")

    async def _log_in(self, password: str) -> None:
        browser = Browser()

        async def log_in() -> Page:
            page = await browser.get(f"{self.base}/login")
            if self.society.login.two_pages:
                return await browser.send(await browser.send(page, login_id=self.login_id), password=password)
            return await browser.send(page, login_id=self.login_id, password=password)

        self.seen = len(self.relay.messages)
        page = _page(await self.tour.step("The member logs in", log_in))
        if self.society.login.pin is not None:
            mail = await self._mail("A PIN comes by mail", LETTERS["pin"].title)
            found = re.search(r"^\s*([\d ]{4,9})\s*$", mail.body, re.MULTILINE)
            pin = found[1].strip() if found else ""
            page = _page(await self.tour.step(f"… types {pin}", lambda: browser.send(page, pin=pin)))
        if not page.url.endswith("/home"):
            raise Stumbled(f"no login: {page.heading} {page.alert}")

    async def _reissue(self) -> None:
        society, browser = self.society, Browser()
        self.seen = len(self.relay.messages)
        page = await browser.get(f"{self.base}/reissue")
        await self.tour.step(
            "A forgotten password: the member asks for a reissue", lambda: browser.send(page, address=self.address)
        )
        mail = await self._mail("The reissue mail comes", "再発行")
        page = _page(await self.tour.step("The member opens its link", lambda: browser.get(mail.url or "")))
        if society.reissue.temporary_password:
            password = mailbox.field(mail, society.label("reissue.temporary-password"))
            page = _page(
                await self.tour.step(
                    "… logs in with the temporary password of the mail",
                    lambda: browser.send(page, login_id=self.login_id, temporary_password=password),
                )
            )
        await self.tour.step(
            "… and sets a new password", lambda: browser.send(page, password=NEW_PASSWORD, password_again=NEW_PASSWORD)
        )
        await self._log_in(NEW_PASSWORD)


def _page(found: object) -> Page:
    assert isinstance(found, Page)
    return found


def _digits(text: str) -> str:
    """The answer to the plain question that stands where no script runs."""
    found = re.search(r"次の数字を、続けて入力してください：([ァ-ヶぁ-ん・ー]+)", text)
    return "".join(str(READINGS.index(word)) for word in found[1].split("・")) if found else ""
