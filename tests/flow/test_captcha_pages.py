"""The captcha as a browser meets it: with scripts nobody notices it, without there is a question, or a picture."""

from __future__ import annotations

import asyncio
import io
import re
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect
from sqlalchemy import func, select

from mailbot.registration import timetable
from mailbot.store.tables import captcha_used
from mailbot.web.captcha import LIFE_MS, QUESTIONS_PER_HOUR
from mailbot.web.captcha.challenge import Challenge, reading
from mailbot.web.captcha.speech import RATE
from tests.support.captcha import Lobby, hidden, lobby
from tests.support.chromium import DESKTOP, PHONE, page

PASSED = "通りました"
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


class Hand:
    """A browser without scripts, in the test's own loop."""

    def __init__(self, at: Lobby, client: httpx2.AsyncClient) -> None:
        self.at = at
        self.client = client
        self.html = ""

    async def open(self) -> Challenge:
        self.html = (await self.client.get("/yokokou/lobby")).text
        return self.challenge()

    def challenge(self) -> Challenge:
        (browser,) = [value for name, value in self.client.cookies.items() if name.endswith("form")]
        found = self.at.challenge(self.html, browser)
        assert found is not None
        return found

    async def send(self, **form: str) -> int:
        """POST with the hidden fields of the page in hand; its answer becomes the page in hand."""
        fields = {"form-key": hidden(self.html, "form-key"), "captcha_ticket": hidden(self.html, "captcha_ticket")}
        answer = await self.client.post("/yokokou/lobby", data={**fields, **form})
        assert answer.status_code < 500
        self.html, kept = answer.text, self.html
        if answer.text == PASSED:
            self.html = kept
        return answer.status_code

    @property
    def complaint(self) -> str:
        (text,) = re.findall(r'id="f-captcha-?e?"[^>]*><p>＊([^<]*)</p>', self.html)
        return str(text)


@asynccontextmanager
async def hand(at: Lobby) -> AsyncIterator[Hand]:
    transport = httpx2.ASGITransport(app=at.app, client=("203.0.113.9", 5000))
    async with httpx2.AsyncClient(transport=transport, base_url=at.house.url) as client:
        yield Hand(at, client)


async def _used(at: Lobby) -> int:
    async with at.house.ctx.store.read() as tx:
        return await tx.scalar(select(func.count()).select_from(captcha_used)) or 0


@pytest.fixture
async def proof(tmp_path: Path) -> AsyncIterator[Lobby]:
    async with lobby(tmp_path, "proof") as found:
        yield found


@pytest.fixture
async def picture(tmp_path: Path) -> AsyncIterator[Lobby]:
    async with lobby(tmp_path, "picture") as found:
        yield found


# --- proof ------------------------------------------------------------------------------------------------------------


async def test_a_number_found_passes_once(proof: Lobby) -> None:
    async with hand(proof) as one:
        number = str((await one.open()).number(proof.house.ctx.ring))
        assert await one.send(captcha_proof=number) == 200
        assert await one.send(captcha_proof=number) == 422
        assert "もう送信されています" in one.complaint
        number = str(one.challenge().number(proof.house.ctx.ring))
        assert await one.send(captcha_proof=number) == 200


async def test_the_same_form_sent_twice_at_once_passes_once(proof: Lobby) -> None:
    async with hand(proof) as one:
        number = str((await one.open()).number(proof.house.ctx.ring))
        assert sorted(await asyncio.gather(*(one.send(captcha_proof=number) for _ in range(4)))) == [200, 422, 422, 422]


async def test_a_wrong_number_uses_the_challenge_up(proof: Lobby) -> None:
    async with hand(proof) as one:
        challenge = await one.open()
        page, number = one.html, challenge.number(proof.house.ctx.ring)
        for wrong in (str(number + 1), f"{number} ", f"0{number}", "x" * 1000, "１２", "-1"):
            await one.open()
            assert await one.send(captcha_proof=wrong) == 422
            assert "確認できませんでした" in one.complaint
        one.html = page
        assert await one.send(captcha_proof="1") == 422
        one.html = page
        assert await one.send(captcha_proof=str(number)) == 422


async def test_a_challenge_lives_twenty_minutes_and_is_forgotten_after(proof: Lobby) -> None:
    async with hand(proof) as one:
        number = str((await one.open()).number(proof.house.ctx.ring))
        page = one.html
        proof.house.now += LIFE_MS - 1
        assert await one.send(captcha_proof=number) == 200
        assert await _used(proof) == 1
        proof.house.now += 2
        async with proof.house.ctx.store.begin() as tx:
            await timetable.purge(proof.house.ctx, tx, proof.house.now)
        assert await _used(proof) == 0
        one.html = page
        assert await one.send(captcha_proof=number) == 422
        assert "20分" in one.complaint


