"""Whose mail an address is, and how a member lets our mail through there: `carriers.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mailbot import resources

FILE = "carriers.toml"
DEFAULT = "default"
MAX_STEPS = 5
MAX_STEP = 32
MAX_ALL = 120
"""Characters of all steps together: the letter with them must stay small."""
MAX_NAME = 20


@dataclass(frozen=True, slots=True)
class Carrier:
    """`steps`: lines in plain Japanese; "the address below" is the society's."""

    id: str
    name: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Carriers:
    """All carriers by id, in the file's order, the default last; and domain -> id."""

    all: Mapping[str, Carrier]
    domains: Mapping[str, str]

    def of(self, domain: str) -> Carrier:
        """Whose a domain is, or any domain above it; else the default."""
        labels = domain.lower().split(".")
        above = (".".join(labels[place:]) for place in range(len(labels)))
        return self.all[next((self.domains[name] for name in above if name in self.domains), DEFAULT)]


def read(data: Mapping[str, Any]) -> tuple[Carriers, list[tuple[str, str, str]]]:
    """The carriers of a parsed file, and (key, value, expected) of all that is wrong with it."""
    found: list[tuple[str, str, str]] = []
    everyone: dict[str, Carrier] = {}
    domains: dict[str, str] = {}
    for name, table in data.items():
        if not isinstance(table, dict):
            found.append((name, repr(table), "expected a table"))
            continue
        found += ((f"{name}.{key}", "-", "unknown key") for key in table.keys() - {"name", "domains", "steps"})
        shown, steps, own = table.get("name"), table.get("steps"), table.get("domains", [])
        if not _text(shown, MAX_NAME):
            found.append((f"{name}.name", repr(shown), f"expected text of 1 to {MAX_NAME} characters"))
        if not isinstance(steps, list) or not 0 < len(steps) <= MAX_STEPS:
            found.append((f"{name}.steps", "-", f"expected a list of 1 to {MAX_STEPS} steps"))
            steps = []
        if sum(map(len, map(str, steps))) > MAX_ALL:
            found.append((f"{name}.steps", "-", f"expected at most {MAX_ALL} characters in all"))
        for step in steps:
            if not _text(step, MAX_STEP):
                found.append((f"{name}.steps", repr(step), f"expected a step of 1 to {MAX_STEP} characters"))
        if not isinstance(own, list) or (not own) is not (name == DEFAULT):
            found.append((f"{name}.domains", repr(own), "expected a list of domains, and none in [default]"))
            own = []
        for domain in own:
            if not isinstance(domain, str) or domain != domain.lower() or "." not in domain or "@" in domain:
                found.append((f"{name}.domains", repr(domain), "expected a domain in lower case, such as docomo.ne.jp"))
            elif domain in domains:
                found.append((f"{name}.domains", repr(domain), f"is a domain of [{domains[domain]}] already"))
            else:
                domains[domain] = name
        everyone[name] = Carrier(name, str(shown), tuple(map(str, steps)))
    if DEFAULT not in everyone:
        found.append((DEFAULT, "-", "needed: for every address that is of no other carrier"))
    return Carriers(everyone, domains), found


def _text(value: object, longest: int) -> bool:
    return isinstance(value, str) and value.strip() == value != "" and len(value) <= longest and value.isprintable()


@cache
def shipped() -> Carriers:
    """What comes with mailbot."""
    return read(tomllib.loads(shipped_file().read_text("utf-8")))[0]


def shipped_file() -> Path:
    return resources.folder("config") / FILE
