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

from mailbot.letters.facts import show
from mailbot.letters.kinds import FORBIDDEN_FACTS, LETTERS, FactKind, LetterKind

MAX_BODY = 4096  # octets: RFC 3834 section 2 asks for "a few kilobytes"
MAX_SUBJECT = 60
MAX_URL = 76  # a longer line is broken by mail programs, and the link with it
# Mail that advertises falls under another law (特定電子メール法) and needs another sender.
ADVERT_WORDS = ("広告", "キャンペーン", "セール", "割引", "お得", "プレゼント", "無料体験", "ポイント進呈", "今だけ")

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # noncharacters: no template and no society's file holds them by right
_GAP = re.compile(f"{_OPEN}([a-z_]+){_CLOSE}")
_URL = re.compile(r"[a-z]+://\S*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Compiled:
    """`texts` are what stands around the `gaps`: one more than those. Lines end in LF."""

    subject: str
    texts: tuple[str, ...]
    gaps: tuple[str, ...]


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
    templates: Environment, society: str, letter: str, known: Mapping[str, Any], wanted: frozenset[str], home: str
) -> tuple[Compiled, list[str]]:
    """The letter and its problems, each a sentence that begins with the file. Of use only where there are none.

    `known`: facts of the society. `wanted`: facts of the member that this society's letter has. `home`: what every URL
    of the society starts with.
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
    compiled = Compiled(rendered[0].strip(), tuple(pieces[::2]), tuple(pieces[1::2]))
    if not problems:
        file = _path(templates, f"{letter}/subject.txt")
        problems += (f"{file}: in {society}: {text}" for text in _lint_subject(compiled.subject))
        file = _path(templates, f"{letter}/body.txt")
        problems += (f"{file}: in {society}: {text}" for text in _lint_body(compiled, kind, wanted, home))
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


def _lint_subject(subject: str) -> Iterator[str]:
    if _OPEN in subject:
        yield "a subject shows on locked screens: no facts of the member"
    elif not subject or not subject.replace("\u3000", " ").isprintable() or len(subject) > MAX_SUBJECT:
        yield f"expected one line of 1 to {MAX_SUBJECT} characters"
    elif _URL.search(subject):
        yield "a subject holds no URL"


def _lint_body(compiled: Compiled, kind: LetterKind, wanted: frozenset[str], home: str) -> Iterator[str]:
    if any(mark in text for text in compiled.texts for mark in (_OPEN, _CLOSE)):
        yield "a fact of the member went through a filter: insert it plainly"
        return
    for name in dict.fromkeys(compiled.gaps):
        if name not in wanted:
            yield f"{{{{ {name} }}}} stands here, but the society's file does not ask for it"
    for name in sorted(wanted - set(compiled.gaps)):
        if kind.facts[name].must:
            yield f"{{{{ {name} }}}} is missing: without it the letter is of no use"
    samples = {
        name: show(name, fact, f"{home}{fact.sample}" if fact.kind is FactKind.URL else fact.sample, home)
        for name, fact in kind.facts.items()
    }
    body = fill(compiled, samples)
    if not all(c.isprintable() or c in "\n\u3000" for c in body):
        yield "holds control or invisible characters"
    yield from _lint_urls(body.split("\n"), home)
    yield from (f"{word} is advertising: not in these letters" for word in ADVERT_WORDS if word in body)
    size = len(body.replace("\n", "\r\n").encode("utf-8"))
    if size > MAX_BODY:
        yield f"{size} bytes with long facts; at most {MAX_BODY}"


def _lint_urls(lines: Sequence[str], home: str) -> Iterator[str]:
    """Carriers filter mail by its URLs, and phones link what they take for one: one URL, ours, alone, in one piece."""
    urls = [(number, url) for number, line in enumerate(lines) for url in _URL.findall(line)]
    if len(urls) > 1:
        yield f"{len(urls)} URLs; a letter carries one"
    for number, url in urls:
        if not url.startswith(home):
            yield f"a URL that does not begin with {home}"
        elif lines[number] != url or any(lines[n] for n in (number - 1, number + 1) if 0 <= n < len(lines)):
            yield f"the URL {url} needs a line of its own, with an empty line before and after"
        elif len(url) > MAX_URL:
            yield f"the URL has {len(url)} characters, at most {MAX_URL}: use a shorter host in site.web_url"
        elif not (url.isascii() and url[-1].isalnum()):
            yield f"the URL {url} must be ASCII and end in a letter or digit: phones drop other signs from links"