async def test_a_challenge_is_of_no_use_in_another_browser(proof: Lobby) -> None:
    async with hand(proof) as one, hand(proof) as other:
        number = str((await one.open()).number(proof.house.ctx.ring))
        ticket = hidden(one.html, "captcha_ticket")
        await other.open()
        assert await other.send(captcha_ticket=ticket, captcha_proof=number) == 422
        assert await one.send(captcha_proof=number) == 200


async def test_a_challenge_is_of_no_use_in_another_society(proof: Lobby) -> None:
    async with hand(proof) as one:
        number = str((await one.open()).number(proof.house.ctx.ring))
        form = {"captcha_ticket": hidden(one.html, "captcha_ticket"), "captcha_proof": number}
        there = await one.client.get("/shochiku/lobby")
        answer = await one.client.post("/shochiku/lobby", data={**form, "form-key": hidden(there.text, "form-key")})
        assert answer.status_code == 422


@pytest.mark.parametrize("ticket", ["", "x", "proof.a.b.c", "9" * 1000, "確認", "passed3"])
async def test_a_ticket_that_is_none_gets_a_fresh_challenge(proof: Lobby, ticket: str) -> None:
    async with hand(proof) as one:
        await one.open()
        assert await one.send(captcha_ticket=ticket, captcha_proof="1", kana="ハナコ") == 422
        assert 'value="ハナコ"' in one.html
        number = str(one.challenge().number(proof.house.ctx.ring))
        assert await one.send(captcha_proof=number) == 200
        assert await _used(proof) == 1


async def test_who_passed_and_mistyped_another_field_is_not_asked_again_three_times(proof: Lobby) -> None:
    async with hand(proof) as one:
        number = str((await one.open()).number(proof.house.ctx.ring))
        assert await one.send(captcha_proof=number, kana="bad") == 422
        for _ in range(2):
            assert "確認のための質問" not in one.html
            page = one.html
            assert await one.send(kana="bad") == 422
            after, one.html = one.html, page
            assert await one.send(kana="ok") == 422  # each pass counts once, too
            one.html = after
        assert await one.send(kana="bad") == 422
        assert "確認のための質問" in one.html
        assert await one.send(kana="ok") == 422


async def test_without_scripts_a_question_is_answered_as_people_type(proof: Lobby) -> None:
    async with hand(proof) as one:
        wide = {ord("0") + digit: ord("０") + digit for digit in range(10)}
        for between in ("", " ", "・"):
            answer = (await one.open()).question(proof.house.ctx.ring)
            assert reading(answer) in one.html
            assert await one.send(captcha=between.join(answer).translate(wide)) == 200
        assert await one.send(captcha=answer) == 422


async def test_an_empty_and_a_wrong_answer_to_the_question(proof: Lobby) -> None:
    async with hand(proof) as one:
        answer = (await one.open()).question(proof.house.ctx.ring)
        page = one.html
        assert await one.send(captcha="　") == 422
        assert "3けた" in one.complaint
        assert "<noscript>" not in one.html  # now it is asked of everybody
        one.html = page
        assert await one.send(captcha=str(int(answer) + 1)) == 422
        assert "新しい質問" in one.complaint
        one.html = page
        assert await one.send(captcha=answer) == 422


async def test_one_network_answers_few_questions_an_hour_and_computes_on(proof: Lobby) -> None:
    async with hand(proof) as one:
        for _ in range(QUESTIONS_PER_HOUR):
            answer = (await one.open()).question(proof.house.ctx.ring)
            assert await one.send(captcha=answer) == 200
        answer = (await one.open()).question(proof.house.ctx.ring)
        assert await one.send(captcha=answer) == 422
        assert "13時00分まで" in one.complaint
        number = str((await one.open()).number(proof.house.ctx.ring))
        assert await one.send(captcha_proof=number) == 200
        proof.house.now += 3_600_000
        answer = (await one.open()).question(proof.house.ctx.ring)
        assert await one.send(captcha=answer) == 200


async def test_only_a_page_with_a_captcha_may_load_more(proof: Lobby) -> None:
    async with hand(proof) as one:
        shown = await one.client.get("/yokokou/lobby")
        passed = await one.client.get("/static/" + re.findall(r"/static/(proof\.[^\"]+)", shown.text)[0])
    policy = shown.headers["content-security-policy"]
    assert policy.startswith(
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'"
    )
    assert policy.endswith("; script-src 'self'")
    assert shown.headers.get_list("content-security-policy") == [policy]
    assert passed.headers["content-type"].startswith("text/javascript")
    assert "script-src" not in passed.headers["content-security-policy"]


# --- picture ----------------------------------------------------------------------------------------------------------


