"""Header fields: splitting a header block, comments, the one mailbox of From, and text for staff to read.

Everything here takes hostile bytes, never raises on them, and needs time linear in their length. Standards: RFC 5322
sections 2.2, 3.2 and 3.4, RFC 2047.
"""

import base64
import binascii
import codecs
import re
from collections.abc import Callable, Set
from enum import StrEnum

from mailbot.mail.address import LEGACY_DOMAINS, Address, AddressError, parse_mailbox

_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:(.*(?:\n[ \t].*)*)", re.MULTILINE)


def header_block(content: bytes) -> bytes:
    """Everything above the first empty line; all of `content` if there is none."""
    if content[:1] == b"\n" or content[:2] == b"\r\n":
        return b""
    end = content.find(b"\n\r\n")
    bare = content.find(b"\n\n", 0, end if end >= 0 else len(content))  # the body may be long
    if bare >= 0:
        end = bare
    return content[:end] if end >= 0 else content


def split(block: bytes) -> list[tuple[bytes, bytes]]:
    """(name as written, value still folded) in order. Lines that are no field are passed over, as mail programs do."""
    return _FIELD.findall(block)


def unfold(value: bytes) -> bytes:
    """RFC 5322 section 2.2.3: a line end before white space is no part of the value."""
    return value.replace(b"\r\n", b"").replace(b"\n", b"").strip(b" \t\r") if b"\n" in value else value.strip(b" \t\r")


_COMMENT_TOKEN = re.compile(r'\\.|["()]', re.DOTALL)


def without_comments(value: str) -> str | None:
    """`value` with each comment (nested ones too) made a space; None where a comment or quotes stay open."""
    if "(" not in value:
        return value
    kept: list[str] = []
    depth, start, quoted = 0, 0, False
    for token in _COMMENT_TOKEN.finditer(value):
        match token[0]:
            case '"' if depth == 0:
                quoted = not quoted
            case "(" if not quoted:
                if depth == 0:
                    kept.append(value[start : token.start()])
                depth += 1
            case ")" if depth:
                depth -= 1
                start = token.end()
            case _:
                pass
    if depth or quoted:
        return None
    kept.append(value[start:])
    return " ".join(kept)


def first_token(value: bytes) -> str:
    """The token a structured field opens with, lower-case, without comments and parameters."""
    text = unfold(value).decode("latin-1")
    bare = without_comments(text)
    return (text if bare is None else bare).partition(";")[0].strip().lower()


class FromProblem(StrEnum):
    """Why a message has no usable From."""

    MISSING = "missing"
    SEVERAL_FIELDS = "several-fields"
    SEVERAL_MAILBOXES = "several-mailboxes"
    GROUP = "group"
    UNPARSABLE = "unparsable"


_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"')
# A display name may hold a stray '@' (phones put the bare address there); what counts is the one pair of brackets.
_ANGLE = re.compile(r'(?:[^"(),:;<>\\]++|"(?:[^"\\]|\\.)*+")*+<([^<>]*+)>\s*+').fullmatch
_RAW_JIS = re.compile(rb"\x1b\$[@B][^\x1b]*+(?:\x1b\([BJ])?")
_RAW_SJIS = re.compile(rb"[\x81-\x9f\xe0-\xfc][\x40-\x7e\x80-\xfc]")


def _without_raw_japanese(value: bytes) -> bytes:
    """Blots out unencoded ISO-2022-JP and Shift_JIS, whose second bytes look like quotes, brackets and backslashes.

    The blot is no ASCII, so that an address around it stays unusable instead of growing together.
    """
    if b"\x1b" in value:
        value = _RAW_JIS.sub(b"\xff", value)
    if not value.isascii():
        try:
            value.decode("utf-8")
        except UnicodeDecodeError:
            value = _RAW_SJIS.sub(b"\xff", value)
    return value


def single_mailbox(value: bytes, legacy_domains: Set[str] = LEGACY_DOMAINS) -> Address | FromProblem:
    """The one mailbox of a From field's value (RFC 5322 section 3.4), or why there is none.

    The display name is passed over and never decoded: nothing in it can become part of the address.
    """
    text = without_comments(_without_raw_japanese(unfold(value)).decode("latin-1"))
    if text is None or _CONTROL(text):
        return FromProblem.UNPARSABLE
    angle = _ANGLE(text)
    try:
        return parse_mailbox((angle[1] if angle else text).strip(), legacy_domains)
    except AddressError:
        bare = _QUOTED.sub("", text)
    if not bare.strip() and '"' not in text:
        return FromProblem.MISSING
    if "," in bare:
        return FromProblem.SEVERAL_MAILBOXES
    return FromProblem.GROUP if ":" in bare else FromProblem.UNPARSABLE


# -- text shown to staff ----------------------------------------------------------------------------------------------

_JIS_SEGMENT = re.compile(rb"\x1b([$(]\(?[@A-Z])([^\x1b]*+)")


