"""Tickets, answers, picture, recording and ranges, without pages."""

import hashlib
import io
import struct
import wave
import zlib

import pytest

from mailbot.credentials import KeyRing
from mailbot.web.captcha import challenge as module
from mailbot.web.captcha.challenge import LIFE_MS, MOST, PASSES, Challenge, reading, typed_digits
from mailbot.web.captcha.picture import HEIGHT, WIDTH, draw
from mailbot.web.captcha.speech import DIGITS, RATE, speak
from mailbot.web.marks import Marks
from mailbot.web.ranges import ranged

NOON = 1_795_143_600_000
RING = KeyRing.create(NOON - 1)
MARKS = Marks(RING)


def _new(kind: str = "proof", society: str = "one", browser: str = "browser:b") -> Challenge:
    return Challenge.new(MARKS, kind, society, browser, NOON)


def _read(ticket: str, society: str = "one", browser: str = "browser:b", now: int = NOON) -> Challenge | None:
    return Challenge.read(MARKS, society, browser, ticket, now)


@pytest.mark.parametrize("kind", ["proof", "picture", "passed1", f"passed{PASSES}"])
def test_a_ticket_is_read_as_what_it_was_made_of_until_its_time_is_over(kind: str) -> None:
    made = _new(kind)
    assert _read(made.ticket, now=NOON + LIFE_MS - 1) == made
    assert _read(made.ticket, now=NOON + LIFE_MS) is None


def test_a_ticket_is_for_one_society_and_one_browser() -> None:
    ticket = _new().ticket
    assert _read(ticket, society="two") is None
    assert _read(ticket, browser="browser:c") is None
    assert _read(ticket, browser="") is None


def test_a_ticket_that_was_altered_in_any_place_is_none() -> None:
    made = _new("picture")
    kind, row, expires_at, mark = made.ticket.split(".")
    later = str(int(expires_at) + 60_000)
    other = _new("picture").ticket.split(".")[1]
    for parts in (
        ("proof", row, expires_at, mark),
        ("passed3", row, expires_at, mark),
        (kind, other, expires_at, mark),
        (kind, row, later, mark),
        (kind, row, expires_at, mark[0] + "a" * 32),
        (kind, row, expires_at, "b" + mark[1:]),
        (kind, row, expires_at),
        (kind, row, expires_at, mark, ""),
    ):
        assert _read(".".join(parts)) is None, parts


@pytest.mark.parametrize(
    "text", ["", ".", "...", "proof", "a" * 1024, "拒.否.です.よ", "proof.１.2.3", "passed9.a.1.b", "\ud800"]
)
def test_what_is_no_ticket_is_none(text: str) -> None:
    assert _read(text) is None


def test_a_compromised_key_ends_its_tickets() -> None:
    ticket = _new().ticket
    assert Challenge.read(Marks(RING.rotate_compromised(NOON)), "one", "browser:b", ticket, NOON) is None
    assert Challenge.read(Marks(RING.rotate(NOON, NOON)), "one", "browser:b", ticket, NOON) is not None


def test_a_forged_kind_of_passes_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KINDS", module._KINDS | {"passed9"})
    ticket = _new("passed9").ticket
    monkeypatch.undo()
    assert _read(ticket) is None


def test_the_number_is_the_only_one_that_fits_the_target() -> None:
    for _ in range(3):
        made = _new()
        number = made.number(RING)
        assert 0 <= number < MOST
        assert hashlib.sha256(f"{made.salt}{number}".encode()).hexdigest() == made.target(RING)
        assert len(f"{made.salt}{MOST}") <= 55  # one block for the script


def test_answers_differ_from_ticket_to_ticket_and_from_purpose_to_purpose() -> None:
    made = [_new("picture") for _ in range(200)]
    assert len({one.digits(RING) for one in made}) > 190
    assert len({one.question(RING) for one in made}) > 150
    assert {len(one.digits(RING)) for one in made} == {5}
    assert {len(one.question(RING)) for one in made} == {3}
    assert any(not one.digits(RING).startswith(one.question(RING)) for one in made)
    assert any(one.digits(RING).startswith("0") for one in [_new("picture") for _ in range(300)])


def test_passes_run_out() -> None:
    lefts = [_new("picture").left]
    while lefts[-1]:
        lefts.append(_new(f"passed{lefts[-1]}").left)
    assert lefts == [3, 2, 1, 0]


