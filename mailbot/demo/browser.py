"""A browser for the tour: pages, forms, cookies; standard library only, so that the demo needs nothing more."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urljoin


@dataclass
class Form:
    """A form of a page: where it goes, and the values it has."""

    action: str
    method: str
    values: dict[str, str] = field(default_factory=dict)
    buttons: list[str] = field(default_factory=list)
    boxes: list[str] = field(default_factory=list)
    """Names of tick boxes."""
    presses: dict[str, str] | None = None
    """What the first button adds, which is the one that Enter presses; None before there was a button."""


class _Reader(HTMLParser):
    """Finds the heading, the alert, links and forms."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[tuple[str, str]] = []
        self.heading = ""
        self.alert = ""
        self._inside: list[str] = []
        self._href = ""
        self._words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(values.get("action", ""), values.get("method", "get").upper()))
        elif tag == "input" and self.forms and values.get("name"):
            kind = values.get("type", "text")
            if kind == "checkbox":
                self.forms[-1].boxes.append(values["name"])
            if kind not in ("checkbox", "radio") or "checked" in values:
                self.forms[-1].values[values["name"]] = values.get("value", "on" if kind == "checkbox" else "")
        elif tag == "select" and self.forms and values.get("name"):
            self.forms[-1].values[values["name"]] = ""
        elif tag in ("h1", "a", "button"):
            if tag == "button" and self.forms and self.forms[-1].presses is None:
                self.forms[-1].presses = {values["name"]: values.get("value", "")} if "name" in values else {}
            self._inside.append(tag)
            self._words = ""
            self._href = values.get("href", "")
        if values.get("role") == "alert":
            self._inside.append("alert")

    def handle_endtag(self, tag: str) -> None:
        words = " ".join(self._words.split())
        if tag == "h1":
            self.heading = words
        elif tag == "a":
            self.links.append((words, self._href))
        elif tag == "button" and self.forms:
            self.forms[-1].buttons.append(words)
        if tag in self._inside:
            self._inside.remove(tag)

    def handle_data(self, data: str) -> None:
        if self._inside:
            self._words += data
        if "alert" in self._inside:
            self.alert += data


@dataclass(frozen=True)
class Page:
    """What came back."""

    url: str
    status: int
    heading: str
    alert: str
    forms: list[Form]
    links: list[tuple[str, str]]
    text: str

    def link(self, words: str) -> str:
        """Raises LookupError."""
        for text, href in self.links:
            if words in text:
                return urljoin(self.url, href)
        raise LookupError(f"no link {words!r} on {self.heading!r}")

    def form(self, *names: str) -> Form:
        """The form that has these fields. Raises LookupError."""
        for form in self.forms:
            if set(names) <= set(form.values):
                return form
        raise LookupError(f"no form with {', '.join(names)} on {self.heading!r}")


class Browser:
    """One person's browser: keeps cookies, follows redirects."""

    def __init__(self) -> None:
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    async def get(self, url: str) -> Page:
        return await asyncio.to_thread(self._fetch, url, None)

    async def send(self, page: Page, **values: str) -> Page:
        """Fills in the form that has these fields and sends it. Raises LookupError."""
        return await self.fill(page, page.form(*values), values)

    async def fill(self, page: Page, form: Form, values: Mapping[str, str]) -> Page:
        """Sends a form of the page with these values beside its own."""
        data = urlencode({**form.values, **values, **(form.presses or {})}).encode()
        return await asyncio.to_thread(self._fetch, urljoin(page.url, form.action or page.url), data)

    def _fetch(self, url: str, data: bytes | None) -> Page:
        try:
            answer = self._opener.open(urllib.request.Request(url, data), timeout=30)  # noqa: S310 - our own pages
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode("utf-8")
            reader = _Reader()
            reader.feed(text)
            return Page(
                answer.url,
                answer.status,
                reader.heading,
                " ".join(reader.alert.split()),
                reader.forms,
                reader.links,
                text,
            )