def _jis_pairs(segment: bytes) -> bytes:
    """JIS X 0208 rows, with NEC's row 13 (①㈱), as cp932: Python's iso2022_jp does not know that row."""
    out = bytearray()
    for high, low in zip(segment[::2], segment[1::2], strict=False):
        row, cell = high - 0x21, low - 0x21
        lead = row // 2 + (0x81 if row < 62 else 0xC1)
        trail = cell + (0x9F if row % 2 else 0x40 if cell < 63 else 0x41)
        out += bytes((lead & 0xFF, trail & 0xFF))
    return bytes(out)


def _iso_2022_jp(raw: bytes) -> str:
    """What phones mean by ISO-2022-JP: CP50221, with NEC's row 13 and half-width kana."""
    try:
        return raw.decode("iso2022_jp_ext")
    except UnicodeDecodeError:
        pass
    head, *_ = raw.split(b"\x1b", 1)
    parts = [head.decode("ascii", "replace")]
    for escape, segment in _JIS_SEGMENT.findall(raw):
        match escape:
            case b"$@" | b"$B":
                parts.append(_jis_pairs(segment).decode("cp932", "replace"))
            case b"(I":
                parts.append(bytes(byte | 0x80 for byte in segment).decode("cp932", "replace"))
            case _:
                parts.append(segment.decode("ascii", "replace"))
    return "".join(parts)


def _codec(name: str) -> Callable[[bytes], str]:
    return lambda raw: raw.decode(name, "replace")


# An allow-list: Python also honours utf-7, idna, rot13 and unicode_escape, which no honest mail names.
_CHARSETS: dict[str, Callable[[bytes], str]] = {
    "iso-2022-jp": _iso_2022_jp, "iso-2022-jp-ms": _iso_2022_jp, "cp50220": _iso_2022_jp, "cp50221": _iso_2022_jp,
    "cp50222": _iso_2022_jp,
    "shift_jis": _codec("cp932"), "x-sjis": _codec("cp932"), "windows-31j": _codec("cp932"), "cp932": _codec("cp932"),
    "ms_kanji": _codec("cp932"), "shift-jis": _codec("cp932"), "sjis": _codec("cp932"),
    "euc-jp": _codec("euc_jp"), "utf-8": _codec("utf-8"), "utf8": _codec("utf-8"), "us-ascii": _codec("ascii"),
    "iso-8859-1": _codec("latin-1"), "iso-8859-15": _codec("iso8859-15"), "windows-1252": _codec("cp1252"),
    "gb2312": _codec("gbk"), "gbk": _codec("gbk"), "gb18030": _codec("gb18030"), "big5": _codec("big5"),
    "euc-kr": _codec("euc_kr"), "ks_c_5601-1987": _codec("cp949"),
}  # fmt: skip


def is_charset(name: str) -> bool:
    """Whether this is a charset that mails may name."""
    return name.lower() in _CHARSETS


def decode_charset(raw: bytes, charset: str) -> str:
    """`raw` in a charset as mail labels it; an unknown one is read as Latin-1. Never raises."""
    return _CHARSETS.get(charset.lower(), _codec("latin-1"))(raw)


def decode_unlabelled(raw: bytes) -> str:
    """`raw` in whichever charset of Japanese mail it fits. Never raises."""
    if b"\x1b" in raw:
        return _iso_2022_jp(raw)
    for charset in ("utf-8", "cp932"):
        try:
            return codecs.getincrementaldecoder(charset)().decode(raw)  # the end may be cut inside a character
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


_ENCODED_WORDS = re.compile(rb"=\?([^?\s]{1,40})\?([bBqQ])\?([^?\s]*)\?=(?:[ \t]+(?==\?))?")
_Q_ESCAPE = re.compile(rb"=([0-9A-Fa-f]{2})")


def _word_bytes(encoding: bytes, data: bytes) -> bytes:
    if encoding in b"qQ":
        return _Q_ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), data.replace(b"_", b" "))
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4))
    except (binascii.Error, ValueError):
        return data


def readable(value: bytes, limit: int = 200) -> str:
    """An unstructured field for staff: encoded-words decoded, anything unprintable escaped, `limit` characters."""
    return escaped(decoded(value, limit), limit)


def decoded(value: bytes, limit: int = 200) -> str:
    """An unstructured field with its encoded-words decoded; about `limit` characters, any there are."""
    raw = unfold(value)[: 20 * limit]
    parts: list[str] = []
    charset, pending, position = "", b"", 0
    # Neighbours of one charset are joined before decoding: phones cut words in the middle of a character.
    for word in _ENCODED_WORDS.finditer(raw):
        name = word[1].decode("latin-1").partition("*")[0].lower()  # RFC 2231 section 5: a language may follow
        if pending and (name != charset or word.start() != position):
            parts.append(decode_charset(pending, charset))
            pending = b""
        if word.start() != position:
            parts.append(decode_unlabelled(raw[position : word.start()]))
        charset, pending, position = name, pending + _word_bytes(word[2], word[3]), word.end()
    if pending:
        parts.append(decode_charset(pending, charset))
    if position < len(raw):
        parts.append(decode_unlabelled(raw[position:]))
    return "".join(parts)


def escaped(text: str, limit: int = 200) -> str:
    """At most `limit` characters of `text` on one line, with nothing a terminal or log would act on as control."""
    text = text[:limit]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
    return text[:limit]
