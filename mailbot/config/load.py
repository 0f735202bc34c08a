"""Reads `mailbot.toml`, `societies/*.toml` and `MAILBOT_…` variables into one frozen `Settings`.

Raises `ConfigError` with every problem of every file at once; each names file, key, value and what was expected.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mailbot.config import carriers
from mailbot.config.carriers import Carriers
from mailbot.config.site import Site, one_folder, split_endpoint
from mailbot.config.society import Society
from mailbot.mail.envelope import Purpose

ENVIRONMENT_PREFIX = "MAILBOT_"
FOLDER_VARIABLE = "MAILBOT_CONFIG"
"""Names the folder itself, for the command line; no setting of a file."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration file."""

    file: str
    key: str
    value: str
    expected: str

    def __str__(self) -> str:
        if self.key != "-":
            return f"{self.file}: {self.key} = {self.value}: {self.expected}"
        return f"{self.file}: " + (f"{self.value}: " if self.value != "-" else "") + self.expected


class ConfigError(Exception):
    """The configuration cannot be used; `problems` says all that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Route:
    """What an address of ours is for."""

    society: str
    """Society id; empty for postmaster and abuse of a shared domain."""
    purpose: Purpose


@dataclass(frozen=True)
class Directory:
    """Forward-path -> route. Our own addresses match in any letter case."""

    routes: Mapping[str, Route]
    domains: frozenset[str]

    def route(self, local: str, domain: str) -> Route | None:
        """The route of `local@domain`, with or without a `+tag`; None when the address is not ours."""
        local, domain = local.lower(), domain.lower()
        if domain not in self.domains:
            return None
        return self.routes.get(f"{local}@{domain}") or self.routes.get(f"{local.partition('+')[0]}@{domain}")

    def own_keys(self) -> frozenset[str]:
        return frozenset(self.routes)


@dataclass(frozen=True)
class Settings:
    """Everything the installation decides, checked."""

    folder: Path
    site: Site
    societies: Mapping[str, Society]
    directory: Directory
    carriers: Carriers = field(default_factory=carriers.shipped)

    @property
    def database_url(self) -> str:
        return self.site.site.database or f"sqlite+aiosqlite:///{self.site.site.data / 'mailbot.sqlite3'}"


def load(folder: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Reads the folder. Raises ConfigError."""
    environment = os.environ if environment is None else environment
    problems: list[Problem] = []
    site_data = _toml(folder / "mailbot.toml", problems) or {}
    _overrides(site_data, environment, problems)
    site = _model(Site, site_data, folder / "mailbot.toml", problems)
    societies: dict[str, Society] = {}
    for file in sorted((folder / "societies").glob("*.toml")):
        data = _toml(file, problems)
        if data is None:
            continue
        if "id" in data:
            problems.append(Problem(str(file), "id", repr(data["id"]), "leave it out: the file's name is the id"))
        society = _model(Society, {**data, "id": file.stem}, file, problems)
        if society is not None:
            societies[file.stem] = society
    if not any((folder / "societies").glob("*.toml")):
        problems.append(Problem(str(folder / "societies"), "*.toml", "none", "expected a file for each society"))
    directory = _directory(folder, societies, problems)
    if site is not None:
        site = _absolute(site, folder)
        _site_problems(site, folder / "mailbot.toml", problems)
        _imap_problems(site, directory, folder / "mailbot.toml", problems)
    known = _carriers(folder / carriers.FILE, problems)
    if problems or site is None:
        raise ConfigError(problems)
    return Settings(folder.resolve(), site, societies, directory, known)


def _carriers(file: Path, problems: list[Problem]) -> Carriers:
    """The folder's own file, else the one that comes with mailbot."""
    if not file.exists():
        return carriers.shipped()
    known, found = carriers.read(_toml(file, problems) or {})
    problems += (Problem(str(file), *one) for one in found)
    return known


