"""Facts of received mail: From, signs of automatic mail, ids, limits, hostile input, the inbox key."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbot.mail.address import Address, parse_mailbox
from mailbot.mail.envelope import Purpose
from mailbot.mail.fields import (
    FromProblem,
    decode_charset,
    escaped,
    header_block,
    readable,
    single_mailbox,
    split,
    without_comments,
)
from mailbot.mail.inbound import MAX_BLOCK, MAX_FIELD, MAX_FIELDS, facts, inbox_key

PLAIN = b"From: taro@e.jp\r\nMessage-ID: <1@e.jp>\r\nDate: Fri, 20 Nov 2026 10:00:00 +0900\r\n\r\n"
TARO = Address("taro", "e.jp")


def test_header_block_ends_at_the_first_empty_line() -> None:
    assert header_block(b"A: 1\r\n\r\nB: 2\r\n\r\n") == b"A: 1\r"
    assert header_block(b"A: 1\n\nB: 2\r\n\r\n") == b"A: 1"
    assert header_block(b"A: 1\r\n") == b"A: 1\r\n"
    assert header_block(b"\r\nA: 1") == b""
    assert header_block(b"\nA: 1") == b""


def test_body_is_never_read() -> None:
    assert facts(b"Subject: x\r\n\r\nFrom: taro@e.jp\r\n\r\n").from_problem is FromProblem.MISSING


def test_split_keeps_order_and_folds() -> None:
    block = b"A: 1\r\n 2\r\n\t3\r\nno field\r\nB : 4\r\na:5\r\n"
    assert split(block) == [(b"A", b" 1\r\n 2\r\n\t3\r"), (b"B", b" 4\r"), (b"a", b"5\r")]


@pytest.mark.parametrize(
    ("value", "bare"),
    [
        ("a (b) c", "a   c"), ("(a (b) c)d", " d"), ('"(" a', '"(" a'), (r"(\)) a", "  a"), ("(a", None),
        ('"(a)', None), ("a)", "a)"),
    ],
)  # fmt: skip
def test_comments(value: str, bare: str | None) -> None:
    assert without_comments(value) == bare


@pytest.mark.parametrize(
    "value",
    [
        b"taro@e.jp", b"<taro@e.jp>", b" < taro@e.jp > ", b'"Taro, Yamada" <taro@e.jp>', b"Taro <taro@e.jp>",
        b"=?utf-8?q?x=40y?= <taro@e.jp>", b"taro@e.jp (Taro (father))", b"(x) taro@e.jp", b"x@y.jp <taro@e.jp>",
        b'"<x@y.jp>" <taro@e.jp>', b'"a\\"b" c <taro@e.jp>', b"Taro\r\n <taro@e.jp>", b"T. Yamada <taro@E.JP>",
        b"=?ISO-2022-JP?B?GyRCOzNFRBsoQg==?=<taro@e.jp>", "山田 <taro@e.jp>".encode(),
        "表示 <taro@e.jp>".encode("cp932"), "伊藤（父） <taro@e.jp>".encode("iso2022_jp"),
        "山田 <taro@e.jp>".encode("euc_jp"),
    ],
)  # fmt: skip
def test_from_with_one_mailbox(value: bytes) -> None:
    assert single_mailbox(value) == TARO


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"", "missing"), (b" (nobody)", "missing"), (b"a@e.jp, b@e.jp", "several-mailboxes"),
        (b"A <a@e.jp>, B <b@e.jp>", "several-mailboxes"), (b"undisclosed:;", "group"), (b"G: taro@e.jp;", "group"),
        (b'"', "unparsable"), (b'""', "unparsable"), (b"<", "unparsable"), (b"<>", "unparsable"),
        (b"a@[", "unparsable"),
        (b"<a@e.jp> <b@e.jp>", "unparsable"), (b"<a@e.jp> x", "unparsable"), (b"<a@e.jp", "unparsable"),
        (b"a@e.jp\rFrom: b@e.jp", "unparsable"), (b"a@e.jp\0", "unparsable"), (b"ta(x)ro@e.jp", "unparsable"),
        (b"taro@\r\n e.jp", "unparsable"), (b"=?utf-8?q?taro=40e=2ejp?=", "unparsable"),
        (b"<=?utf-8?q?victim=40x=3e=0d=0a?=@b.jp>", "unparsable"), (b"ta\x95\x5cro@e.jp", "unparsable"),
        (b"ta\x1b$B!!\x1b(Bro@e.jp", "unparsable"), (b"\x1b$B!!\x1b(Btaro@e.jp", "unparsable"),
    ],
)  # fmt: skip
def test_from_without_one_mailbox(value: bytes, problem: str) -> None:
    assert single_mailbox(value) == FromProblem(problem)


def test_several_from_fields() -> None:
    assert facts(b"From: a@e.jp\r\nFROM : b@e.jp\r\n\r\n").from_problem is FromProblem.SEVERAL_FIELDS


@pytest.mark.parametrize(
    ("field", "sign"),
    [
        (b"Auto-Submitted: auto-generated; x=1", "auto-submitted"),
        (b"auto-submitted: (c)\r\n AUTO-REPLIED", "auto-submitted"),
        (b"Auto-Submitted: No", None),
        (b"Auto-Submitted: (x) no", None),
        (b"Precedence: BULK", "precedence: bulk"),
        (b"Precedence: first-class", None),
        (b"List-Whatever: x", "list-*"),
        (b"Listen: x", None),
        (b"X-Auto-Response-Suppress: rn, autoreply", "x-auto-response-suppress"),
        (b"X-Auto-Response-Suppress: NRN", None),
        (b"X-Loop: x", "x-loop"),
        (b"Content-Type: Multipart/Report; boundary=x", "multipart/report"),
        (b"Content-Type: multipart/mixed; x=multipart/report", None),
        (b"Feedback-ID: x", None),
    ],
)
def test_signs_of_a_program(field: bytes, sign: str | None) -> None:
    assert facts(field + b"\r\n" + PLAIN).automatic == sign


@pytest.mark.parametrize(
    ("field", "message_id"),
    [
        (b"Message-ID: <1@e.jp>", "<1@e.jp>"),
        (b"Message-Id:\r\n <1@e.jp> ", "<1@e.jp>"),
        (b"Message-ID: <a@b@e.jp>", "<a@b@e.jp>"),
        (b"Message-ID: <" + b"a" * 120 + b"@[192.0.2.1]>", "<" + "a" * 120 + "@[192.0.2.1]>"),
        (b"Message-ID: <>", None),
        (b"Message-ID: <[>", None),
        (b"Message-ID: <@e.jp>", None),
        (b"Message-ID: <1@>", None),
        (b"Message-ID: 1@e.jp", None),
        (b"Message-ID: <1 @e.jp>", None),
        (b"Message-ID: <1@e.jp> <2@e.jp>", None),
        (b"Message-ID: <1@e.jp\x00>", None),
        (b"Message-ID: <\xe3\x81\x82@e.jp>", None),
        (b"Message-ID: <" + b"a" * 999 + b"@e.jp>", None),
        (b"Message-ID: <1@e.jp>\r\nMessage-ID: <1@e.jp>", None),
        (b"X: y", None),
    ],
)
def test_message_id(field: bytes, message_id: str | None) -> None:
    assert facts(b"From: taro@e.jp\r\n" + field + b"\r\n\r\n").message_id == message_id


def test_references_and_hops() -> None:
    inbound = facts(b"In-Reply-To: <1@a> x\r\nReferences: <1@a> <2@a>\r\n <2@a>\r\nReceived: a\r\nreceived: b\r\n\r\n")
    assert inbound.references == {"<1@a>", "<2@a>"}
    assert (inbound.references_count, inbound.received_count, inbound.robot) == (3, 2, False)
    assert facts(b"X-ROBOT-ID: 1\r\n\r\n").robot


def test_limits() -> None:
    filler = b"X: " + b"a" * 1000 + b"\r\n"
    assert facts(filler * 66 + PLAIN).broken == "header-block-too-long"
    assert facts(filler * 60 + PLAIN).broken is None
    assert facts(filler * 66).broken == "header-block-too-long"
    assert facts((filler * 66)[:MAX_BLOCK]).broken == "header-block-too-long"
    assert facts(b"X: 1\r\n" * (MAX_FIELDS - 3) + PLAIN).broken is None
    assert facts(b"X: 1\r\n" * (MAX_FIELDS - 2) + PLAIN).broken == "too-many-fields"
    assert facts(b"X:" + b"a" * (MAX_FIELD - 1) + b"\r\n" + PLAIN).broken is None
    assert facts(b"X:" + b"a" * MAX_FIELD + b"\r\n" + PLAIN).broken == "field-too-long"
    long_subject = facts(b"SUBJECT:" + b"a" * 20_000 + b"\r\n" + PLAIN)
    assert (long_subject.broken, len(long_subject.raw_subject)) == (None, MAX_FIELD)
    assert facts(filler * 66 + PLAIN).from_address is None


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b" =?ISO-2022-JP?B?GyRCTDVCahsoQg==?=", "無題"),
        (b"=?utf-8?b?44GC?= =?utf-8?b?44GE?=", "あい"),
        (b"=?utf-8?b?44GC?=\r\n =?utf-8?b?44GE?= x", "あい x"),
        (b"=?UTF-8*ja?Q?=E3=81=82_b?=", "あ b"),
        (b"=?utf-8?b?44E=?= =?utf-8?b?gg==?=", "あ"),
        (b"a =?utf-8?b?44GC?= b", "a あ b"),
        (b"=?shift_jis?b?h0CHisjS?=", "①㈱ﾈﾒ"),
        ("無題".encode("cp932"), "無題"),
        ("無題".encode(), "無題"),
        (b"\x1b$BL5Bj\x1b(B", "無題"),
        (b"\x1b$B-!-j\x1b(B \x1b(I1\x1b(Bx", "①㈱ ｱx"),
        (b"=?x?y?z?=", "=?x?y?z?="),
        (b"=?utf-8?b?!?=", ""),
        (b"=?utf-8?q?a=0d=0aBcc:_x?=", "a\\r\\nBcc: x"),
        (b"\x1b[2J", "\\x1b[2J"),
        (b"\x81 \xe9", "\\x81 é"),
        ("a\u202eb".encode(), "a\\u202eb"),
        (b"a" * 300, "a" * 200),
        ("あ".encode() * 5000, "あ" * 200),
    ],
)
def test_readable(raw: bytes, text: str) -> None:
    assert readable(raw) == text


@pytest.mark.parametrize(
    ("charset", "raw", "text"),
    [
        ("iso-2022-jp", "山田".encode("iso2022_jp"), "山田"),
        ("ISO-2022-JP", b"\x1b$B-!\x1b(B", "①"),
        ("iso-2022-jp-ms", b"\x1b$B-j\x1b(B", "㈱"),
        ("cp50220", b"\x1b(I1\x1b(B", "ｱ"),
        ("cp50221", b"\x1b(I1\x1b(B", "ｱ"),
        ("cp50222", b"\x1b$B-j\x1b(B\xff", "㈱\ufffd"),
        ("shift_jis", b"\x87\x40", "①"),
        ("x-sjis", b"\x87\x40", "①"),
        ("windows-31j", b"\xfb\xfc", "髙"),
        ("ms_kanji", b"\x87\x40", "①"),
        ("euc-jp", "山田".encode("euc_jp"), "山田"),
        ("utf-8", "山田".encode(), "山田"),
        ("us-ascii", b"a\xff", "a\ufffd"),
        ("x-unknown", b"\xe9", "é"),
        ("idna", b"xn--r8jz45g", "xn--r8jz45g"),
        ("utf-7", b"+MEI-", "+MEI-"),
        ("utf-8\0", b"a", "a"),
        ("rot13", b"a", "a"),
        ("unicode_escape", b"\\x41", "\\x41"),
    ],
)
def test_charsets(charset: str, raw: bytes, text: str) -> None:
    assert decode_charset(raw, charset) == text


HOSTILE = {
    "dots": b"From: " + b"." * 40_000 + b"@e.jp",
    "dots within the limit": b"From: " + b"." * 8_000 + b"@e.jp",
    "labels": b"From: a@" + b"a." * 4_000,
    "parentheses": b"From: " + b"(" * 5_000 + b"a@e.jp",
    "comments": b"From: " + b"()" * 4_000 + b"a@e.jp",
    "commas": b"From: " + b"," * 8_000,
    "quotes": b"From: " + b'"' * 8_001 + b"a@e.jp",
    "quoted pairs": b'From: "' + b"\\" * 8_001,
    "quoted strings": b"From: " + b'""' * 4_000 + b"<a@e.jp",
    "brackets": b"From: " + b"<" * 8_000,
    "spaces": b"From: x" + b" " * 8_000 + b"<",
    "escapes": b"From: " + b"\x1b$B" * 2_600,
    "received": b"Received: x\r\n" * 40_000 + b"From: a@e.jp",
    "folds": b"X: a\r\n" + b" \r\n" * 21_000 + b"From: a@e.jp",
    "one long line": b"x" * 65_000,
    "spaces before no colon": b"x" + b" " * 65_000,
    "encoded words": b"Subject: " + b"=?utf-8?q?a?= " * 580,
    "half encoded words": b"Subject: " + b"=?" * 4_000,
    "references": b"References: " + b"<" * 8_000,
    "message id": b"Message-ID: <" + b"@" * 8_000,
    "auto-submitted": b"Auto-Submitted: " + b"(" * 8_000,
    "nested multiparts": b"From: a@e.jp\r\n\r\n"
    + b"".join(b"--%d\nContent-Type: multipart/mixed; boundary=%d\n\n" % (i, i + 1) for i in range(1_000)),
    "nested messages": b"From: a@e.jp\r\n\r\n" + b"Content-Type: message/rfc822\r\n\r\n" * 1_500,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_is_linear(name: str) -> None:
    content = HOSTILE[name] + b"\r\n\r\n"
    began = time.perf_counter()
    inbound = facts(content)
    assert inbound.subject.isprintable()
    # The safety limit is 50 ms; a quadratic parser needs seconds here.
    assert time.perf_counter() - began < 0.5


def test_inbox_key() -> None:
    one = facts(PLAIN)
    key = inbox_key("alpha", Purpose.REGISTRATION, TARO, one)
    assert len(key) == 32
    again = facts(b"Received: from retry\r\n" + PLAIN + b"other body")
    assert inbox_key("alpha", Purpose.REGISTRATION, TARO, again) == key

    others = {
        inbox_key("beta", Purpose.REGISTRATION, TARO, one),
        inbox_key("alpha", Purpose.HELP, TARO, one),
        inbox_key("alpha", Purpose.REGISTRATION, None, one),
        inbox_key("alpha", Purpose.REGISTRATION, Address("hanako", "e.jp"), one),
        inbox_key("alpha", Purpose.REGISTRATION, TARO, facts(PLAIN.replace(b"<1@", b"<2@"))),
        inbox_key("alpha", Purpose.REGISTRATION, TARO, facts(PLAIN.replace(b"10:00:00", b"10:00:01"))),
        key,
    }
    assert len(others) == 7


def test_inbox_key_without_message_id_is_the_header_block() -> None:
    bare = PLAIN.replace(b"Message-ID: <1@e.jp>\r\n", b"")
    key = inbox_key("alpha", Purpose.REGISTRATION, TARO, facts(bare + b"body"))
    assert inbox_key("alpha", Purpose.REGISTRATION, TARO, facts(bare + b"other body")) == key
    assert inbox_key("alpha", Purpose.REGISTRATION, TARO, facts(b"X: 1\r\n" + bare)) != key


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"From: ", b"Subject: ", b"Message-ID: ", b"From: a@e.jp\r\nDate: "])
)
def test_any_bytes_give_facts(tail: bytes, head: bytes) -> None:
    inbound = facts(head + tail)
    assert (inbound.from_address is None) == (inbound.from_problem is not None)
    assert inbound.subject.isprintable()
    assert inbound.date.isprintable()
    if inbound.from_address is not None:
        assert parse_mailbox(inbound.from_address.rfc_wire) == inbound.from_address
    assert len(inbox_key("alpha", Purpose.REGISTRATION, None, inbound)) == 32


@given(
    st.lists(
        st.sampled_from(['"', "(", ")", "<", ">", ",", ":", ";", "\\", "@", ".", " ", "a", "e.jp", "=?", "\x1b$B"])
    )
)
def test_any_from_gives_an_address_or_a_problem(parts: list[str]) -> None:
    found = single_mailbox("".join(parts).encode())
    if isinstance(found, Address):
        assert found.text in "".join(parts).replace('"', "").replace("\\", "")


@given(st.binary(max_size=200), st.text(max_size=20))
def test_any_charset_and_bytes_decode(raw: bytes, charset: str) -> None:
    assert isinstance(decode_charset(raw, charset), str)
    assert isinstance(decode_charset(b"\x1b$B" + raw, "iso-2022-jp"), str)
    assert escaped(decode_charset(raw, "utf-8")).isprintable()


@pytest.mark.parametrize(
    ("extra", "to"),
    [
        (b"To: a@e.jp\r\n", b" a@e.jp\r"),
        (b"Cc: b@e.jp\r\nTo: a@e.jp\r\n", b" a@e.jp\r  b@e.jp\r"),
        (b"To: a@e.jp\r\nTO: b@e.jp\r\n", b""),
        (b"To: a@e.jp\r\nCc: a@e.jp\r\ncc: b@e.jp\r\n", b""),
        (b"To: a@e.jp\r\nDate: Fri, 20 Nov 2026 10:00:00 +0900\r\n", b""),
        (b"", b""),
    ],
)
def test_whom_it_names_where_a_signature_holds_for_it(extra: bytes, to: bytes) -> None:
    """A second field of a name could be put on top of a signed one."""
    assert facts(extra + PLAIN).to == to


@given(st.text(max_size=100))
def test_a_date_is_read_or_not(text: str) -> None:
    sent_at = facts(b"Date: " + text.encode("utf-8", "replace").replace(b"\n", b"") + b"\r\n\r\n").sent_at
    assert sent_at is None or isinstance(sent_at, int)
    assert facts(PLAIN).sent_at == 1_795_136_400_000
