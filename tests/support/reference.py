"""What a person may write into configuration files, told from the models: their fields, defaults and docstrings.

`python -m tests.support.reference` writes `config/mailbot.toml` and the tables of `docs/configuration.md` and
`docs/commands.md` anew; tests compare them.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
import types
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mailbot.cli import build
from mailbot.config import Site, Society
from mailbot.config.labels import DEFAULT_LABELS
from mailbot.registration.steps import STEPS, proof_step

REPOSITORY = Path(__file__).parents[2]
SITE_FILE = REPOSITORY / "config" / "mailbot.toml"
DOCUMENTS = tuple(REPOSITORY / "docs" / name for name in ("configuration.md", "commands.md"))
MARK = re.compile(r"<!-- table: (\w+) -->\n")
EMPTY_PATH = Path()


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Field -> the docstring below it, on one line. KeyError later on means that a docstring is missing."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(node, ast.ClassDef)
    found = {}
    for field, doc in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(str(doc.value.value).split())
    return found


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """The tables of mailbot.toml; `<name>` marks those there may be several of."""
    for name, field in Site.model_fields.items():
        model = inner(field.annotation)
        assert model is not None
        yield (name if model is field.annotation else f"{name}.<name>"), model


def toml(value: Any) -> str:
    """A default as TOML."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case Path():
            return '""' if value == EMPTY_PATH else json.dumps(str(value))
        case StrEnum() | str():
            return json.dumps(value, ensure_ascii=False)
        case tuple():
            return "[" + ", ".join(map(toml, value)) + "]"
        case _:
            raise TypeError(f"no TOML for {value!r}")


def site_toml() -> str:
    """config/mailbot.toml: every key with its default, commented out."""
    lines = [
        "# Every key of this installation, with its default. To change one, take the '#' away and write your value.",
        "# A variable such as MAILBOT_SMTP_LISTEN='[\"0.0.0.0:25\"]' overrides a key: docs/configuration.md.",
    ]
    for name, model in sections():
        # a table that may be there several times is none by default: its lines are words
        several = "<" in name
        lines += ["", f"# [{name.replace('<name>', 'NAME')}]" if several else f"[{name}]"]
        words = meanings(model)
        for key, field in model.model_fields.items():
            lines += textwrap.wrap(words[key], 116, initial_indent="# ", subsequent_indent="# ")
            value = "…" if field.is_required() else toml(field.default)
            lines.append(f"# {key} = {value}" if several else f"#{key} = {value}")
    return "\n".join(lines) + "\n"


