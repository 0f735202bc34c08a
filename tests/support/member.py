"""A member with a browser that knows forms and cookies but no scripts: httpx2 and lxml."""

from __future__ import annotations

from typing import Any, Self
from urllib.parse import urljoin

import httpx2
from lxml import html


class Page:
    """One page as it came."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.answer = answer
        self.status = answer.status_code
        self.url = str(answer.url)
        self.tree: Any = html.fromstring(answer.text) if answer.text.strip() else html.fromstring("<html></html>")

    @property
    def heading(self) -> str:
        return " ".join(self.tree.xpath("string(//h1)").split())

    @property
    def text(self) -> str:
        """Everything a reader sees, white space folded."""
        return " ".join(self.tree.text_content().split())

    @property
    def errors(self) -> list[str]:
        return [" ".join(node.text_content().split()) for node in self.tree.xpath("//*[@role='alert']//li")]

    def labels(self) -> list[str]:
        return [" ".join(node.text_content().split()) for node in self.tree.xpath("//label|//legend")]

    def buttons(self) -> list[str]:
        return [
            " ".join(node.text_content().split()) for node in self.tree.xpath("//button|//a[contains(@class,'btn')]")
        ]

    def value(self, name: str) -> str:
        return str(self.tree.xpath(f"//*[@name='{name}']")[0].get("value") or "")

    def link(self, words: str) -> str:
        """The address behind the link with these words."""
        for node in self.tree.xpath("//a[@href]"):
            if words in " ".join(node.text_content().split()):
                return str(urljoin(self.url, node.get("href")))
        raise AssertionError(f"no link {words!r} on {self.url}: {self.text[:600]}")


class Member:
    """One browser: cookies of its own, redirects followed."""

    def __init__(self, base: str, **options: Any) -> None:
        self.client = httpx2.AsyncClient(base_url=base, follow_redirects=True, timeout=30, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def get(self, url: str) -> Page:
        return Page(await self.client.get(url))

    async def follow(self, page: Page, words: str) -> Page:
        return await self.get(page.link(words))

    async def submit(self, page: Page, fields: dict[str, Any] | None = None, *, button: str | None = None) -> Page:
        """Fills in and sends a form of the page: the one that has this button and these fields."""
        fields = fields or {}
        forms = page.tree.xpath("//form")
        assert forms, f"no form on {page.url}: {page.text[:600]}"

        def fits(form: Any) -> bool:
            words = [" ".join(node.text_content().split()) for node in form.xpath(".//button")]
            return (button is None or button in words) and set(fields) <= set(form.fields.keys())

        chosen = next((form for form in forms if fits(form)), None)
        assert chosen is not None, f"no form with {list(fields)} and {button!r} on {page.url}: {page.text[:800]}"
        data: list[tuple[str, str]] = [(name, value) for name, value in chosen.form_values() if name not in fields]
        for name, value in fields.items():
            data += [(name, one) for one in ([value] if isinstance(value, str) else value)]
        for node in chosen.xpath(".//button[@name]"):
            if button is not None and " ".join(node.text_content().split()) == button:
                data.append((node.get("name"), node.get("value") or ""))
        target = urljoin(page.url, chosen.get("action") or page.url)
        grouped: dict[str, Any] = {}
        for name, value in data:
            grouped.setdefault(name, []).append(value)
        return Page(await self.client.request(chosen.get("method", "get").upper(), target, data=grouped))


async def register(
    member: Member, link: str, printed_id: str, printed_password: str, login_id: str, password: str
) -> Page:
    """From the link of the mail to the page after the last step."""
    step = await member.submit(await member.get(link), {"login_id": printed_id, "password": printed_password})
    return await member.submit(step, {"login_id": login_id, "password": password, "password_again": password})


async def log_in(member: Member, society: str, login_id: str, password: str) -> Page:
    return await member.submit(await member.get(f"/{society}/login"), {"login_id": login_id, "password": password})
