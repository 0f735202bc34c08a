"""What strangers' bytes go through, each with the laws that must hold for any of them.

A check gets bytes and raises AssertionError (or whatever the program lets out) where a law is broken. `run.py` feeds it
by coverage, `test_fuzz.py` by chance and with all that was ever found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlencode
from zlib import crc32

from mailbot.credentials import KeyRing, LinkPurpose, decode_id, encode_id, mint, read
from mailbot.credentials.codes import FORMAT, is_code, read_code, short_code
from mailbot.credentials.ring import KID_LETTERS, Key
from mailbot.credentials.verp import TAG_CHARS, read_tag, tag
from mailbot.intake.smtp_data import BareLineEndError, MessageReader
from mailbot.mail import reports
from mailbot.mail.address import Address, AddressError, parse_mailbox, parse_path, parse_typed
from mailbot.mail.authentication import Result
from mailbot.mail.authresults import Profile, believed, result_of
from mailbot.mail.bodytext import MAX_TEXT, words
from mailbot.mail.fields import header_block, readable, single_mailbox
from mailbot.mail.inbound import facts
from mailbot.mail.status import Stage, relay_status
from mailbot.mail.verdict import classify
from mailbot.office.roster import cells
from mailbot.web.forms import MAX_FIELDS, MAX_VALUE, BadForm, parse
from tests.fuzz.commands import commands, lines
from tests.fuzz.lawful import lawful
from tests.support.corpus import CORPUS, specimens

NOW = 1_790_000_000_000
RING = KeyRing((Key(0, bytes(range(32)), NOW, NOW),), bytes(32))
SOCIETY = "alpha"


@dataclass(frozen=True)
class Target:
    """`seeds` show a fuzzer what such bytes look like. `grows`: the readers behind `check` have limits that lie far
    beyond what a fuzzer writes, so some inputs are tried as `grown` ones, too."""

    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    grows: bool = False

    def run(self, data: bytes) -> None:
        """What fuzzers call."""
        self.check(data)
        if self.grows and crc32(data) % 64 == 0:
            for one in grown(data):
                self.check(one)


def grown(data: bytes) -> Iterator[bytes]:
    """`data` beyond the limits of a field (8 KiB) and of a header block or a report (64 KiB): the whole of it again and
    again, and a piece of it that swells where it stands."""
    if not data:
        return
    place = crc32(data) % len(data)
    piece = data[place : place + 60]
    yield data * (70_000 // len(data) + 1)
    for octets in (9_000, 70_000):
        yield data[:place] + piece * (octets // len(piece) + 1) + data[place:]


def _mails() -> list[bytes]:
    """Small ones of the corpus, delivery reports among them."""
    contents = [mail.content for mail in specimens() if len(mail.content) < 3000]
    return contents + [path.read_bytes() for path in sorted(CORPUS.glob("bounces/**/*.eml"))]


# -- addresses --------------------------------------------------------------------------------------------------------


def address(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    with suppress(AddressError):
        path = parse_path(data)
        assert path is not None or data == b"<>"
        if path is not None:
            lawful(path)
            assert path.domain.encode() in data.lower()
    with suppress(AddressError):
        mailbox = parse_mailbox(text)
        lawful(mailbox)
        assert mailbox.domain in text.lower()
    with suppress(AddressError):
        typed = parse_typed(text)
        lawful(typed)
        assert parse_typed(typed.wire) == typed


def _addresses() -> list[bytes]:
    legacy = [
        "a..b.@docomo.ne.jp",
        '"a..b."@docomo.ne.jp',
        "ＴＡＲＯ＠ｄｏｃｏｍｏ．ｎｅ．ｊｐ",
        "a@例え.jp",
        "a@b@c.jp",
    ]
    paths = [
        "<@r.example,@s.example:a@e.jp>",
        "<>",
        '<"a\\b"@e.jp>',
        "<=?utf-8?q?a=40b?=@c.jp>",
        "<Postmaster>",
        "a @ e.jp",
    ]
    froms = {str(mail.mail_from) for mail in specimens() if mail.mail_from}
    return [one.encode() for one in (*legacy, *paths, *(f"<{one}>" for one in sorted(froms)))]


# -- messages ---------------------------------------------------------------------------------------------------------

_PRINTED_ID = re.compile(r"<[!-~]+@[!-~]+>").fullmatch


def header(data: bytes) -> None:
    found = facts(data)
    assert facts(data) == found
    assert (found.from_address is None) is (found.from_problem is not None)
    if found.from_address:
        lawful(found.from_address)
        # nothing grows: what is answered stands there, letter by letter
        assert found.from_address.domain.encode() in data.lower()
    assert found.message_id is None or _PRINTED_ID(found.message_id)
    assert all(re.fullmatch(r"<[!-~]+>", one) for one in found.references)
    assert found.subject.isprintable()
    assert found.date.isprintable()
    assert max(len(found.subject), len(found.date)) <= 200
    block = header_block(data)
    assert data.startswith(block)
    assert facts(block).block == block
    if blank := re.match(rb"\n\r?\n|\r?\n", data[len(block) :]):
        assert facts(block + blank[0] + b"From: x@e.jp\r\nList-Id: <x>\r\n") == found
    for value in (data, data[:60]):
        one = single_mailbox(value)
        if isinstance(one, Address):
            lawful(one)
        assert readable(value).isprintable()
    _said(data)


def _said(data: bytes) -> None:
    """What a help desk's terminal is given."""
    said = words(data)
    for line in (said.sender, said.subject, *said.text.split("\n")):
        assert not [char for char in line if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co")]
    assert len(said.text) <= MAX_TEXT


def report(data: bytes) -> None:
    found = reports.read(data)
    assert reports.read(data) == found
    assert reports.read(data[: reports.MAX_CONTENT]) == found
    assert re.fullmatch(r"([245]\.\d{1,3}\.\d{1,3}|[245]\d\d)?", found.status, re.ASCII)
    assert found.words.isprintable()
    assert len(found.words) <= reports.MAX_WORDS


def results(data: bytes) -> None:
    """Authentication-Results: whatever a sender writes below those of our server, they are what they were."""
    for profile, (server, ours) in _OURS.items():
        genuine = believed(ours, server, profile)
        assert genuine
        assert believed(ours + data, server, profile) == genuine
        for stated in believed(data, server, profile) or ():
            assert re.fullmatch(r"[a-z0-9-]+", stated.method)
            assert re.fullmatch(r"[a-z]+", stated.result)
            assert stated.domain == stated.domain.lower()
            assert result_of(stated) is not Result.PASS or stated.result == "pass"


_OURS: dict[Profile, tuple[str, bytes]] = {
    "rfc8601": (
        "mx.robot.example",
        b"Authentication-Results: mx.robot.example; spf=fail smtp.mailfrom=e.jp;\r\n dmarc=fail header.from=e.jp\r\n"
        b"Received: from e.jp by mx.robot.example; Fri, 20 Nov 2026 19:21:05 +0900\r\nX-First: 1\r\n",
    ),
    "gmail": (
        "mx.google.com",
        b"Received: by 2002:a05:6a00:1 with SMTP id x; Fri, 20 Nov 2026 19:21:06 +0900\r\n"
        b"Authentication-Results: mx.google.com;\r\n       dkim=fail header.i=@e.jp;\r\n"
        b"       dmarc=fail (p=NONE sp=NONE dis=NONE) header.from=e.jp\r\n"
        b"Received: from e.jp by mx.google.com with ESMTP; Fri, 20 Nov 2026 19:21:05 +0900\r\nX-First: 1\r\n",
    ),
    "m365": (
        "protection.outlook.com",
        b"Received: from a.outlook.com by b.prod.outlook.com; Fri, 20 Nov 2026 19:21:06 +0900\r\n"
        b"Authentication-Results: spf=fail (sender IP is 192.0.2.1) smtp.mailfrom=e.jp;\r\n"
        b" dkim=none (message not signed) header.d=none;dmarc=fail action=none header.from=e.jp;compauth=fail\r\n"
        b"Received: from e.jp by x.mail.protection.outlook.com; Fri, 20 Nov 2026 19:21:05 +0900\r\nX-First: 1\r\n",
    ),
}


def _results() -> list[bytes]:
    fields = [ours.replace(b"fail", b"pass") for _, ours in _OURS.values()]
    return fields + [mail.content for mail in specimens() if b"Authentication-Results" in mail.content]


def reply(data: bytes) -> None:
    """A relay's reply: its code in two octets, then its text."""
    code = 200 + int.from_bytes(data[:2]) % 400
    text = data[2:].decode("utf-8", "replace")
    status = relay_status(code, text)
    assert re.fullmatch(r"[ -~]{0,200}", status.text)
    assert re.fullmatch(r"([245]\.\d{1,3}\.\d{1,3})?", status.enhanced, re.ASCII)
    assert not status.enhanced or status.enhanced[0] == str(code)[0]
    assert "\n" not in str(status)
    for stage in Stage:
        found = classify(code, status.enhanced, stage, status.text)
        assert found == classify(code, status.enhanced, stage, status.text)
        # whatever it says: only a 2 at the final dot delivers, and only a 5 fails
        assert found.kind != "delivered" or (code // 100, stage) == (2, Stage.DOT)
        assert found.kind != "failed" or code // 100 == 5


def _replies() -> list[bytes]:
    texts = ["5.1.1 <a@docomo.ne.jp>: User unknown", "5.7.1 spam\n5.7.1 blocked", "4.2.2 mailbox full", "5.2.2 quota"]
    return [bytes((1, 94)) + text.encode() for text in texts] + [bytes((0, 221)) + text.encode() for text in texts]


def reader(data: bytes) -> None:
    """The end of DATA and what is before it, however the octets arrive: eight octets say where they are cut."""
    cuts, sent = sorted({cut * cut for cut in data[:8]}), data[8:]
    limits = (0, 0) if len(data) % 2 else (40, 90)

    def end(pieces: list[bytes]) -> tuple[object, ...] | None:
        one = MessageReader(*limits)
        try:
            for place, piece in enumerate(pieces):
                rest = one.feed(piece)
                if rest is not None:
                    return one.content, one.size, one.whole, rest + b"".join(pieces[place + 1 :])
        except BareLineEndError:
            return ("bare",)
        return None

    edges = [0, *(cut for cut in cuts if 0 < cut < len(sent)), len(sent)]
    whole = end([sent])
    assert end([sent[a:b] for a, b in pairwise(edges)]) == whole
    assert end([sent[i : i + 1] for i in range(len(sent))]) == whole
    if whole is not None and len(whole) == 4:
        # RFC 5321 section 4.1.1.4: the first CRLF . CRLF, and not one bare CR, LF or NUL before it
        before, dot, after = (b"\r\n" + sent).partition(b"\r\n.\r\n")
        assert (dot, after) == (b"\r\n.\r\n", whole[3])
        assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", before)
        assert whole[1] == len(before)


def _streams() -> list[bytes]:
    ends = [b"\r\n.\r\n", b"\n.\n", b"\r\n.\n", b"\r.\r", b"\r\n\0.\r\n", b"\r\n..\r\n.\r\nMAIL"]
    return [bytes((1, 3, 5, 7, 9, 11, 2, 4)) + b"DKIM-Signature: x\r\nFrom: a@e.jp\r\n\r\nx" + one for one in ends]


# -- secrets that come back -------------------------------------------------------------------------------------------

_LINKS = [(LinkPurpose.REGISTRATION, 0x0123_4567_89AB_CDEF), (LinkPurpose.REISSUE, 1), (LinkPurpose.MAILED_LINK, 99)]
_JUNK = (" ", "%20", "%250a", "\u00ad", "\u200b", ".", ">", "）", "&utm_source=x", "\r\n", "Ａ", "/", "%e3%80%80", "\0")


def token(data: bytes) -> None:
    """Raw text; or a real token, bent as the octets say: the link itself or nothing, never another."""
    text = data[1:].decode("utf-8", "replace")
    if data[:1] >= b"\x40":
        purpose, link_id = _LINKS[data[0] % len(_LINKS)]
        text = _bent(mint(RING, purpose, SOCIETY, link_id, 0), data[1:])
    for purpose in LinkPurpose:
        found = read(RING, purpose, SOCIETY, text)
        if found is None:
            continue
        plain = unicodedata.normalize("NFKC", text).lower()
        # all letters of the right token, in their order, are still there
        rest = iter(plain)
        assert all(letter in rest for letter in mint(RING, purpose, SOCIETY, found, 0))
        assert read(RING, purpose, "beta", text) is None
    value = decode_id(text)
    assert value is None or encode_id(value) == text


def _bent(text: str, edits: bytes) -> str:
    for where, what in zip(edits[::2], edits[1::2], strict=False):
        place = where % (len(text) + 1)
        if what < 0x80:
            text = text[:place] + _JUNK[what % len(_JUNK)] + text[place:]
        elif what < 0xC0:
            text = text[:place] + text[place:].upper()
        else:
            text = text[:place] + KID_LETTERS[what % 32] + text[place + 1 :]
    return text


def bounce_tag(data: bytes) -> None:
    mail_id = int.from_bytes(data[:8]) % ((1 << 63) - 1) + 1
    made = tag(RING, SOCIETY, mail_id, NOW)
    assert read_tag(RING, SOCIETY, made.upper()) == mail_id
    assert read_tag(RING, "beta", made) is None
    bent = _bent(made, data[8:])
    found = read_tag(RING, SOCIETY, bent)
    assert found == (mail_id if bent.lower() == made else None)
    text = data.decode("latin-1")
    forged = read_tag(RING, SOCIETY, text)  # the fuzzer sees what is compared, and so learns how to forge
    assert forged is None or tag(RING, SOCIETY, forged, NOW) == text.lower()
    assert len(made) == TAG_CHARS


_CODE = short_code(RING, LinkPurpose.REGISTRATION, SOCIETY, 7, 0, 0)


def code(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found = read_code(text)
    assert found == "" or FORMAT.fits(found)
    assert read_code(found) == found
    assert read_code(text.upper()) in (found, "")
    assert is_code(found, _CODE) is (found == _CODE.replace(" ", ""))


def _codes() -> list[bytes]:
    wide = "".join(chr(ord(letter) + 0xFEE0) if letter != " " else "\u3000" for letter in _CODE)
    return [one.encode() for one in (_CODE, _CODE.upper(), _CODE.replace(" ", "-"), wide, "k7mp3wx²", "k7mp 3wx")]


# -- forms and rosters ------------------------------------------------------------------------------------------------


def form(data: bytes) -> None:
    found = parse(data)
    if isinstance(found, BadForm):
        return
    assert len(found) <= MAX_FIELDS
    for name, value in found.items():
        assert "\0" not in name + value
        assert max(len(name.encode()), len(value.encode())) <= MAX_VALUE
    assert parse(urlencode(found).encode()) == found


def cell(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    readers: list[Callable[[str], object]] = [
        cells.as_written,
        cells.identifier,
        cells.kana,
        cells.leaving_date,
        cells.mark,
        cells.postal_code,
        lambda given: cells.birth_date(given, "2026-11-20"),
        lambda given: cells.mail_address(given, frozenset(), frozenset()),
    ]
    for one in readers:
        with suppress(cells.BadCell):
            value = one(text)
            if isinstance(value, str):
                assert one(value) == value  # what was written down reads as itself
    assert cells.plain(cells.plain(text)) == cells.plain(text)


_FORMS = ("login_id=%EF%BC%A1&password=+%26", "a=1&a=2&b", "%zz=%&=&&", "n=%ed%a0%80", "x=%00", "q=1;p=2", "あ=い")
_CELLS = (
    "00123",
    "1.23E+11",
    "Ｓ３５．１．２",
    "昭和元年12月25日",
    "2000/1/21",
    "ﾔﾏﾀﾞ ﾀﾛｳ",
    "〒231-0005",
    "○",
    "a..b.@docomo.ne.jp",
    "3-04-05",
)

TARGETS = {
    "address": Target(address, _addresses),
    "header": Target(header, _mails, grows=True),
    "report": Target(report, _mails, grows=True),
    "results": Target(results, _results),
    "reply": Target(reply, _replies),
    "commands": Target(commands, lines),
    "reader": Target(reader, _streams),
    "token": Target(token, lambda: [b"@", b"A\x01\x02", b"B\x05\x90\x07\xff", b"\0" + b"a" * 34]),
    "tag": Target(bounce_tag, lambda: [bytes(8), bytes(range(8)) + b"\x03\x03", bytes(8) + b"\x00\x90\x05\xf0"]),
    "code": Target(code, _codes),
    "form": Target(form, lambda: [one.encode() for one in _FORMS]),
    "cell": Target(cell, lambda: [one.encode() for one in _CELLS]),
}