def form(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """A type in words."""
    arguments = get_args(annotation)
    match get_origin(annotation):
        case origin if origin in (Union, types.UnionType):
            return form(next(one for one in arguments if one is not type(None)), metadata)
        case origin if origin is Literal:
            return "one of " + ", ".join(f"`{one}`" for one in arguments)
        case origin if origin is tuple:
            count = len(arguments) if arguments[-1] is not Ellipsis else 0
            return (f"{count} × " if count else "list: ") + form(arguments[0])
        case origin if origin is dict:
            return "table of " + form(arguments[1]) + "s"
        case None:
            pass
        case _:  # Annotated
            return form(arguments[0], (*metadata, *_metadata(arguments[1:])))
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return "one of " + ", ".join(f"`{one}`" for one in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    if annotation is int:
        low = next((one.ge for one in metadata if isinstance(one, Ge)), None)
        high = next((one.le for one in metadata if isinstance(one, Le)), None)
        return "number" + (f" from {low}" if low is not None else "") + (f" to {high}" if high is not None else "")
    return {bool: "yes or no", str: "text", Path: "path"}[annotation]


def _metadata(given: tuple[Any, ...]) -> Iterator[Any]:
    for one in given:
        yield from one.metadata if isinstance(one, FieldInfo) else (one,)


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "**needed**"
    value = field.default_factory() if field.default_factory else field.default  # type: ignore[call-arg]  # pydantic
    return "–" if value is None or value == {} else f"`{toml(value)}`"


def inner(annotation: Any) -> type[BaseModel] | None:
    """The table behind `Model`, `Model | None`, `tuple[Model, ...]` or `dict[str, Model]`."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for one in get_args(annotation) if (found := inner(one))), None)


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def society_rows(model: type[BaseModel] = Society, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(key, type, default, meaning) of every key of a society's file; `[]` marks a list, `<name>` a free name."""
    words = meanings(model)
    for key, field in model.model_fields.items():
        if model is Society and key == "id":
            continue
        table = inner(field.annotation)
        if table is None:
            yield f"{prefix}{key}", form(field.annotation, tuple(field.metadata)), default(field), words[key]
            continue
        what = form(field.annotation, tuple(field.metadata))
        mark = "[]" if what.startswith("list") else ".<name>" if what.startswith("table of") else ""
        if key in words:
            yield f"{prefix}{key}{mark}", what, "**needed**" if field.is_required() else "–", words[key]
        yield from society_rows(table, f"{prefix}{key}{mark}.")


def site_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """(key, type, default, meaning, variable) of every key of mailbot.toml."""
    for name, model in sections():
        words = meanings(model)
        for key, field in model.model_fields.items():
            what = form(field.annotation, tuple(field.metadata))
            variable = f"`MAILBOT_{name}_{key}`".upper() if "<" not in name else "–"
            yield f"`{name}.{key}`", what, default(field), words[key], variable


def commands(command: Any = None, path: tuple[str, ...] = ("mailbot",)) -> Iterator[tuple[str, Any]]:
    """(words, command) of every command of the program, in the order of `--help`."""
    command = typer.main.get_command(build()) if command is None else command
    below = getattr(command, "commands", {})
    if not below:
        yield " ".join(path), command
    for name, one in below.items():
        yield from commands(one, (*path, name))


def command_rows() -> Iterator[tuple[str, str, str]]:
    """(command, what it does, options) of every command."""
    for words, command in commands():
        usage, options = [words], []
        for one in command.params:
            if one.param_type_name == "argument":
                usage.append(one.name.upper() if one.required else f"[{one.name.upper()}]")
                if one.help:
                    options.append(f"{one.name.upper()}: {one.help}")
            else:
                value = "" if one.is_flag else f" {one.name.upper()}"
                if one.required:
                    usage.append(f"{one.opts[0]}{value}")
                options.append(f"`{one.opts[0]}{value}`" + (f": {one.help}" if one.help else ""))
        yield f"`{' '.join(usage)}`", " ".join(command.help.split()), "<br>".join(options) or "–"


def tables() -> dict[str, list[str]]:
    """The lines of each table that is written from the program, by the name in its marks."""
    rows: dict[str, Iterable[tuple[str, ...]]] = {
        "commands": command_rows(),
        "site": site_rows(),
        "society": ((f"`{key}`", *rest) for key, *rest in society_rows()),
        "labels": ((f"`{key}`", words) for key, words in DEFAULT_LABELS.items()),
        "steps": ((f"`{name}`", "the person" if proof_step(name) else "–") for name in STEPS),
    }
    return {name: ["| " + " | ".join(map(cell, row)) + " |" for row in found] for name, found in rows.items()}


def document(text: str) -> str:
    """A document with its tables as they must be: what stands between `<!-- table: name -->` and `<!-- end -->`, below
    the table's head."""
    lines = tables()
    parts = MARK.split(text)
    for at in range(1, len(parts), 2):
        table, end, rest = parts[at + 1].partition("<!-- end -->\n")
        assert end, f"the table {parts[at]!r} has no end"
        head = table.splitlines()[:2]
        parts[at + 1] = "\n".join([*head, *lines[parts[at]], end + rest])
        parts[at] = f"<!-- table: {parts[at]} -->\n"
    return "".join(parts)


def main() -> None:
    SITE_FILE.write_text(site_toml(), "utf-8")
    for path in DOCUMENTS:
        path.write_text(document(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
