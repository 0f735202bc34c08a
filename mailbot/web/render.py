"""Templates -> HTML. Sandboxed, escaped, strict: a template that names an unknown fact fails, and all compile at start.

A society overrides `pages/<name>` by `societies/<id>/pages/<name>` in any of the folders; earlier folders win.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mailbot.config import HelpCase, HelpChannel, Society
from mailbot.letters.kinds import lifetime
from mailbot.registration.outcomes import Complaint
from mailbot.web import japan
from mailbot.web.assets import Assets

TEXT_SIZES = {"normal": "標準", "medium": "中", "large": "大"}


class Pages:
    """All page templates of all societies, compiled. Raises jinja2.TemplateError for a broken one."""

    def __init__(self, societies: Mapping[str, Society], folders: Sequence[Path], assets: Assets) -> None:
        self._assets = assets
        environments = {name: _environment(places) for name, places in _places(societies, folders).items()}
        for environment in environments.values():
            for name in environment.list_templates(extensions=["html"]):
                environment.get_template(name)
        self._plain = environments.pop("")
        self._own = environments

    def html(self, society: Society | None, name: str, facts: Mapping[str, Any]) -> str:
        """One page. `facts` is whatever the template names beside the frame's own facts."""
        environment = self._own.get(society.id, self._plain) if society is not None else self._plain
        theme = self._assets.themes[society.id] if society is not None else None
        frame: dict[str, Any] = {
            "society": society,
            "base": f"/{society.id}" if society is not None else "",
            "label": society.label if society is not None else None,
            "style": self._assets.style,
            "theme": theme,
            "text_sizes": TEXT_SIZES if society is not None and society.pages.text_sizes else {},
            "text_size": "normal",
            "here": f"/{society.id}/login" if society is not None else "/",
            "channels": (),
            "form_key": None,
            "complaints": (),
            "errors": {},
            "values": {},
            "shown": False,
            "member": None,
            "place": "",
            "captcha": "",
        }
        return environment.get_template(name).render({**frame, **facts})


def problems(societies: Iterable[str], folders: Sequence[Path]) -> list[str]:
    """Every page template that cannot be compiled, with file, line and what is wrong."""
    found: dict[str, None] = {}
    for places in _places(societies, folders).values():
        environment = _environment(places)
        for name in environment.list_templates(extensions=["html"]):
            try:
                environment.get_template(name)
            except TemplateSyntaxError as error:
                found[f"{error.filename}:{error.lineno}: {error.message}"] = None
    return list(found)


def _places(societies: Iterable[str], folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Society -> where its pages are looked for, those without any of their own left out; "" -> the shared ones."""
    shared = [folder / "pages" for folder in folders]
    own = {name: [folder / "societies" / name / "pages" for folder in folders] for name in societies}
    return {"": shared} | {name: [*some, *shared] for name, some in own.items() if any(map(Path.is_dir, some))}


def help_channels(society: Society, case: HelpCase) -> tuple[HelpChannel, ...]:
    """The channels a page shows: those that serve its case."""
    return society.help_for(case)


def by_field(complaints: Sequence[Complaint]) -> dict[str, list[str]]:
    """Field -> its sentences, in order; the same words as in the summary."""
    found: dict[str, list[str]] = {}
    for complaint in complaints:
        found.setdefault(complaint.field, []).append(complaint.text)
    return found


def _environment(folders: Sequence[Path]) -> Environment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        cache_size=-1,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(day=japan.day, clock=japan.clock, moment=japan.moment, telephone=_telephone)
    environment.globals.update(lifetime=lifetime, until=japan.until)
    environment.globals.update(birth_years=japan.birth_years, numbers=japan.numbers)
    return environment


def _telephone(number: str) -> str:
    """A number as `tel:` wants it."""
    return "".join(letter for letter in number if letter.isdigit() or letter == "+")