async def test_the_digits_of_the_picture_pass_once(picture: Lobby) -> None:
    async with hand(picture) as one:
        digits = (await one.open()).digits(picture.house.ctx.ring)
        assert await one.send(captcha="・".join(digits)) == 200
        assert await one.send(captcha=digits) == 422
        assert "新しい画像" in one.complaint


async def test_wrong_digits_use_the_picture_up_and_keep_what_was_typed(picture: Lobby) -> None:
    async with hand(picture) as one:
        digits = (await one.open()).digits(picture.house.ctx.ring)
        page = one.html
        assert await one.send(captcha=digits[:-1], kana="ハナコ") == 422
        assert "数字が違います" in one.complaint
        assert 'value="ハナコ"' in one.html
        one.html = page
        assert await one.send(captcha=digits) == 422
        await one.open()
        assert await one.send(captcha="") == 422
        assert "5けた" in one.complaint
        assert await one.send(captcha_proof="1") == 422


async def test_another_picture_keeps_what_was_typed(picture: Lobby) -> None:
    async with hand(picture) as one:
        first = await one.open()
        assert await one.send(captcha_new="1", kana="ハナコ") == 200
        assert one.challenge().id != first.id
        assert 'value="ハナコ"' in one.html
        assert 'role="alert"' not in one.html


async def test_picture_and_recording_are_for_this_browser_and_society_and_time(picture: Lobby) -> None:
    async with hand(picture) as one, hand(picture) as other:
        challenge = await one.open()
        place = f"/yokokou/captcha/{challenge.ticket}"
        png, wav = await one.client.get(f"{place}/picture.png"), await one.client.get(f"{place}/voice.wav")
        assert (png.status_code, png.headers["content-type"]) == (200, "image/png")
        assert png.content == (await one.client.get(f"{place}/picture.png")).content
        assert png.headers["cache-control"] == "no-store"
        assert (wav.status_code, wav.headers["content-type"]) == (200, "audio/wav")
        with wave.open(io.BytesIO(wav.content)) as sound:
            assert 4 < sound.getnframes() / RATE < 10
        part = await one.client.get(f"{place}/voice.wav", headers={"range": "bytes=0-1"})
        assert (part.status_code, part.content) == (206, b"RI")
        await other.open()
        for name in ("picture.png", "voice.wav"):
            assert (await other.client.get(f"{place}/{name}")).status_code == 404
            assert (await one.client.get(f"{place.replace('yokokou', 'shochiku')}/{name}")).status_code == 404
            assert (await one.client.get(f"{place}x/{name}")).status_code == 404
        picture.house.now += LIFE_MS
        assert (await one.client.get(f"{place}/picture.png")).status_code == 404


async def test_a_ticket_of_a_proof_has_no_picture(proof: Lobby) -> None:
    async with hand(proof) as one:
        challenge = await one.open()
        assert (await one.client.get(f"/yokokou/captcha/{challenge.ticket}/picture.png")).status_code == 404
        assert (await one.client.get(f"/yokokou/captcha/{challenge.ticket}/voice.wav")).status_code == 404


# --- in Chromium ------------------------------------------------------------------------------------------------------


async def _challenge(at: Lobby, window: Page) -> Challenge:
    cookie = next(one["value"] for one in await window.context.cookies() if one["name"].endswith("form"))
    found = at.challenge(await window.content(), cookie)
    assert found is not None
    return found


