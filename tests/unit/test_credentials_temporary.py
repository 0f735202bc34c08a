from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbot.credentials import (
    ALPHABETS,
    Format,
    KeyRefused,
    KeyRing,
    login_id,
    password,
    pin,
    reading,
    same,
    screen_key,
)

NOW = 1_790_000_000_000
RING = KeyRing.create(NOW)
EASY = Format("easy", 10)


@pytest.mark.parametrize("text", ["digits:8", "easy:10", "letters:8", "digits:12", "digits:1", "easy:64"])
def test_a_format_is_written_as_it_is_read(text: str) -> None:
    assert str(Format.parse(text)) == text


@pytest.mark.parametrize("text", ["", "digits", "digits:", "digits:0", "digits:65", "kana:8", "digits:-1", "digits:8 "])
def test_a_wrong_format_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"format|alphabet|length"):
        Format.parse(text)


def test_easy_letters_cannot_be_misread() -> None:
    assert len(ALPHABETS["easy"]) == 31
    assert not set("01ilo") & set(ALPHABETS["easy"])


@given(st.sampled_from(sorted(ALPHABETS)), st.integers(1, 64), st.integers(1, 2**63 - 1), st.integers(0, 9))
def test_a_temporary_password_keeps_its_format_and_never_changes(
    alphabet: str, length: int, row_id: int, generation: int
) -> None:
    fmt = Format(alphabet, length)
    text = password(RING, 0, "alpha", row_id, generation, fmt)
    assert fmt.fits(text)
    assert password(RING, 0, "alpha", row_id, generation, fmt) == text


def test_every_fact_of_the_row_makes_another_password() -> None:
    ring = RING.rotate(NOW, NOW)
    texts = {
        password(ring, 0, "alpha", 7, 0, EASY),
        password(ring, 1, "alpha", 7, 0, EASY),
        password(ring, 0, "beta", 7, 0, EASY),
        password(ring, 0, "alpha", 8, 0, EASY),
        password(ring, 0, "alpha", 7, 1, EASY),
        password(ring, 0, "alpha", 7, 0, Format("easy", 11))[:10],
        password(ring, 0, "alpha", 7, 0, EASY, "reissue-password"),
        login_id(ring, 0, "alpha", 7, 0, EASY),
    }
    assert len(texts) == 8
    assert pin(ring, 0, "alpha", 7, 0, 8) != screen_key(ring, 0, "alpha", 7, 0, 8)


def test_a_compromised_key_makes_nothing() -> None:
    with pytest.raises(KeyRefused):
        pin(RING.rotate_compromised(NOW), 0, "alpha", 1, 0, 6)


@pytest.mark.parametrize("alphabet", sorted(ALPHABETS))
def test_letters_are_equally_likely(alphabet: str) -> None:
    fmt = Format(alphabet, 64)
    ring = KeyRing(
        (RING.keys[0].__class__(0, bytes(range(32)), 0, 0),), bytes(32)
    )  # fixed key: the same run every time
    counts = Counter("".join(password(ring, 0, "alpha", row, 0, fmt) for row in range(1, 1001)))
    expected = 64_000 / len(fmt.letters)
    chi = sum((counts[letter] - expected) ** 2 / expected for letter in fmt.letters)
    freedom = len(fmt.letters) - 1
    assert set(counts) == set(fmt.letters)
    # far in the tail of chi-square; bytes taken modulo the length score 190 for easy and 258 for letters
    assert chi < freedom + 4 * (2 * freedom) ** 0.5


def test_a_pin_has_its_digits_and_leading_zeros() -> None:
    pins = [pin(RING, 0, "alpha", row, 0, 6) for row in range(1, 400)]
    assert all(len(text) == 6 and text.isdecimal() for text in pins)
    assert any(text.startswith("0") for text in pins)
    assert len(screen_key(RING, 0, "alpha", 1, 0, 4)) == 4


@pytest.mark.parametrize(
    "given_",
    ["123456", "123 456", "123-456", "１２３４５６", "１２３ ４５６", " 123456\n", "123－456", "123ー456", "123‐456"],
)
def test_spellings_of_a_pin_that_count(given_: str) -> None:
    assert same(given_, "123456")


@pytest.mark.parametrize(
    "given_",
    ["", " ", "12345", "1234567", "²³4567", "¹23456", "①23456", "123457", "١٢٣٤٥٦", "\0" * 6, "1" * 10_000, "\ud800"],
)
def test_spellings_that_do_not_count(given_: str) -> None:
    assert not same(given_, "123456")
    assert not same("²³4567", "234567")


def test_nothing_equals_an_empty_secret() -> None:
    assert not same("", "")
    assert not same("--", "-")


def test_case_counts_only_where_the_alphabet_has_both() -> None:
    assert not same("ABC", "abc")
    assert same("ABC", "abc", any_case=True)
    assert [Format(name, 8).cased for name in ("digits", "easy", "letters")] == [False, False, True]


@given(st.integers(1, 2**63 - 1), st.sampled_from(sorted(ALPHABETS)))
def test_a_derived_password_equals_itself_in_groups(row_id: int, alphabet: str) -> None:
    text = password(RING, 0, "alpha", row_id, 0, Format(alphabet, 10))
    assert same(f"{text[:5]} {text[5:]}", text)
    assert not same(text[:-1], text)


def test_readings() -> None:
    assert reading("12345678") == "イチ、ニ、サン、シ、ゴ、ロク、ナナ、ハチ"
    assert reading("90") == "キュウ、ゼロ"
    assert reading("ab2z") == "エー、ビー、ニ、ゼット"
    assert reading("aB2") == "小文字エー、大文字ビー、ニ"
    assert reading("ab", cased=True) == "小文字エー、小文字ビー"
    assert reading("a_桜") == "エー、アンダーバー、桜"
    assert reading("") == ""


def test_every_character_that_can_be_generated_has_its_own_reading() -> None:
    for alphabet in ALPHABETS.values():
        spoken = [reading(letter, cased=True) for letter in alphabet]
        assert len(set(spoken)) == len(alphabet)
        assert not any(set(text) & set(alphabet) for text in spoken)
