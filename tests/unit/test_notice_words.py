"""The notice's words come from the society's data; characters without a glyph are found before printing."""

from pathlib import Path

import pytest

from mailbot.office.notices import fonts, words
from mailbot.office.notices.sheets import rank
from mailbot.registration.people import DAY_MS, Person
from mailbot.registration.steps import STEPS
from tests.support.factory import REPOSITORY, settings

FACE = fonts.typeface(Path())
NOW = 1_795_149_000_000  # 2026-11-20 in Japan
IDS = [file.stem for file in sorted((REPOSITORY / "config" / "societies").glob("*.toml"))]


@pytest.mark.parametrize("paper", ["a4", "postcard"])
@pytest.mark.parametrize("society", IDS)
def test_every_society_s_paper_can_be_worded_and_printed(tmp_path: Path, society: str, paper: str) -> None:
    loaded = settings(tmp_path)
    found = words.words(loaded, loaded.societies[society], paper, NOW)
    assert len(found["steps"]) >= 2
    for text in [*found["steps"], *found["care"], *(one for one in found.values() if isinstance(one, str))]:
        assert text
        assert "{" not in text
        assert FACE.missing(text) == []


def test_every_step_has_a_sentence() -> None:
    assert set(words._STEPS) >= set(STEPS)


def test_a_blank_mail_needs_an_address_to_go_to(tmp_path: Path) -> None:
    society = settings(tmp_path).societies["shochiku"]
    wrong = society.model_copy(update={"notice": society.notice.model_copy(update={"qr": "registration"})})
    assert words.problems(society) == []
    assert "notice.qr" in words.problems(wrong)[0]


def test_until_when_a_password_can_be_used(tmp_path: Path) -> None:
    society = settings(tmp_path).societies["yokokou"]
    said = [words.remarks(society, NOW + days * DAY_MS, NOW, False)[0] for days in (1, 2)]
    assert said == [
        "仮パスワードは、2026年11月21日（土）13時30分まで使えます。",
        "仮パスワードは、2026年11月21日まで使えます。",
    ]
    assert words.remarks(society, None, NOW, False) == []
    assert words.remarks(society, None, NOW, True) == ["前にお届けした紙の仮パスワードは使えません。"]


def test_the_tag_goes_into_the_address(tmp_path: Path) -> None:
    loaded = settings(tmp_path)
    society = loaded.societies["yokokou"]
    assert words.target(loaded, society, "") == ("mailto:touroku@yokokou.example", "touroku@yokokou.example")
    assert words.target(loaded, society, "ab") == ("mailto:touroku+ab@yokokou.example", "touroku+ab@yokokou.example")


def test_names_of_every_kind_can_be_printed() -> None:
    assert FACE.missing("髙橋 﨑子 𠮷野 ①㈱～ 邊邉 德 が・ー ヷ 𡈽 𣘺 葛\U000e0100") == []


def test_every_character_of_cp932_can_be_printed() -> None:
    lead = [*range(0x81, 0xA0), *range(0xE0, 0xF0), *range(0xFA, 0xFD)]
    codes = [bytes([one]) for one in range(0x20, 0x7F)] + [bytes([one]) for one in range(0xA1, 0xE0)]
    codes += [bytes([first, second]) for first in lead for second in range(0x40, 0xFD)]
    letters = (code.decode("cp932", "ignore") for code in codes)
    text = "".join(one for one in letters if one.isprintable() and not "\ue000" <= one <= "\uf8ff")
    assert len(text) > 7000
    assert FACE.missing(text) == []


def test_what_cannot_be_printed_is_named() -> None:
    assert FACE.missing("山𪚥田𪚥😀") == ["𪚥", "😀"]
    assert fonts.described(["𪚥"]) == "𪚥（U+2A6A5）"
    assert FACE.missing("山\U000e01ef") == ["山\U000e01ef"]


def test_further_fonts_come_after_ours(tmp_path: Path) -> None:
    ours = fonts.font_files(REPOSITORY / "templates" / "notice" / "fonts")
    (tmp_path / "more.ttf").write_bytes(ours[0].read_bytes())
    assert fonts.typeface(tmp_path).families[:2] == fonts.FAMILIES
    with pytest.raises(ValueError, match="no folder"):
        fonts.typeface(tmp_path / "none")


def test_the_insured_person_stands_first_then_the_oldest() -> None:
    child, wife = Person(relation="長男", birth_date="2001-01-02"), Person(relation="妻", birth_date="1950-01-02")
    insured, unknown = Person(relation="本人", birth_date="1960-01-02"), Person(relation="母")
    ordered = sorted([child, unknown, insured, wife], key=lambda one: rank(one, 1))
    assert ordered == [insured, wife, child, unknown]
