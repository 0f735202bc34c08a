"""The texts a society asks its members to agree to: templates `pages/consents/<id>-<version>.html`.

A template may insert `{{ society.name }}` and the like, nothing of the member. What counts is the text as it was shown:
its SHA-256 is kept with the version and the time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup
from sqlalchemy import select

from mailbot import resources
from mailbot.config import Society
from mailbot.store.tables import consent

from .context import Context


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it is shown."""

    id: str
    title: str
    version: str
    html: Markup
    digest: str
    """SHA-256 of `html` in UTF-8, hex."""
    read_to_end: bool = False


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a member agreed to. `text`: None when its file is gone; `same`: it is still what was shown then."""

    title: str
    version: str
    agreed_at: int
    text: Text | None
    same: bool


def texts(ctx: Context, society: Society) -> tuple[Text, ...]:
    """The texts to agree to now, in order."""
    found = (_text(_folders(ctx), society, one.id, one.version, one.title, one.read_to_end) for one in society.consents)
    return tuple(text for text in found if text is not None)


def stamp(shown: Sequence[Text]) -> str:
    """Names exactly these texts: a form brings it back, so that nobody agrees to what another page showed."""
    return hashlib.sha256(" ".join(text.digest for text in shown).encode()).hexdigest()[:32]


async def agreed(ctx: Context, society: Society, member_id: int) -> list[Agreed]:
    """What the member agreed to, newest first."""
    c = consent.c
    statement = (
        select(c.text_id, c.version, c.digest, c.agreed_at)
        .where(c.society == society.id, c.member_id == member_id)
        .order_by(c.agreed_at.desc(), c.text_id)
    )
    async with ctx.store.read() as tx:
        rows = (await tx.execute(statement)).all()
    titles = {one.id: one.title for one in society.consents}
    found = []
    for text_id, version, digest, at in rows:
        title = titles.get(text_id, text_id)
        text = _text(_folders(ctx), society, text_id, version, title)
        found.append(Agreed(title, version, at, text, text is not None and bytes.fromhex(text.digest) == bytes(digest)))
    return found


def problems(societies: Mapping[str, Society], folders: Sequence[Path]) -> list[str]:
    """Texts that are missing or cannot be rendered."""
    found = []
    for society in societies.values():
        for one in society.consents:
            try:
                text = _text(folders, society, one.id, one.version, one.title)
            except TemplateError as error:
                found.append(f"{society.id}: consents: {_file(one.id, one.version)}: {error}")
                continue
            if text is None:
                name = f"societies/{society.id}/pages/{_file(one.id, one.version)}"
                found.append(f"{society.id}: consents: the text {name} is missing in the templates")
            elif not text.html.striptags():
                found.append(f"{society.id}: consents: the text {_file(one.id, one.version)} is empty")
    return found


def _file(text_id: str, version: str) -> str:
    return f"consents/{text_id}-{version}.html"


def _folders(ctx: Context) -> list[Path]:
    """As for all templates: the installation's own first."""
    own = ctx.settings.site.site.templates
    return [*([own] if own != Path() else []), resources.folder("templates")]


def _text(
    folders: Sequence[Path], society: Society, text_id: str, version: str, title: str, read_to_end: bool = False
) -> Text | None:
    """None when there is no such file. Raises TemplateError."""
    places = [folder / "societies" / society.id / "pages" for folder in folders]
    places += [folder / "pages" for folder in folders]
    file = next((found for place in places if (found := place / _file(text_id, version)).is_file()), None)
    if file is None:
        return None
    html = _rendered(file, file.stat().st_mtime_ns, society.name, society.service)
    text = Markup(html)  # noqa: S704  a template of ours, escaped
    return Text(text_id, title, version, text, hashlib.sha256(html.encode()).hexdigest(), read_to_end)


@lru_cache(maxsize=64)
def _rendered(file: Path, changed_at: int, name: str, service: str) -> str:
    """The file belongs to the operator: its HTML is trusted, what it inserts is escaped."""
    environment = ImmutableSandboxedEnvironment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(file.read_text("utf-8"))
    return template.render(society={"name": name, "service": service}).strip()
