"""What a person wrote, as plain text that a terminal may show: sender, subject and text of a mail of which perhaps only
the beginning is there.

Takes hostile bytes, never raises on them, and needs time about linear in their length. The standard parsers of MIME and
HTML do not: a header of semicolons, parts in parts and tags without an end keep them busy for seconds.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from dataclasses import dataclass

from mailbot.mail.fields import decode_charset, decode_unlabelled, decoded, header_block, is_charset, split, unfold

MAX_TEXT = 4000
"""Characters of the text."""
MAX_FIELD = 200
"""Characters of the subject and of the sender's field."""
MAX_PARTS = 20
"""Parts that are looked at, containers among them."""
MAX_STRUCTURED = 1000
"""Octets of a Content-Type field that are looked at."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a mail says: its From field as written, its Subject, and its readable text. Harmless to print."""

    sender: str
    subject: str
    text: str


def words(content: bytes) -> Words:
    """The words of a message that was received, or of its beginning."""
    fields = {name.lower(): value for name, value in reversed(split(header_block(content)))}
    return Words(
        _line(decoded(fields.get(b"from", b""))),
        _line(decoded(fields.get(b"subject", b""))),
        body_text(content),
    )


def body_text(content: bytes) -> str:
    """The readable text, at most 4000 characters: text/plain if there is some, else text/html without its tags."""
    found = parts(content)
    for kind, strip in (("text/plain", str), ("text/html", _without_tags)):
        for part in found:
            if part.kind == kind and not part.attached and (text := harmless(strip(part.text()))):
                return text
    return ""


def harmless(text: str, limit: int = MAX_TEXT) -> str:
    """Without control, format and private characters (terminals act on them); at most one empty line in a row."""
    text = text[: 16 * limit].replace("\r\n", "\n").replace("\t", " ")
    kept = [_KEPT.get(char, char) if _shown(char) else "" for char in text]
    lines = [line.rstrip() for line in "".join(kept).split("\n")]
    return _EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip()[:limit].rstrip()


_KEPT = {"\r": "\n", "\u2028": "\n", "\u2029": "\n"}
_EMPTY_LINES = re.compile(r"\n{3,}")
# Cc: controls, Cf: direction marks and invisible characters, Cs: lone surrogates, Co: private use
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Co"})


def _shown(char: str) -> bool:
    return char in "\n\r" or char.isprintable() or unicodedata.category(char) not in _UNSHOWN


def _line(text: str) -> str:
    return " ".join(harmless(text, MAX_FIELD).split())


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is no container. `charset` and `encoding` as named, in lower case."""

    kind: str
    charset: str
    encoding: str
    attached: bool
    body: bytes

    def text(self) -> str:
        """In the charset it names, or in the one that it shows."""
        raw = self.body
        if self.encoding == "base64":
            raw = _base64(raw)
        elif self.encoding == "quoted-printable":
            raw = binascii.a2b_qp(raw)
        if not raw.isascii():
            raw = raw.replace(b"\x1b", b"")  # ISO-2022-JP has 7 bits: here an escape only hides the rest
        seen = decode_unlabelled(raw)
        if not is_charset(self.charset) or self.charset in _UNSURE or b"\x1b" in raw:
            return seen
        named = decode_charset(raw, self.charset)
        return named if named.count("\ufffd") <= seen.count("\ufffd") else seen


_UNSURE = frozenset({"us-ascii", "iso-8859-1"})  # what programs write that do not know
_PARAMETER = re.compile(rb';[ \t]*(charset|boundary)[ \t]*=[ \t]*(?:"([^"]*)"|([^ \t;"]+))', re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\n\r?\n|\r?\n")


def parts(content: bytes, *, enclosed: bool = True) -> list[Part]:
    """The parts in their order (RFC 2046 section 5.1), the first 20 of them; with those of mails it encloses."""
    found: list[Part] = []
    waiting = [content]
    for _ in range(MAX_PARTS):
        if not waiting:
            break
        piece = waiting.pop(0)
        block = header_block(piece)
        blank = _BLANK_LINE.match(piece, len(block))
        body = piece[blank.end() :] if blank else b""
        fields = {name.lower(): unfold(value[:MAX_STRUCTURED]) for name, value in reversed(split(block))}
        named = fields.get(b"content-type", b"text/plain")
        kind = named.partition(b";")[0].strip().lower().decode("latin-1")
        parameters = {match[1].lower(): match[2] or match[3] or b"" for match in _PARAMETER.finditer(named)}
        boundary = parameters.get(b"boundary", b"")
        if kind.startswith("multipart/") and boundary:
            line = rb"(?:^|\r?\n)--" + re.escape(boundary) + rb"(?:--)?[ \t]*(?:\r?\n|$)"
            waiting[:0] = re.split(line, body, maxsplit=MAX_PARTS)[1:]
        elif kind == "message/rfc822" and enclosed:
            waiting.insert(0, body)
        else:
            found.append(
                Part(
                    kind if "/" in kind else "text/plain",
                    parameters.get(b"charset", b"").decode("latin-1").lower(),
                    fields.get(b"content-transfer-encoding", b"").decode("latin-1").lower(),
                    fields.get(b"content-disposition", b"").lower().startswith(b"attachment"),
                    body,
                )
            )
    return found


_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")


def _base64(raw: bytes) -> bytes:
    """Forgives what stands between the letters, and an end that was cut off."""
    letters = _NO_BASE64.sub(b"", raw)
    whole = len(letters) // 4 * 4
    return base64.b64decode(letters[:whole] + _padded(letters[whole:]))


def _padded(rest: bytes) -> bytes:
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""


_TAGS = re.compile(r"(<[^<>]*>)")
_BLANKS = re.compile(r"[ \t\u00a0]{2,}")
_TAG_NAME = re.compile(r"</?\s*([A-Za-z0-9]+)")
_SILENT = frozenset({"script", "style", "head", "title"})
_LINES = frozenset({"br", "p", "div", "tr", "li", "h1", "h2", "h3", "h4", "table", "ul", "ol", "blockquote", "hr"})


def _without_tags(text: str) -> str:
    """HTML as it reads: lines at line ends and blocks, no scripts, styles and comments."""
    out: list[str] = []
    silent, comment = "", False
    for token in _TAGS.split(text):
        if comment or token.startswith("<!--"):
            comment = not token.rstrip(">").endswith("--")
            continue
        name = match[1].lower() if token[:1] == "<" and (match := _TAG_NAME.match(token)) else ""
        if silent:
            silent = "" if name == silent and token[1] == "/" else silent
        elif name in _SILENT and token[1] != "/":
            silent = name
        elif name in _LINES:
            out.append("\n")
        elif not (token[:1] == "<" and token[-1:] == ">"):
            out.append(token.replace("\r", "").replace("\n", " "))
    return _BLANKS.sub(" ", html.unescape("".join(out)))
