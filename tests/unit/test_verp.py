"""The tag of an envelope sender."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mailbot.config.society import MAX_BOUNCE, Addresses
from mailbot.credentials import KeyRing, verp
from mailbot.mail.address import MAX_LOCAL, parse_typed

RING = KeyRing.create(1)
ID = 0x1234_5678_9ABC_DEF0


def test_the_longest_bounce_address_still_fits_with_its_tag() -> None:
    assert MAX_BOUNCE + 1 + verp.TAG_CHARS == MAX_LOCAL
    parse_typed(verp.tagged(RING, "a", "b" * MAX_BOUNCE + "@kenpo.example", ID, 2))


@pytest.mark.parametrize("bounce", ["b" * (MAX_BOUNCE + 1) + "@kenpo.example", "bounce+x@kenpo.example"])
def test_a_bounce_address_without_room_for_a_tag_is_refused(bounce: str) -> None:
    with pytest.raises(ValidationError, match="a tag is put behind"):
        Addresses(robot="info@kenpo.example", bounce=bounce)


def test_a_tag_is_read_in_any_letter_case_and_by_its_society_only() -> None:
    tag = verp.tag(RING, "a", ID, 2)
    assert verp.read_tag(RING, "a", tag.upper()) == verp.read_tag(RING, "a", tag) == ID
    assert verp.read_tag(RING, "b", tag) is None


def test_a_tag_outlives_a_rotation_but_no_theft() -> None:
    tag = verp.tag(RING, "a", ID, 2)
    assert verp.read_tag(RING.rotate(3, 3), "a", tag) == ID
    assert verp.read_tag(RING.rotate_compromised(3), "a", tag) is None


@given(st.integers(0, verp.TAG_CHARS - 1), st.characters())
def test_no_letter_may_differ(place: int, letter: str) -> None:
    tag = verp.tag(RING, "a", ID, 2)
    other = tag[:place] + letter + tag[place + 1 :]
    assert verp.read_tag(RING, "a", other) == (ID if other.lower() == tag else None)


@given(st.text())
def test_nothing_raises(text: str) -> None:
    assert verp.read_tag(RING, "a", text) is None
