"""Header lines and bodies as other parsers read them."""

import base64
import re
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.utils import parseaddr, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbot.mail import compose

WORDS = st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" 　"), min_size=1, max_size=120).map(
    lambda text: "x" + text + "x"
)


@given(WORDS)
def test_any_subject_comes_back_whole(text: str) -> None:
    line = compose.text_field("Subject", text)
    message = message_from_bytes(line + b"\r\n", policy=policy.compat32)
    assert str(make_header(decode_header(message["Subject"]))) == text
    for part in line.split(b"\r\n"):
        assert len(part) <= 76
    for word in re.findall(rb"=\?UTF-8\?B\?([^?]*)\?=", line):
        assert len(word) + 12 <= 75
        base64.b64decode(word).decode("utf-8")  # no character is split


@given(WORDS)
def test_any_display_name_comes_back_whole(text: str) -> None:
    line = compose.sender_field(text, "info@robot.example")
    # policy.default of Python 3.11 puts blanks between encoded-words of a name
    name, address = parseaddr(str(message_from_bytes(line + b"\r\n", policy=policy.compat32)["From"]))
    assert address == "info@robot.example"
    assert str(make_header(decode_header(name))) == text


@pytest.mark.parametrize("name", ["Kenpo", 'Ken "po", Inc.', "a (b) <c@d.example>", "=?utf-8?q?x?="])
def test_ascii_display_names(name: str) -> None:
    message = message_from_bytes(compose.sender_field(name, "info@robot.example") + b"\r\n", policy=policy.default)
    assert [(a.display_name, a.addr_spec) for a in message["From"].addresses] == [(name, "info@robot.example")]


@pytest.mark.parametrize("bad", ["\r\nBcc: x", "\n", "\r", "\0", "\x1b", "\x7f", "\u2028", "\x85"])
def test_line_breaks_never_enter_a_header(bad: str) -> None:
    with pytest.raises(ValueError, match="header value"):
        compose.field("To", f"a{bad}b")
    with pytest.raises(ValueError, match="header value"):
        compose.text_field("Subject", f"件名{bad}b")
    with pytest.raises(ValueError, match="header value"):
        compose.text_field("Subject", f"a{bad}b")
    with pytest.raises(ValueError, match="header value"):
        compose.sender_field(f"健保{bad}", "info@robot.example")
    with pytest.raises(ValueError, match="header value"):
        compose.sender_field("Kenpo", f"info@robot.example{bad}")


@pytest.mark.parametrize("at", [0, 951_782_400_000, 1_795_156_920_000, 1_798_729_199_999, 4_102_444_800_000])
def test_dates_are_japanese_and_right(at: int) -> None:
    line = compose.date_field(at).decode()
    value = line.removeprefix("Date: ").removesuffix("\r\n")
    parsed = parsedate_to_datetime(value)
    assert int(parsed.timestamp()) == at // 1000
    assert parsed.strftime("%a, %d %b %Y %H:%M:%S %z") == value
    assert value.endswith("+0900")


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 114, 4096])
def test_base64_lines(size: int) -> None:
    data = bytes(range(256)) * 16
    encoded = compose.base64_lines(data[:size])
    assert base64.b64decode(encoded) == data[:size]
    assert all(len(line) <= 76 for line in encoded.split(b"\r\n"))
    assert encoded == b"" or encoded.endswith(b"\r\n")


def test_base64_lines_end_in_crlf_once() -> None:
    assert compose.base64_lines(b"a" * 57) == base64.b64encode(b"a" * 57) + b"\r\n"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("<a@b>", True),
        ("<" + "a" * 118 + "@b>", True),
        ("<" + "a" * 981 + "@b>", True),
        ("<" + "a" * 982 + "@b>", False),
        ("<>", False),
        ("<[>", False),
        ("a@b", False),
        ("<a@b> <c@d>", False),
        ("<a@b\r\n>", False),
        ("<a@b>\n", False),
        ("<あ@b>", False),
        ("", False),
    ],
)
def test_message_ids(text: str, good: bool) -> None:
    assert compose.is_message_id(text) is good
