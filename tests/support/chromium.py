"""Debian's Chromium by Playwright, as a member at home would see the pages."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright

from tests.support.servers import program

PHONE, DESKTOP = 320, 1280  # widths in CSS pixels

# Everything by which a browser talks to its maker is off: a test reaches no further than the loopback.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser; every page opened from it has its own cookies."""
    path = program("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(path), args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def page(browser: Browser, *, js: bool = True, width: int = DESKTOP) -> AsyncIterator[Page]:
    """One person's window: Japanese, own cookies, with or without JavaScript, `width` CSS pixels wide."""
    context = await browser.new_context(
        java_script_enabled=js,
        viewport={"width": width, "height": 640 if width < 500 else 800},
        is_mobile=width < 500,
        has_touch=width < 500,
        locale="ja-JP",
        timezone_id="Asia/Tokyo",
    )
    context.set_default_timeout(15_000)
    try:
        yield await context.new_page()
    finally:
        await context.close()