@pytest.mark.parametrize(
    "typed",
    ["375", "３７５", " 3 7 5 ", "3-7-5", "3ー7ー5", "３・７・５", "三七五", "3、7、5", "3‐7−5", "3\u30007\u20095"],
)
def test_digits_are_taken_as_people_type_them(typed: str) -> None:
    assert typed_digits(typed) == "375"


@pytest.mark.parametrize("typed", ["", "さん", "37", "3750", "³⁷⁵x", "375円", "\u0663\u0667\u0665", "9" * 1024])
def test_other_things_are_not_mended_into_the_answer(typed: str) -> None:
    assert typed_digits(typed) != "375"


def test_the_question_reads_as_its_digits() -> None:
    assert reading("375") == "さん・なな・ご"
    assert reading("0123456789") == "ゼロ・いち・に・さん・よん・ご・ろく・なな・はち・きゅう"


# --- picture ----------------------------------------------------------------------------------------------------------


def _pixels(png: bytes) -> bytes:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        (length,), name = struct.unpack_from(">I", png, at), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length) == (zlib.crc32(name + body),)
        chunks[name] = body
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (WIDTH, HEIGHT, 8, 0, 0, 0, 0)
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == HEIGHT * (WIDTH + 1)
    return b"".join(rows[at + 1 : at + 1 + WIDTH] for at in range(0, len(rows), WIDTH + 1))


def test_a_picture_is_a_sound_png_the_same_at_each_look_and_never_twice() -> None:
    assert draw("01234", b"a") == draw("01234", b"a")
    assert draw("01234", b"a") != draw("01234", b"b")
    assert draw("01234", b"a") != draw("01235", b"a")


@pytest.mark.parametrize("digit", "0123456789")
def test_every_digit_leaves_ink_inside_the_picture(digit: str) -> None:
    for seed in range(5):
        pixels = _pixels(draw(digit * 5, bytes([seed])))
        dark = [at for at, value in enumerate(pixels) if value < 60]
        assert len(dark) > 5 * 100
        columns, rows = {at % WIDTH for at in dark}, {at // WIDTH for at in dark}
        assert min(columns) > 3
        assert max(columns) < WIDTH - 4
        assert min(rows) > 2
        assert max(rows) < HEIGHT - 3
        fifth = WIDTH // 5
        assert all(any(place * fifth <= c < (place + 1) * fifth for c in columns) for place in range(5))


# --- recording --------------------------------------------------------------------------------------------------------


def _samples(sound: bytes) -> tuple[int, ...]:
    with wave.open(io.BytesIO(sound)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        frames = file.readframes(file.getnframes())
    return struct.unpack(f"<{len(frames) // 2}h", frames)


def test_a_recording_begins_with_its_first_digit_after_half_a_second() -> None:
    for first in range(10):
        samples = _samples(speak(f"{first}75", b"seed"))
        begin = RATE // 2
        assert 500 >= max(map(abs, samples[:begin])) > 0  # the noise alone
        alike = []
        for spoken in DIGITS:
            heard = samples[begin : begin + len(spoken)]
            both = sum(a * b for a, b in zip(heard, spoken, strict=True))
            alike.append(both / (sum(a * a for a in heard) * sum(b * b for b in spoken)) ** 0.5)
        assert alike[first] > 0.95
        assert alike.index(max(alike)) == first


def test_a_recording_is_as_long_as_its_digits_and_pauses() -> None:
    for digits in ("00000", "98765", "314"):
        bare = RATE // 2 + sum(len(DIGITS[int(digit)]) for digit in digits)
        pauses = len(_samples(speak(digits, digits.encode()))) - bare
        assert len(digits) * RATE * 6 // 10 - len(digits) <= pauses < len(digits) * RATE
    assert speak("314", b"a") == speak("314", b"a") != speak("314", b"b")


def test_the_recordings_are_ten_and_long_enough_to_be_heard() -> None:
    assert len(DIGITS) == 10
    assert all(0.3 * RATE < len(one) < RATE for one in DIGITS)
    assert all(max(map(abs, one)) > 15_000 for one in DIGITS)


# --- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("", 200, b"0123456789", None),
        ("bytes=0-1", 206, b"01", "bytes 0-1/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=5-4", 416, b"", "bytes */10"),
        ("bytes=-3", 200, b"0123456789", None),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("bytes=" + "9" * 400, 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
    ],
)
def test_a_part_of_a_body(wanted: str, status: int, body: bytes, content_range: str | None) -> None:
    answer = ranged(b"0123456789", "audio/wav", wanted)
    assert (answer.status_code, answer.body) == (status, body)
    assert answer.headers.get("content-range") == content_range
    assert answer.headers["accept-ranges"] == "bytes"
