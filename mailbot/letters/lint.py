"""What carriers and phones do to mail, as rules for every letter of every society, run at the start on sample facts.

Carriers judge mail by its URLs and drop HTML; phones make a link of whatever looks like one, and cut it where a
sentence goes on. Each finding is a sentence that names the line of the finished letter and says what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mailbot.letters.compile import Compiled, fill
from mailbot.letters.facts import show
from mailbot.letters.kinds import FactKind, LetterKind

MAX_MAIL = 4096  # octets as sent: RFC 3834 section 2 asks for "a few kilobytes"
MAX_SUBJECT = 60
MAX_URL = 76  # a longer line is broken by mail programs, and the link with it
# Mail that advertises falls under another law (特定電子メール法) and needs another sender.
ADVERT_WORDS = ("広告", "キャンペーン", "セール", "割引", "お得", "プレゼント", "無料体験", "ポイント進呈", "今だけ")

_URL = re.compile(r"[a-z]+://\S*|\bmailto:\S*", re.IGNORECASE)
# a name that phones take for a page, and not the right side of a mail address
_HOST = re.compile(r"(?<![a-z0-9_.@/-])(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}(?![a-z0-9_@-])", re.IGNORECASE)
_HTML = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>|<!--|&(?:[a-z]+|#\d+);", re.IGNORECASE)


def samples(kind: LetterKind, home: str) -> dict[str, str | int]:
    """The longest facts that a member may have. `home`: what every URL of the society starts with."""
    return {
        name: f"{home}{fact.sample}" if fact.kind is FactKind.URL else fact.sample for name, fact in kind.facts.items()
    }


def subject(text: str) -> Iterator[str]:
    """What is wrong with a subject."""
    if not text or not text.replace("\u3000", " ").isprintable() or len(text) > MAX_SUBJECT:
        yield f"expected one line of 1 to {MAX_SUBJECT} characters"
    elif _URL.search(text) or _HOST.search(text):
        yield "a subject holds no URL and no host name: take it out"
    yield from (f"{word} is advertising: take it out" for word in ADVERT_WORDS if word in text)


def body(compiled: Compiled, kind: LetterKind, wanted: frozenset[str], home: str) -> Iterator[str]:
    """What is wrong with a body. `wanted`: facts of the member that this society's letter has."""
    for name in dict.fromkeys(compiled.gaps):
        if name not in wanted:
            yield f"{{{{ {name} }}}} stands here, but the society's file does not ask for it: take it out"
    for name in sorted(wanted - set(compiled.gaps)):
        if kind.facts[name].must:
            yield f"{{{{ {name} }}}} is missing: without it the letter is of no use"
    filled = samples(kind, home)
    text = fill(compiled, {name: show(name, fact, filled[name], home) for name, fact in kind.facts.items()})
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        yield from (f"line {number}: {words}" for words in _line(line))
    if "expires_at" in compiled.gaps:
        moment = show("expires_at", kind.facts["expires_at"], filled["expires_at"], home)
        for number, line in enumerate(lines, 1):
            if moment in line and "日本時間" not in line:
                yield f"line {number}: say beside {{{{ expires_at }}}} that it is 日本時間"
    yield from _urls(lines, kind, home)


def mail(size: int) -> Iterator[str]:
    """What is wrong with a whole mail of `size` octets."""
    if size >= MAX_MAIL:
        yield f"{size} octets as sent with long facts; less than {MAX_MAIL} are wanted: shorten it"


def plain(line: str) -> Iterator[str]:
    """What is wrong with a line for letters without a URL that no template holds, such as a carrier's step."""
    if found := _URL.search(line):
        yield f"{found[0]} is a URL: a letter for who lets no links in carries none"
    yield from _line(line)


def _line(line: str) -> Iterator[str]:
    if not all(letter.isprintable() or letter == "\u3000" for letter in line):
        yield "holds control or invisible characters: take them out"
    if found := _HTML.search(line):
        yield f"{found[0]} is HTML: these letters are plain text, take it out"
    if found := _HOST.search(_URL.sub(" ", line)):
        yield f"{found[0]}: phones link a bare host name; name the page instead"
    yield from (f"{word} is advertising: take it out" for word in ADVERT_WORDS if word in line)


def _urls(lines: Sequence[str], kind: LetterKind, home: str) -> Iterator[str]:
    urls = [(number, url) for number, line in enumerate(lines, 1) for url in _URL.findall(line)]
    if not kind.links:
        yield from (f"line {number}: a letter for who lets no links in carries no URL" for number, _ in urls)
        return
    if len(urls) > 1:
        where = ", ".join(str(number) for number, _ in urls)
        yield f"line {urls[1][0]}: {len(urls)} URLs (lines {where}); a letter carries one: take the others out"
    for number, url in urls:
        around = (lines[n - 1] for n in (number - 1, number + 1) if 0 < n <= len(lines))
        if not url.startswith(home):
            yield f"line {number}: a URL that does not begin with {home}: no shortener and no other host"
        elif lines[number - 1] != url or any(around):
            yield f"line {number}: the URL {url} needs a line of its own, with an empty line before and after"
        elif len(url) > MAX_URL:
            yield f"line {number}: a URL of {len(url)} characters, at most {MAX_URL}: shorten the host in site.web_url"
        elif not (url.isascii() and url[-1].isalnum()):
            yield f"line {number}: the URL {url} must be ASCII and end in a letter or digit: phones drop other signs"
