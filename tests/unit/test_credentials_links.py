from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbot.credentials import (
    Key,
    KeyRefused,
    KeyRing,
    LinkPurpose,
    LinkState,
    decode_id,
    encode_id,
    mint,
    read,
    state,
)
from mailbot.credentials.ring import KID_LETTERS

NOW = 1_790_000_000_000
RING = KeyRing((Key(0, bytes(range(32)), NOW, NOW),), bytes(32))  # fixed: test names must not change
REG = LinkPurpose.REGISTRATION
ids = st.integers(min_value=1, max_value=(1 << 63) - 1)
LINK = 0x0123_4567_89AB_CDEF
TOKEN = mint(RING, REG, "alpha", LINK, 0)


@given(ids)
def test_an_id_and_its_thirteen_characters_are_the_same(value: int) -> None:
    text = encode_id(value)
    assert len(text) == 13
    assert set(text) <= set(KID_LETTERS)
    assert decode_id(text) == value


@pytest.mark.parametrize("value", [0, -1, 1 << 63, 1 << 70])
def test_only_positive_63_bit_numbers_have_a_text(value: int) -> None:
    with pytest.raises(ValueError, match="63-bit"):
        encode_id(value)


@pytest.mark.parametrize(
    "text",
    ["", "a" * 13, "a" * 12, "b" * 14, "7" * 13, "i" + "a" * 12, "B" * 13, "1" * 13, "b" * 13 + "\n", "ａ" * 13, "\0"],
)
def test_no_other_text_is_an_id(text: str) -> None:
    assert decode_id(text) is None


def test_the_first_character_of_an_id_stays_within_63_bits() -> None:
    assert decode_id("h" + "7" * 12) == (1 << 63) - 1


@given(ids, st.sampled_from(LinkPurpose))
def test_a_minted_token_reads_back(link_id: int, purpose: LinkPurpose) -> None:
    token = mint(RING, purpose, "alpha", link_id, 0)
    assert len(token) == 34
    assert set(token) <= set(KID_LETTERS)
    assert read(RING, purpose, "alpha", token) == link_id


def test_purpose_society_and_ring_are_bound_into_the_token() -> None:
    for purpose in LinkPurpose:
        assert (read(RING, purpose, "alpha", TOKEN) is not None) == (purpose is REG)
    assert read(RING, REG, "beta", TOKEN) is None
    assert read(KeyRing.create(NOW), REG, "alpha", TOKEN) is None


def test_every_single_changed_character_is_refused() -> None:
    for place, right in enumerate(TOKEN):
        for letter in string.printable + "é０":
            changed = TOKEN[:place] + letter + TOKEN[place + 1 :]
            if letter.lower() == right:
                assert read(RING, REG, "alpha", changed) == LINK
            else:
                assert read(RING, REG, "alpha", changed) is None, (place, letter)


@given(ids, st.data())
def test_a_changed_token_is_refused(link_id: int, data: st.DataObject) -> None:
    token = mint(RING, REG, "alpha", link_id, 0)
    place = data.draw(st.integers(0, 33))
    letter = data.draw(st.sampled_from([c for c in KID_LETTERS if c != token[place]]))
    assert read(RING, REG, "alpha", token[:place] + letter + token[place + 1 :]) is None


def test_a_shortened_token_is_refused() -> None:
    for length in range(34):
        assert read(RING, REG, "alpha", TOKEN[:length]) is None


WIDE = TOKEN.translate({ord(c): ord(c) + 0xFEE0 for c in string.ascii_lowercase + string.digits})


@pytest.mark.parametrize(
    "text",
    [
        TOKEN + ".",
        TOKEN + ">",
        TOKEN + "）",
        TOKEN + "。",
        TOKEN + "」",
        TOKEN + "%0A",
        TOKEN + "%0d%0a",
        TOKEN + "\r\n",
        TOKEN + "&utm_source=x",
        TOKEN + "?fbclid=abcdef234567",
        TOKEN + "/",
        TOKEN + "/abc",
        TOKEN + "#top",
        TOKEN + "%3E",
        TOKEN + " までご登録ください",
        TOKEN.upper(),
        TOKEN.upper() + ".",
        "<" + TOKEN + ">",
        " " + TOKEN,
        "%20" + TOKEN + "%20",
        TOKEN[:20] + "%20" + TOKEN[20:],
        TOKEN[:20] + "%2520" + TOKEN[20:],
        TOKEN[:20] + "\r\n " + TOKEN[20:],
        TOKEN[:7] + "%0D%0A" + TOKEN[7:20] + "%0A" + TOKEN[20:],
        TOKEN[:20] + "\u3000" + TOKEN[20:],
        TOKEN[:20] + "%E3%80%80" + TOKEN[20:],
        TOKEN[:5] + "\u00ad" + TOKEN[5:9] + "\u200b" + TOKEN[9:],
        "\ufeff" + TOKEN,
        WIDE,
        WIDE.upper(),
    ],
)
def test_what_mail_programs_do_to_a_url_is_mended(text: str) -> None:
    assert read(RING, REG, "alpha", text) == LINK


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0",
        "../",
        "%00",
        "%E3",
        "%",
        "a" * 10_000,
        "ﷺ" * 10_000,
        "\ud800" * 34,
        "<" * 10_000,
        "%20" * 4000,
        "İ" * 34,
        "a" * 34,
        "7" * 34,
        "x" + TOKEN,
        TOKEN[:20] + "\0" + TOKEN[20:],
        TOKEN[:20] + "../" + TOKEN[20:],
    ],
)
def test_hostile_text_is_no_token_and_no_error(text: str) -> None:
    assert read(RING, REG, "alpha", text) is None


@given(st.text(max_size=80) | st.text(alphabet=KID_LETTERS, min_size=30, max_size=40))
def test_any_text_is_answered(text: str) -> None:
    assert read(RING, REG, "alpha", text) is None


def test_an_old_key_reads_until_it_is_compromised_or_retired() -> None:
    rotated = RING.rotate(NOW, NOW)
    assert read(rotated, REG, "alpha", TOKEN) == LINK
    assert mint(rotated, REG, "alpha", LINK, 0) == TOKEN
    assert mint(rotated, REG, "alpha", LINK, 1) != TOKEN
    for ring in (RING.rotate_compromised(NOW), rotated.retire(0, set(), NOW)):
        assert read(ring, REG, "alpha", TOKEN) is None
        with pytest.raises(KeyRefused):
            mint(ring, REG, "alpha", LINK, 0)


def test_an_unknown_key_is_refused() -> None:
    rotated = RING.rotate(NOW, NOW)
    assert read(RING, REG, "alpha", mint(rotated, REG, "alpha", LINK, 1)) is None


@pytest.mark.parametrize(
    ("expires_at", "spent_at", "revoked_at", "expected"),
    [
        (NOW + 1, None, None, LinkState.LIVE),
        (NOW, None, None, LinkState.EXPIRED),
        (NOW - 1, None, None, LinkState.EXPIRED),
        (NOW + 1, NOW - 5, None, LinkState.USED),
        (NOW - 1, NOW - 5, None, LinkState.USED),
        (NOW + 1, 0, None, LinkState.USED),
        (NOW + 1, None, NOW - 5, LinkState.REVOKED),
        (NOW - 1, None, NOW - 5, LinkState.REVOKED),
        (NOW - 1, NOW - 6, NOW - 5, LinkState.USED),
    ],
)
def test_a_link_s_state(expires_at: int, spent_at: int | None, revoked_at: int | None, expected: LinkState) -> None:
    assert state(expires_at, spent_at, revoked_at, NOW) is expected