def _toml(file: Path, problems: list[Problem]) -> dict[str, Any] | None:
    """The file's tables; None when it cannot be read, which is one problem and no source of others."""
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        problems.append(Problem(str(file), "-", "-", f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        problems.append(Problem(str(file), "-", f"byte {error.start}", "expected UTF-8"))
    except tomllib.TOMLDecodeError as error:
        problems.append(Problem(str(file), "-", "-", f"not TOML: {error}"))
    return None


def _overrides(data: dict[str, Any], environment: Mapping[str, str], problems: list[Problem]) -> None:
    """`MAILBOT_SMTP_LISTEN='["0.0.0.0:25"]'` overrides `[smtp] listen`: a TOML value, or plain text."""
    known = {
        f"{ENVIRONMENT_PREFIX}{section}_{key}".upper(): (section, key)
        for section, field in Site.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        for key in field.annotation.model_fields
    }
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name == FOLDER_VARIABLE:
            continue
        if name not in known:
            problems.append(Problem("environment", name, repr(text), "not a setting of mailbot.toml"))
            continue
        section, key = known[name]
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        table = data.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = value


M = TypeVar("M", bound=BaseModel)


def _model(model: type[M], data: dict[str, Any], file: Path, problems: list[Problem]) -> M | None:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = [_problem(item, file) for item in error.errors(include_url=False)]
        problems.extend(problem for problem in found if problem)
        return None


_EXPECTED = {
    "extra_forbidden": "unknown key; docs/configuration.md lists all",
    "missing": "needed",
    "int_type": "expected a whole number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected text",
    "path_type": "expected a path",
    "tuple_type": "expected a list",
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "too_short": "expected at least {min_length}",
    "literal_error": "expected {expected}",
    "enum": "expected {expected}",
    "string_pattern_mismatch": "expected what fits {pattern}",
}
"""Our words for pydantic's error types; its own for the rest."""


_PASSWORD = re.compile(r"(://[^:@/'\"]*):[^@'\"]*@")
"""A URL's, which must not get into a log."""


def _problem(item: ErrorDetails, file: Path) -> Problem | None:
    location, value, context = item["loc"], item["input"], item.get("ctx", {})
    if item["type"] == "too_short" and value:  # its items are wrong, each with a problem of its own
        return None
    key = context.get("key") or ".".join(str(part) for part in location if part != "[key]") or "-"
    shown = "-" if isinstance(value, dict | BaseModel) or location[-1:] == ("[key]",) else repr(value)
    secret = item["type"] == "extra_forbidden" and location[-1] in ("password", "token")  # which belongs into a file
    shown = "…" if secret else _PASSWORD.sub(r"\1:…@", shown)
    expected = _EXPECTED.get(item["type"], "").format(**context) or item["msg"].removeprefix("Value error, ")
    return Problem(str(file), key, shown[:120], expected)


def _directory(folder: Path, societies: Mapping[str, Society], problems: list[Problem]) -> Directory:
    routes: dict[str, Route] = {}
    owner: dict[str, str] = {}
    for society in societies.values():
        file = str(folder / "societies" / f"{society.id}.toml")
        addresses = society.addresses
        for key, address, purpose in (
            ("registration", addresses.registration, Purpose.REGISTRATION),
            ("help", addresses.help, Purpose.HELP),
            ("bounce", addresses.bounce, Purpose.BOUNCE),
            ("robot", addresses.robot, Purpose.NO_REPLY),
        ):
            if address is None:
                continue
            address = address.lower()
            if address in routes:
                expected = f"every address serves one purpose of one society; {owner[address]} has it too"
                problems.append(Problem(file, f"addresses.{key}", repr(address), expected))
                continue
            routes[address] = Route(society.id, purpose)
            owner[address] = f"{society.id} addresses.{key}"
    domains = frozenset(address.rpartition("@")[2] for address in routes)
    for domain in domains:  # RFC 5321 section 4.5.1: postmaster is always there; RFC 2142: abuse
        routes.setdefault(f"postmaster@{domain}", Route("", Purpose.POSTMASTER))
        routes.setdefault(f"abuse@{domain}", Route("", Purpose.ABUSE))
    return Directory(routes, domains)


def _absolute(site: Site, folder: Path) -> Site:
    """Fills in default paths; relative ones start at the configuration folder."""
    base = folder.resolve()
    data = (base / site.site.data).resolve()

    def place(path: Path, default: Path) -> Path:
        return (base / path).resolve() if path != Path() else default

    templates, fonts = place(site.site.templates, Path()), place(site.site.fonts, Path())
    return site.model_copy(
        update={
            "site": site.site.model_copy(
                update={
                    "data": data,
                    "keys": place(site.site.keys, data / "keys.json"),
                    "templates": templates,
                    "fonts": fonts,
                }
            ),
            "dkim": site.dkim.model_copy(update={"folder": place(site.dkim.folder, data)}),
            "ops": site.ops.model_copy(update={"token_file": place(site.ops.token_file, data / "ops.token")}),
            "relay": site.relay.model_copy(
                update={key: place(getattr(site.relay, key), Path()) for key in ("netrc", "ca_file")}
            ),
            "smtp": site.smtp.model_copy(
                update={
                    "tls_certificate": place(site.smtp.tls_certificate, Path()),
                    "tls_key": place(site.smtp.tls_key, Path()),
                }
            ),
            "imap": {
                name: mailbox.model_copy(
                    update={
                        key: place(getattr(mailbox, key), Path()) for key in ("password_file", "token_file", "ca_file")
                    }
                )
                for name, mailbox in site.imap.items()
            },
        }
    )


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _site_problems(site: Site, file: Path, problems: list[Problem]) -> None:
    url = site.site.web_url
    host = url.partition("//")[2]
    host = split_endpoint(host)[0] if ":" in host else host
    if url.startswith("http://") and not _loopback(host):
        problems.append(Problem(str(file), "site.web_url", repr(url), "plain http is for loopback only: use https://"))
    if url.startswith("http://") and not _loopback(split_endpoint(site.web.listen)[0]):
        expected = "the web door leaves loopback, so site.web_url must be https:// (TLS ends at a proxy in front)"
        problems.append(Problem(str(file), "web.listen", repr(site.web.listen), expected))
    doors = [*site.smtp.listen, *site.smtp.lmtp_listen, site.web.listen, site.ops.listen]
    for door in dict.fromkeys(door for door in doors if doors.count(door) > 1 and split_endpoint(door)[1]):
        expected = "expected a port of its own for smtp.listen, smtp.lmtp_listen, web.listen and ops.listen"
        problems.append(Problem(str(file), "listen", repr(door), expected))
    relays = [site.relay.url, *site.relay.fallback]
    if len(set(relays)) < len(relays) or (len(relays) > 1 and site.relay.url == "capture:"):
        expected = "expected each relay once, and none beside capture:"
        problems.append(Problem(str(file), "relay.fallback", repr(list(site.relay.fallback)), expected))
    if site.authentication.mode == "off" and not site.authentication.peers and site.relay.url != "capture:":
        expected = "name in authentication.peers whose mail is not checked: anybody may forge a sender"
        problems.append(Problem(str(file), "authentication.mode", "'off'", expected))


def _imap_problems(site: Site, directory: Directory, file: Path, problems: list[Problem]) -> None:
    watched: dict[tuple[str, str, str], str] = {}
    for name, mailbox in site.imap.items():
        if watched.setdefault(mailbox.place, name) != name:
            expected = f"imap.{watched[mailbox.place]} watches the same folder"
            problems.append(Problem(str(file), f"imap.{name}.folder", repr(mailbox.folder), expected))
        for key in ("done_folder", "ignored_folder"):
            if one_folder(getattr(mailbox, key)) == one_folder(mailbox.folder):
                expected = "expected another folder than the one that is read"
                problems.append(Problem(str(file), f"imap.{name}.{key}", repr(mailbox.folder), expected))
        if (mailbox.password_file == Path()) == (mailbox.token_file == Path()):
            expected = "expected password_file or token_file, and not both"
            problems.append(Problem(str(file), f"imap.{name}", repr(mailbox.user), expected))
        for address in mailbox.addresses:
            if directory.route(*address.rpartition("@")[::2]) is None:
                expected = "expected an address of a society: registration, help, bounce or robot"
                problems.append(Problem(str(file), f"imap.{name}.addresses", repr(address), expected))
