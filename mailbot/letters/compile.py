"""Templates of one letter of one society -> a subject and a body with gaps, and all that is wrong with them."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import SandboxedEnvironment

from mailbot.letters.kinds import FORBIDDEN_FACTS, LETTERS, LetterKind

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # noncharacters: no template and no society's file holds them by right
_GAP = re.compile(f"{_OPEN}([a-z_]+){_CLOSE}")


@dataclass(frozen=True, slots=True)
class Compiled:
    """`texts` are what stands around the `gaps`: one more than those. Lines end in LF."""

    subject: str
    texts: tuple[str, ...]
    gaps: tuple[str, ...]
    files: tuple[str, str]
    """Where subject and body come from."""


def environment(folders: Sequence[Path]) -> Environment:
    """Templates from disk only; the first folder that has a file wins."""
    return SandboxedEnvironment(
        loader=FileSystemLoader(folders),
        undefined=StrictUndefined,
        autoescape=False,  # plain text
        trim_blocks=True,
        lstrip_blocks=True,
    )


def compile_letter(
    templates: Environment, society: str, letter: str, known: Mapping[str, Any]
) -> tuple[Compiled, list[str]]:
    """The letter and its problems, each a sentence that begins with the file. Of use only where there are none.

    `known`: facts of the society. What the finished letter may look like is for `lint` to say.
    """
    kind = LETTERS[letter]
    problems: list[str] = []
    rendered: list[str] = []
    gaps = {name: f"{_OPEN}{name}{_CLOSE}" for name in kind.facts}
    for file in (f"{letter}/subject.txt", f"{letter}/body.txt"):
        text = ""
        try:
            misuse = list(_misuse(templates, file, kind, known))
            problems += misuse
            if not misuse:
                text = templates.get_template(file).render({**known, **gaps})
        except Exception as error:  # a template is a program: it may fail in any way
            problems.append(_failure(templates, file, error))
        rendered.append(text)
    pieces = _GAP.split(_tidy(rendered[1]))
    files = (_path(templates, f"{letter}/subject.txt"), _path(templates, f"{letter}/body.txt"))
    compiled = Compiled(rendered[0].strip(), tuple(pieces[::2]), tuple(pieces[1::2]), files)
    if not problems:
        if any(mark in compiled.subject for mark in (_OPEN, _CLOSE)):
            problems.append(
                f"{files[0]}: in {society}: a subject shows on locked screens: take the facts of the member out"
            )
        if any(mark in text for text in compiled.texts for mark in (_OPEN, _CLOSE)):
            problems.append(f"{files[1]}: in {society}: a fact of the member went through a filter: insert it plainly")
    return compiled, problems


def fill(compiled: Compiled, facts: Mapping[str, str]) -> str:
    """The body with its gaps filled."""
    filled = [text for gap, text in zip(compiled.gaps, compiled.texts, strict=False) for text in (text, facts[gap])]
    return "".join([*filled, compiled.texts[-1]])


def _misuse(templates: Environment, file: str, kind: LetterKind, known: Mapping[str, Any]) -> Iterator[str]:
    """Unknown facts, and facts of the member used for anything but plain insertion, in `file` and all it includes."""
    assert templates.loader is not None
    waiting, seen = [file], {file}
    while waiting:
        source, path, _ = templates.loader.get_source(templates, waiting.pop())
        tree = templates.parse(source, filename=path)
        for name in sorted(meta.find_undeclared_variables(tree) - known.keys() - kind.facts.keys()):
            if name in FORBIDDEN_FACTS:
                yield f"{path}: {{{{ {name} }}}}: no letter carries name, symbol, number, birth date or password"
            else:
                yield f"{path}: {{{{ {name} }}}} is not a fact of this letter; docs/letters.md lists them"
        plain = {id(shown) for output in tree.find_all(nodes.Output) for shown in output.nodes}
        for used in tree.find_all(nodes.Name):
            if used.name in kind.facts and id(used) not in plain:
                yield (
                    f"{path}: line {used.lineno}: {used.name} is a fact of the member: it can be inserted as "
                    f"{{{{ {used.name} }}}}, but not be tested, filtered or set"
                )
        for other in meta.find_referenced_templates(tree):
            if other is None:
                yield f"{path}: include and extends need a fixed name"
            elif other not in seen:
                seen.add(other)
                waiting.append(other)


def _failure(templates: Environment, file: str, error: Exception) -> str:
    if isinstance(error, TemplateSyntaxError):
        return f"{error.filename or file}: line {error.lineno}: {error.message}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(".txt")]
    place = f"{frames[-1].filename}: line {frames[-1].lineno}" if frames else _path(templates, file)
    return f"{place}: {type(error).__name__}: {error}"


def _path(templates: Environment, file: str) -> str:
    """Where the file is, as an operator would open it."""
    assert isinstance(templates.loader, FileSystemLoader)
    found = (Path(folder) / file for folder in templates.loader.searchpath)
    return str(next((path for path in found if path.exists()), file))


def _tidy(text: str) -> str:
    """No blanks at the ends of lines, never two empty lines together: paragraphs may come and go by society."""
    lines = "\n".join(line.rstrip(" \t\u3000") for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", lines).strip("\n") + "\n"
