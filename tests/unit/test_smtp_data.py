"""The message reader: the same result however the octets are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbot.intake.smtp_data import HEADER_LIMIT, BareLineEndError, MessageReader

_LINES = st.lists(st.sampled_from([b"", b".", b"..", b". ", b".a", b"a", b"From: a@e.jp", b"x" * 50]), max_size=8)


def _read(chunks: list[bytes], body_limit: int = 0) -> tuple[bytes, int, bytes | None]:
    reader = MessageReader(body_limit)
    rest: bytes | None = None
    for i, chunk in enumerate(chunks):
        rest = reader.feed(chunk)
        if rest is not None:
            return reader.content, reader.size, rest + b"".join(chunks[i + 1 :])
    return reader.content, reader.size, rest


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


@given(_LINES, st.binary(max_size=20), st.lists(st.integers(min_value=0), max_size=6))
def test_any_cut_gives_the_message_and_what_follows(lines: list[bytes], after: bytes, cuts: list[int]) -> None:
    sent = b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)
    plain = b"".join(line + b"\r\n" for line in lines)
    blank = b"\r\n" if plain.startswith(b"\r\n") else plain.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    header = blank if plain.startswith(b"\r\n") or b"\r\n\r\n" in plain else plain
    assert _read(_cut(sent + b".\r\n" + after, cuts)) == (header, len(sent), after)


@pytest.mark.parametrize(
    "bare", [b"\n", b"\r", b"\0", b"\n\r", b"\r\r\n", b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n\0.\r\n"]
)
@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
def test_bare_line_ends_and_nul_are_refused(bare: bytes, step: int) -> None:
    data = b"From: a@e.jp\r\n\r\nx" + bare + b"y\r\n.\r\n"
    with pytest.raises(BareLineEndError):
        _read([data[i : i + step] for i in range(0, len(data), step)])


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_bare_lf_is_seen_without_waiting_for_more(step: int) -> None:
    data = b"x\n.\n"
    with pytest.raises(BareLineEndError):
        _read([data[i : i + step] for i in range(0, len(data), step)])


def test_what_follows_the_end_is_not_judged() -> None:
    assert _read([b"a\r\n.\r\nb\nc\0"]) == (b"a\r\n", 3, b"b\nc\0")


@given(_LINES, st.integers(min_value=0, max_value=40), st.lists(st.integers(min_value=0), max_size=6))
def test_as_much_of_the_body_as_is_wanted(lines: list[bytes], limit: int, cuts: list[int]) -> None:
    head, body = b"From: a@e.jp\r\n\r\n", b"".join(line + b"\r\n" for line in lines if not line.startswith(b"."))
    assert _read(_cut(head + body + b".\r\n", cuts), limit) == (head + body[:limit], len(head + body), b"")


def test_dots_of_the_body_are_unstuffed() -> None:
    assert _read([b"A: b\r\n\r\n..x\r\n.\r\n"], 100)[0] == b"A: b\r\n\r\n.x\r\n"


def test_the_body_is_counted_and_not_kept() -> None:
    reader = MessageReader()
    reader.feed(b"From: a@e.jp\r\n\r\n")
    for _ in range(100):
        assert reader.feed(b"x" * 10_000 + b"\r\n") is None
    assert reader.feed(b".\r\n") == b""
    assert (reader.content, reader.size) == (b"From: a@e.jp\r\n\r\n", 16 + 100 * 10_002)


def test_a_header_block_without_end_is_cut_just_past_the_limit() -> None:
    reader = MessageReader()
    for _ in range(5000):
        reader.feed(b"X: " + b"y" * 60 + b"\r\n")
    assert reader.feed(b"\r\n.\r\n") == b""
    assert len(reader.content) == HEADER_LIMIT + 1
    assert b"\r\n\r\n" not in reader.content
