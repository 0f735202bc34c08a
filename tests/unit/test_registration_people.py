"""Sealed columns, blind indexes, and the day somebody leaves."""

import json
from dataclasses import replace

import pytest

from mailbot.config import Society
from mailbot.credentials import KeyRing, SealBroken
from mailbot.registration import choices, people
from mailbot.registration.kanji import COMMON_FORM
from mailbot.registration.people import Person
from tests.unit.test_registration_steps import GOOD, society

RING = KeyRing.create(0)
SIXTH = society(paper=GOOD)
WHO = Person(symbol="12", number="3456", name="山田　花子", kana="ヤマダ　ハナコ", birth_date="1980-01-02")


def test_a_person_survives_sealing() -> None:
    blob = people.seal_person(RING, WHO, "one", 7, 0)
    assert "山田".encode() not in blob
    assert people.open_person(RING, blob, "one", 7) == WHO


@pytest.mark.parametrize(("society_id", "member_id"), [("two", 7), ("one", 8)])
def test_a_sealed_value_opens_only_in_its_place(society_id: str, member_id: int) -> None:
    blob = people.seal_person(RING, WHO, "one", 7, 0)
    with pytest.raises(SealBroken):
        people.open_person(RING, blob, society_id, member_id)


def test_facts_of_another_version_are_left_aside() -> None:
    assert Person.load(json.dumps({"name": "花子", "new_fact": 1}).encode()) == Person(name="花子")


def test_an_empty_column_is_empty_text() -> None:
    assert people.open_text(RING, None, "one", "member", "sealed_nickname", 7) == ""


@pytest.mark.parametrize("typed", ["1234-5678", "１２３４　５６７８", "12345678", "1234ー5678", "\u200b12345678"])
def test_printed_ids_are_found_however_they_are_typed(typed: str) -> None:
    assert people.temporary_key(RING, "one", typed) == people.temporary_key(RING, "one", "12345678")


def test_indexes_differ_by_society_and_purpose() -> None:
    keys = {
        people.temporary_key(RING, "one", "x"),
        people.temporary_key(RING, "two", "x"),
        people.name_index(RING, "one", "x"),
        people.kana_index(RING, "one", "x"),
        people.household_key(RING, "one", "x"),
        people.file_address_index(RING, "one", "x"),
    }
    assert len(keys) == 6


def test_symbol_and_number_do_not_run_together() -> None:
    assert people.number_index(RING, "one", "12", "3") != people.number_index(RING, "one", "1", "23")


def test_the_person_key_is_symbol_number_birth_date_and_kana() -> None:
    same = Person(**{**{f: getattr(WHO, f) for f in ("symbol", "number", "birth_date")}, "kana": "ﾔﾏﾀﾞﾊﾅｺ"})
    assert people.person_key(RING, "one", WHO) == people.person_key(RING, "one", same)
    twin = Person(**{**{f: getattr(WHO, f) for f in ("symbol", "number", "birth_date")}, "kana": "ヤマダ　タロウ"})
    assert people.person_key(RING, "one", WHO) != people.person_key(RING, "one", twin)


@pytest.mark.parametrize(
    ("left_on", "now", "left"),
    [
        (None, 0, False),
        ("2026-11-21", 1_795_186_799_999, False),  # 23:59:59.999 of the day before, in Japan
        ("2026-11-21", 1_795_186_800_000, True),
        ("2026-11-20", 1_795_186_799_999, True),
    ],
)
def test_leaving_begins_with_the_day_in_japan(left_on: str | None, now: int, left: bool) -> None:
    assert people.has_left(SIXTH, left_on, now) is left


def test_leaving_closes_nothing_where_the_file_says_so() -> None:
    kind: Society = SIXTH.model_copy(update={"left_closes_login": False})
    assert not people.has_left(kind, "2000-01-01", 1_795_186_800_000)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("はな", "はな"),
        (" a \t\n b ", "a b"),
        ("a\x00b\x1b[2Jc", "a b [2Jc"),
        ("\ud800", ""),
        ("\u202eabc", "abc"),
        ("", ""),
    ],
)
def test_nicknames_stand_on_one_line(typed: str, kept: str) -> None:
    assert choices.nickname(typed) == kept


@pytest.mark.parametrize(
    ("written", "looked_for"),
    [
        ("髙橋", "高橋"),
        ("山﨑", "山崎"),
        ("𠮷野家", "吉野家"),
        ("渡邉", "渡辺"),
        ("德永", "徳永"),
        ("葛\U000e0100城", "葛城"),
        ("㈱山田", "(株)山田"),
    ],
)
def test_names_are_found_in_every_form_of_their_kanji(written: str, looked_for: str) -> None:
    assert people.name_index(RING, "one", written) == people.name_index(RING, "one", looked_for)
    assert people.name_index(RING, "one", "斎藤") != people.name_index(RING, "one", "斉藤")


def test_every_form_leads_to_one_that_is_no_form_itself() -> None:
    assert all(len(common) == 1 and ord(common) not in COMMON_FORM for common in COMMON_FORM.values())
    assert len(COMMON_FORM) > 150


def test_kanji_do_not_touch_who_a_person_is() -> None:
    old, new = replace(WHO, name="髙橋　花子"), replace(WHO, name="高橋　花子")
    assert people.person_key(RING, "one", old) == people.person_key(RING, "one", new)
    assert all(people.folded_name(chr(code)) == chr(code) for code in range(ord("ァ"), ord("ヺ") + 1))
