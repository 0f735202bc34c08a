"""Header lines and bodies of outgoing mail as bytes: encoded once, safe to join.

`email.message.EmailMessage` costs more than two RSA signatures a mail and writes long Message-IDs as encoded-words;
these few functions do what our plain-text mails need. Every value is checked here for line breaks, whatever was checked
before.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from binascii import b2a_base64

_WORD_OCTETS = 75  # RFC 2047 section 2: an encoded-word
_LINE_OCTETS = 76  # RFC 2047 section 2: a line that holds one; RFC 2045 section 6.8: a line of base64
_PLAIN_OCTETS = 60  # a longer plain value is folded as encoded-words instead
_CHARSET = b"=?UTF-8?B?"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+(?: [A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+)*").fullmatch
# RFC 5322 section 3.6.4, generous inside the brackets; RFC 5322 section 2.1.1 ends a line at 998 octets
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?-~]+>").fullmatch
_MAX_MESSAGE_ID = 998 - len("In-Reply-To: ")

JAPAN_SECONDS = 9 * 3600  # Japan has no summer time


def field(name: str, value: str) -> bytes:
    """One header line, value as it is. Raises ValueError where the value is not printable ASCII (so: CR, LF, NUL)."""
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"{name}: a header value must be printable ASCII")
    return f"{name}: {value}\r\n".encode("ascii")


def text_field(name: str, text: str) -> bytes:
    """One unstructured header field, such as Subject, folded. Raises ValueError on control characters."""
    return f"{name}: ".encode("ascii") + _phrase(name, text, quoted=False) + b"\r\n"


def sender_field(name: str, address: str) -> bytes:
    """`From:` with a display name. Raises ValueError on control characters."""
    line = b"From: " + _phrase("From", name, quoted=True)
    mailbox = field("From", f"<{address}>").removeprefix(b"From: ")
    last = len(line) - (line.rfind(b"\n") + 1)
    fold = b"\r\n " if last + 1 + len(mailbox) - 2 > _LINE_OCTETS else b" "
    return line + fold + mailbox


def date_field(at: int) -> bytes:
    """`Date:` in Japanese time; `at` in milliseconds since the epoch. RFC 5322 section 3.3."""
    t = time.gmtime(at // 1000 + JAPAN_SECONDS)
    return b"Date: %b, %02d %b %04d %02d:%02d:%02d +0900\r\n" % (
        _DAYS[t.tm_wday].encode(),
        t.tm_mday,
        _MONTHS[t.tm_mon - 1].encode(),
        t.tm_year,
        t.tm_hour,
        t.tm_min,
        t.tm_sec,
    )


def is_message_id(text: str) -> bool:
    """Whether `text` is one msg-id that fits a line of In-Reply-To as it stands: it has no place to fold."""
    return len(text) <= _MAX_MESSAGE_ID and _MESSAGE_ID(text) is not None


def base64_lines(data: bytes) -> bytes:
    """RFC 2045 section 6.8, with CRLF at the end of each line."""
    encoded = b2a_base64(data, newline=False)
    lines = [encoded[start : start + _LINE_OCTETS] for start in range(0, len(encoded), _LINE_OCTETS)]
    lines.append(b"")
    return b"\r\n".join(lines)


def _phrase(name: str, text: str, *, quoted: bool) -> bytes:
    if not text.isprintable() and any(not c.isprintable() and c != "\u3000" for c in text):
        raise ValueError(f"{name}: a header value must not hold control characters")
    if not text.isascii() or "=?" in text or len(text) > _PLAIN_OCTETS:
        return b"\r\n ".join(_encoded_words(text, len(name) + 2))
    if quoted and not _ATOMS(text):
        return b'"' + re.sub(r'([\\"])', r"\\\1", text).encode("ascii") + b'"'
    return text.encode("ascii")


def _encoded_words(text: str, used: int) -> list[bytes]:
    """RFC 2047 words; `used` octets stand before the first. No character is split (section 5)."""
    words: list[bytes] = []
    chunk = b""
    room = _room(used)
    for character in text:
        octets = character.encode("utf-8")
        if len(chunk) + len(octets) > room:
            words.append(_CHARSET + b64encode(chunk) + b"?=")
            chunk, room = b"", _room(1)
        chunk += octets
    words.append(_CHARSET + b64encode(chunk) + b"?=")
    return words


def _room(used: int) -> int:
    """Octets of text that fit one encoded-word on a line with `used` octets taken."""
    return (min(_WORD_OCTETS, _LINE_OCTETS - used) - len(_CHARSET) - 2) // 4 * 3
