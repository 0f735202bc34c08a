"""Birth dates as people type them."""

from datetime import date

import pytest

from mailbot.registration.dates import FIELDS, Mistake, Problem, read_birth_date

TODAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("typed", "born"),
    [
        (("1980", "1", "2"), date(1980, 1, 2)),
        (("１９８０", "０１", "　２ "), date(1980, 1, 2)),
        (("1980年", "1月", "2日"), date(1980, 1, 2)),
        (("昭和55", "1", "2"), date(1980, 1, 2)),
        (("昭和 55 年", "1", "2"), date(1980, 1, 2)),
        (("昭５５", "1", "2"), date(1980, 1, 2)),
        (("S55", "1", "2"), date(1980, 1, 2)),
        (("ｓ．５５", "1", "2"), date(1980, 1, 2)),
        (("㍼55", "1", "2"), date(1980, 1, 2)),
        (("明治33", "4", "5"), date(1900, 4, 5)),
        (("M44", "4", "5"), date(1911, 4, 5)),
        (("大正15", "12", "24"), date(1926, 12, 24)),
        (("T元", "8", "1"), date(1912, 8, 1)),
        (("昭和元年", "12", "31"), date(1926, 12, 31)),
        (("昭和64", "1", "7"), date(1989, 1, 7)),
        (("平成元", "1", "3"), date(1989, 1, 3)),
        (("h31", "4", "30"), date(2019, 4, 30)),
        (("令和元年", "5", "1"), date(2019, 5, 1)),
        (("R8", "11", "20"), TODAY),
        (("2000", "2", "29"), date(2000, 2, 29)),
    ],
)
def test_what_people_type(typed: tuple[str, str, str], born: date) -> None:
    assert read_birth_date(*typed, TODAY) == born


@pytest.mark.parametrize(
    ("typed", "mistake", "fields"),
    [
        (("", "", ""), Mistake.EMPTY, FIELDS),
        ((" 　", "1", "・"), Mistake.EMPTY, ("birth_year", "birth_day")),
        (("55", "1", "2"), Mistake.NO_YEAR, ("birth_year",)),
        (("元", "1", "2"), Mistake.NO_YEAR, ("birth_year",)),
        (("0055", "1", "2"), Mistake.NO_YEAR, ("birth_year",)),
        (("1879", "1", "2"), Mistake.NO_YEAR, ("birth_year",)),
        (("X55", "1", "2"), Mistake.NO_YEAR, ("birth_year",)),
        (("昭和五十五", "1", "2"), Mistake.NO_YEAR, ("birth_year",)),
        (("1980年1月2日", "1", "2"), Mistake.NO_YEAR, ("birth_year",)),
        (("ﾀﾅｶ", "1", "2"), Mistake.NO_YEAR, ("birth_year",)),
        (("1' OR 1=1 --", "1", "2"), Mistake.NO_YEAR, ("birth_year",)),
        (("9" * 5000, "1", "2"), Mistake.NO_YEAR, ("birth_year",)),
        (("\ud800\0", "1", "2"), Mistake.NO_YEAR, ("birth_year",)),
        (("١٩٨٠", "1", "2"), Mistake.NO_YEAR, ("birth_year",)),
        (("1980", "いち", "001"), Mistake.NO_NUMBER, ("birth_month", "birth_day")),
        (("1980", "13", "2"), Mistake.NO_SUCH_DAY, ("birth_month",)),
        (("1980", "0", "2"), Mistake.NO_SUCH_DAY, ("birth_month",)),
        (("1981", "2", "29"), Mistake.NO_SUCH_DAY, ("birth_day",)),
        (("昭和65", "1", "2"), Mistake.NO_SUCH_DAY, ("birth_year",)),
        (("昭和0", "1", "2"), Mistake.NO_SUCH_DAY, ("birth_year",)),
        (("明治1", "1", "2"), Mistake.NO_SUCH_DAY, ("birth_year",)),
        (("令和9999", "1", "2"), Mistake.NO_SUCH_DAY, ("birth_year",)),
        (("2026", "11", "21"), Mistake.FUTURE, ("birth_year",)),
    ],
)
def test_what_is_no_birth_date(typed: tuple[str, str, str], mistake: Mistake, fields: tuple[str, ...]) -> None:
    assert read_birth_date(*typed, TODAY) == Problem(mistake, fields)


def test_the_sentences_say_which_field_and_what_to_do() -> None:
    empty = read_birth_date("", "1", "", TODAY)
    assert isinstance(empty, Problem)
    assert [(one.field, one.text) for one in empty.complaints("生年月日")] == [
        ("birth_year", "生年月日の「年」を入力してください。"),
        ("birth_day", "生年月日の「日」を入力してください。"),
    ]
    sentences = {Problem(mistake, ("birth_month",)).complaints("生まれた日")[0].text for mistake in Mistake}
    assert len(sentences) == len(Mistake)
    assert all(text.startswith("生まれた日") and text.endswith("してください。") for text in sentences)
