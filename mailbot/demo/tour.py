"""The main job before the eyes: each step goes through people's own doors and is printed with its mail and time."""

from __future__ import annotations

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

PASSWORD = "Sakura-no-hana2026"  # noqa: S105 - an invented member's
NEW_PASSWORD = "Momiji-no-yama2026"  # noqa: S105


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
    """Goes through the main job of every society that has demo members. True when every step held."""
    tour = _Tour(robot, settings, relay)
    for society in settings.societies.values():
        letters = await people.letters(robot.ctx, society, robot.clock.now())
        if not letters:
            continue
        print(f"\n{society.name} – {society.service}")
        try:
            await _member(tour, society, letters[-1])  # the first stay for the demo page
        except Stumbled:
            continue
    print("\nEvery step held." if tour.held else "\nSome steps did not hold.")
    return tour.held


async def _member(tour: _Tour, society: Society, letter: people.Letter) -> None:
    settings, relay = tour.settings, tour.relay
    base = f"{settings.site.site.web_url}/{society.id}"
    person = f"demo.{society.id}@phone.example"
    browser = Browser()
    seen = len(relay.messages)

    if society.journeys_for(Start.BLANK_MAIL):
        to = society.addresses.registration or ""
        await tour.step(
            f"A phone scans the notice and sends a blank mail to {to}", lambda: blank_mail(settings, person, to)
        )
    else:
        page = await browser.get(f"{base}/entry")
        await tour.step("A member types the mail address on the web page", lambda: browser.send(page, address=person))
    title = "利用登録手続き"
    invitation = await tour.step(
        "The robot answers with the one-time URL", lambda: mailbox.wait_for(relay, person, title, seen)
    )
    page = await tour.step("The member opens the link", lambda: browser.get(invitation.url or ""))
    page = await tour.step(
        "… logs in with the temporary credentials on paper",
        lambda: browser.send(page, login_id=letter.login_id, password=letter.password),
    )
    login_id = "hanako-demo"

    async def choose() -> Page:
        done = await browser.send(page, login_id=login_id, password=PASSWORD, password_again=PASSWORD)
        return _expect(done, society.label("done.title"))

    seen = len(relay.messages)
    await tour.step("… and chooses login ID and password", choose)
    await tour.step("The completion mail follows", lambda: mailbox.wait_for(relay, person, "完了", seen))
    await _log_in(tour, society, base, login_id, PASSWORD)
    await _reissue(tour, society, base, person, login_id)


async def _log_in(tour: _Tour, society: Society, base: str, login_id: str, password: str) -> None:
    async def log_in() -> Page:
        browser = Browser()
        home = await browser.send(await browser.get(f"{base}/login"), login_id=login_id, password=password)
        return _expect(home, society.label("home.title")) if not home.url.endswith("/home") else home

    await tour.step("The member logs in", log_in)


async def _reissue(tour: _Tour, society: Society, base: str, person: str, login_id: str) -> None:
    relay, browser = tour.relay, Browser()
    seen = len(relay.messages)
    page = await browser.get(f"{base}/reissue")
    await tour.step("A forgotten password: the member asks for a reissue", lambda: browser.send(page, address=person))
    mail = await tour.step("The reissue mail comes", lambda: mailbox.wait_for(relay, person, "再発行", seen))
    page = await tour.step("The member opens its link", lambda: browser.get(mail.url or ""))
    if society.reissue.temporary_password:
        password = mailbox.field(mail, "仮パスワード")
        page = await tour.step(
            "… logs in with the temporary password of the mail",
            lambda: browser.send(page, login_id=login_id, temporary_password=password),
        )
    await tour.step(
        "… and sets a new password", lambda: browser.send(page, password=NEW_PASSWORD, password_again=NEW_PASSWORD)
    )
    await _log_in(tour, society, base, login_id, NEW_PASSWORD)