async def _examine(window: Page, twin: Page) -> None:
    """axe, in a window with scripts, on what the other window shows."""
    html, where = await window.content(), window.url
    await twin.route(where, lambda route: route.fulfill(body=html, content_type="text/html; charset=utf-8"))
    await twin.goto(where)
    assert await twin.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    found = await Axe().run(twin, options=RULES)
    assert found.violations_count == 0, found.generate_report()
    await twin.unroute_all()


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
async def test_a_browser_with_scripts_passes_without_doing_anything(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with lobby(tmp_path, "proof", served=True) as at, page(browser, width=width) as window:
        said: list[str] = []
        window.on("console", lambda message: said.append(message.text))
        await window.goto(at.url)
        await expect(window.locator("[name=captcha_proof]")).not_to_have_value("")
        found = await _challenge(at, window)
        assert await window.locator("[name=captcha_proof]").input_value() == str(found.number(at.house.ctx.ring))
        assert await window.get_by_label("確認のための質問").count() == 0
        await window.get_by_role("button", name="次へ進む").click()
        await expect(window.locator("body")).to_have_text(PASSED)
        assert [text for text in said if "Content Security" in text] == []


async def test_a_form_sent_too_early_waits_and_says_so(tmp_path: Path, browser: Browser) -> None:
    async with lobby(tmp_path, "proof", served=True) as at, page(browser) as window:
        # a phone that has no time at all, until the test lets it go on
        await window.add_init_script(
            "const later = window.setTimeout; window.waiting = [];"
            "performance.now = (() => { let t = 0; return () => t += window.go ? 0.1 : 20; })();"
            "window.setTimeout = (f, ms) => { window.go ? later(f, ms) : window.waiting.push(f); };"
        )
        await window.goto(at.url)
        await window.get_by_label("お名前のカナ").fill("ハナコ")
        await window.keyboard.press("Enter")
        await expect(window.locator(".acts .btn")).to_have_text("確認しています…")
        await expect(window.get_by_role("status")).to_contain_text("次へ進みます")
        assert await window.locator("[name=captcha_proof]").input_value() == ""
        await window.keyboard.press("Enter")  # impatience changes nothing
        await window.evaluate("() => { window.go = true; window.waiting.forEach(f => f()); }")
        await expect(window.locator("body")).to_have_text(PASSED)


async def test_a_refused_proof_is_told_and_the_next_one_passes(tmp_path: Path, browser: Browser) -> None:
    async with lobby(tmp_path, "proof", served=True) as at, page(browser) as window, page(browser) as twin:
        await window.goto(at.url)
        await expect(window.locator("[name=captcha_proof]")).not_to_have_value("")
        at.house.now += LIFE_MS
        await window.get_by_role("button", name="次へ進む").click()
        await window.get_by_role("alert").get_by_role("link").click()
        assert await window.evaluate("() => document.activeElement.id") == "f-captcha"
        await _examine(window, twin)
        await window.get_by_role("button", name="次へ進む").click()
        await expect(window.locator("body")).to_have_text(PASSED)


async def test_where_the_script_does_not_load_the_question_is_asked(tmp_path: Path, browser: Browser) -> None:
    async with lobby(tmp_path, "proof", served=True) as at, page(browser) as window:
        await window.route("**/proof.*.js", lambda route: route.abort())
        await window.goto(at.url)
        await window.get_by_role("button", name="次へ進む").click()
        found = await _challenge(at, window)
        await window.get_by_label("確認のための質問").fill(found.question(at.house.ctx.ring))
        await window.keyboard.press("Enter")
        await expect(window.locator("body")).to_have_text(PASSED)


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
async def test_a_browser_without_scripts_reads_the_question(tmp_path: Path, browser: Browser, width: int) -> None:
    async with (
        lobby(tmp_path, "proof", served=True) as at,
        page(browser, js=False, width=width) as window,
        page(browser, js=False, width=width) as still,
        page(browser, width=width) as twin,
    ):
        await still.goto(at.url)
        await window.goto(at.url)
        await window.get_by_role("button", name="次へ進む").click()
        assert await window.get_by_role("alert").count() == 1
        await _examine(window, twin)
        await window.get_by_role("alert").get_by_role("link").click()
        assert await window.evaluate("() => document.activeElement.name") == "captcha"
        found = await _challenge(at, still)
        await still.get_by_label("確認のための質問").fill(found.question(at.house.ctx.ring))
        await still.keyboard.press("Enter")
        await expect(still.locator("body")).to_have_text(PASSED)


@pytest.mark.parametrize(("scripts", "width"), [(False, PHONE), (True, DESKTOP)])
async def test_a_picture_is_seen_heard_and_changed(tmp_path: Path, browser: Browser, scripts: bool, width: int) -> None:
    async with (
        lobby(tmp_path, "picture", served=True) as at,
        page(browser, js=scripts, width=width) as window,
        page(browser, width=width) as twin,
    ):
        said: list[str] = []
        window.on("console", lambda message: said.append(message.text))
        await window.goto(at.url)
        await window.get_by_label("お名前のカナ").fill("ハナコ")
        before = await window.locator("[name=captcha_ticket]").input_value()
        await window.get_by_role("button", name="別の画像にする").click()
        assert await window.locator("[name=captcha_ticket]").input_value() != before
        assert await window.get_by_label("お名前のカナ").input_value() == "ハナコ"
        # asked from outside the page: where scripts are off, no timer runs in it
        await expect(window.locator("img")).to_have_js_property("naturalWidth", 280, timeout=60_000)
        if scripts:
            length = await window.evaluate(
                "() => new Promise((yes, no) => { const a = document.querySelector('audio');"
                "a.onloadedmetadata = () => yes(a.duration); a.onerror = () => no(a.error.message); a.load();"
                "a.preload = 'auto'; })"
            )
            assert 4 < length < 10
        await _examine(window, twin)
        found = await _challenge(at, window)
        await window.get_by_role("textbox", name="画像の数字").fill(found.digits(at.house.ctx.ring))
        await window.keyboard.press("Enter")
        await expect(window.locator("body")).to_have_text(PASSED)
        assert [text for text in said if "Content Security" in text] == []
