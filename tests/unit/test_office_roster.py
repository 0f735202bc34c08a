"""Roster files as they come: bad inputs 79 to 89, one test each, and the values of cells."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from mailbot.config import Settings, load
from mailbot.credentials import Format, KeyRing
from mailbot.office.roster import cells
from mailbot.office.roster.cells import BadCell
from mailbot.office.roster.rows import Complaints, Repeats, Row, check, open_file, silent

HEAD = "記号,番号,氏名,カナ氏名,生年月日,仮ログインID\n"
GOOD = "12,34,山田　花子,ヤマダ　ハナコ,1980-01-02,12345678\n"
TODAY = "2026-11-20"
RING = KeyRing.create(0)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(Path(__file__).parents[2] / "config", {})


class Read:
    """A file as the robot read it."""

    def __init__(self, settings: Settings, folder: Path, data: bytes) -> None:
        path = folder / "meibo.csv"
        path.write_bytes(data)
        society = settings.societies["yokokou"]
        complaints, notes = Complaints(path.name), Complaints(path.name)
        file = open_file(path, complaints)
        self.encoding = file.encoding if file else ""
        self.rows: list[Row] = []
        if file:
            self.count = check(file, settings, RING, society, TODAY, complaints, notes, silent).rows
            self.rows = list(file.rows(settings, society, TODAY, Complaints("")))
        self.complaints, self.notes = complaints.lines(), notes.lines()


def read(settings: Settings, folder: Path, text: str | bytes, encoding: str = "utf-8") -> Read:
    return Read(settings, folder, text if isinstance(text, bytes) else text.encode(encoding))


def test_79_windows_letters(settings: Settings, tmp_path: Path) -> None:
    name = "髙﨑①㈱～－"
    found = read(settings, tmp_path, HEAD + f"12,34,{name},タカサキ,1980-01-02,\n", "cp932")
    assert (found.encoding, found.complaints) == ("cp932", [])
    assert found.rows[0].person.name == name


@pytest.mark.parametrize(
    ("encoding", "seen"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"), ("cp932", "cp932")],
)
def test_80_encodings(settings: Settings, tmp_path: Path, encoding: str, seen: str) -> None:
    found = read(settings, tmp_path, HEAD + GOOD, encoding)
    assert (found.encoding, found.complaints) == (seen, [])
    assert found.rows[0].person.name == "山田　花子"


def test_80_tabs_of_excels_unicode_text(settings: Settings, tmp_path: Path) -> None:
    found = read(settings, tmp_path, (HEAD + GOOD).replace(",", "\t"), "utf-16")
    assert (found.complaints, len(found.rows)) == ([], 1)


@pytest.mark.parametrize("bad", [b"\xa0", b"\x80", b"\xfd", b"\xf0\x40"])
def test_81_bytes_that_cp932_lets_pass(settings: Settings, tmp_path: Path, bad: bytes) -> None:
    row = "12,34,".encode("cp932") + bad + ",ヤマダ,1980-01-02,\n".encode("cp932")
    found = read(settings, tmp_path, HEAD.encode("cp932") + row + GOOD.encode("cp932"))
    assert found.complaints == ["meibo.csv 2行目: 「氏名」(3列目) 外字か、正しくない文字があります。"]
    assert len(found.rows) == 1


def test_82_backslash_as_second_byte(settings: Settings, tmp_path: Path) -> None:
    data = (HEAD + '12,34,"表ソ能",ヒョウ,1980-01-02,\n').encode("cp932")
    assert data.count(b"\\") == 3
    found = read(settings, tmp_path, data)
    assert (found.complaints, found.rows[0].person.name) == ([], "表ソ能")


@pytest.mark.parametrize("encoding", ["cp932", "utf-8"])
def test_82_cut_in_the_last_character(settings: Settings, tmp_path: Path, encoding: str) -> None:
    head = HEAD.replace(",生年月日,仮ログインID", "").replace("氏名,カナ氏名", "生年月日,カナ氏名,氏名")
    found = read(settings, tmp_path, (head + "12,34,1980-01-02,ヤマダ,山田表").encode(encoding)[:-1])
    assert found.encoding == encoding
    assert found.complaints == ["meibo.csv 2行目: 「氏名」(5列目) 外字か、正しくない文字があります。"]


def test_83_nul(settings: Settings, tmp_path: Path) -> None:
    found = read(settings, tmp_path, HEAD + GOOD + "12,3\x004,山田,ヤマダ,1980-01-02,\n")
    assert found.complaints == ["meibo.csv 3行目: 「番号」(2列目) 外字か、正しくない文字があります。"]


@pytest.mark.parametrize("rows", [3, 9000])
def test_84_quote_never_closed(settings: Settings, tmp_path: Path, rows: int) -> None:
    """Nine thousand rows behind it exceed the 131,072 characters of a field."""
    found = read(settings, tmp_path, HEAD + GOOD + '12,"34,山田,ヤマダ,1980-01-02,\n' + GOOD * rows)
    assert len(found.complaints) == 1
    assert found.complaints[0].startswith("meibo.csv 3行目: ")
    assert "閉じて" in found.complaints[0]


def test_84_quote_in_the_middle(settings: Settings, tmp_path: Path) -> None:
    found = read(settings, tmp_path, HEAD + '12,34,"山"田,ヤマダ,1980-01-02,\n' + GOOD)
    assert found.complaints == ["meibo.csv 2行目: 「\"」の使い方が正しくありません。"]
    assert len(found.rows) == 1


@pytest.mark.parametrize("spoilt", ["123", "00123", "1.23E+11", "2000/1/21", "1234567", "123456789"])
def test_85_ids_that_a_spreadsheet_rewrote(settings: Settings, tmp_path: Path, spoilt: str) -> None:
    found = read(settings, tmp_path, HEAD + f"12,34,山田,ヤマダ,1980-01-02,{spoilt}\n")
    assert len(found.complaints) == 1
    assert found.complaints[0].startswith("meibo.csv 2行目: 「仮ログインID」(6列目) 数字8桁ではありません。")


def test_86_doubles(settings: Settings, tmp_path: Path) -> None:
    head = HEAD.strip() + ",メールアドレス\n"
    person = "12,34,{},{},1980-01-02,{},{}\n"
    rows = [
        person.format("山田", "ヤマダ", "12345678", "a@docomo.ne.jp"),
        person.format("山田", "ﾔﾏ ﾀﾞ", "", "A@docomo.ne.jp"),
        person.format("佐藤", "サトウ", "1234-5678".replace("-", ""), ""),
    ]
    found = read(settings, tmp_path, head + "".join(rows))
    assert found.complaints == [
        "meibo.csv 2行目: 記号・番号・生年月日・カナ氏名が同じ人が、3行目にもあります。",
        "meibo.csv 2行目: 同じ仮ログインIDが、4行目にもあります。",
    ]
    assert found.notes == [
        "meibo.csv 2行目: 同じ世帯に同じメールアドレスの人がいます（3行目）。",
        "meibo.csv 2行目: 同じ氏名の人がいます（3行目）。",
    ]


def test_86_twins_are_two_persons(settings: Settings, tmp_path: Path) -> None:
    rows = "12,34,山田　一,ヤマダ　ハジメ,2010-05-05,\n12,34,山田　次,ヤマダ　ツギ,2010-05-05,\n"
    assert read(settings, tmp_path, HEAD + rows).complaints == []


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+81-45", "@x", "-1"])
def test_87_formulas_are_text(settings: Settings, tmp_path: Path, text: str) -> None:
    found = read(settings, tmp_path, HEAD + f'12,34,"{text}",ヤマダ,1980-01-02,\n')
    assert (found.complaints, found.rows[0].person.name) == ([], text)


def test_88_header_in_any_order_and_width(settings: Settings, tmp_path: Path) -> None:
    head = "　性別　,ＢＩＲＴＨ　ＤＡＴＥ,「カナ」,Name,番 号,保険証記号\n"
    found = read(settings, tmp_path, head + "女,1980-01-02,　ヤマダ　,　山田　花子　,34,12\n")
    assert (found.complaints, found.notes) == ([], [])
    person = found.rows[0].person
    assert (person.symbol, person.number, person.name, person.kana) == ("12", "34", "山田　花子", "ヤマダ")


def test_88_headers_that_nobody_knows_are_listed(settings: Settings, tmp_path: Path) -> None:
    found = read(settings, tmp_path, HEAD.strip() + ",退社の日,記号\n" + GOOD)
    assert found.complaints[0] == "meibo.csv 1行目: 「記号」が1列目と8列目の二か所にあります。"
    assert found.complaints[1].startswith("meibo.csv 1行目: 7列目の見出し「退社の日」が分かりません。")
    assert found.complaints[2].startswith("meibo.csv 1行目: 使える見出し: 記号、番号、")


def test_88_without_a_header_no_person_is_named(settings: Settings, tmp_path: Path) -> None:
    found = read(settings, tmp_path, GOOD)
    assert len(found.complaints) == 1
    assert "見出しの行がありません" in found.complaints[0]
    assert "山田" not in found.complaints[0]


def test_88_missing_column(settings: Settings, tmp_path: Path) -> None:
    found = read(settings, tmp_path, "記号,番号,氏名,生年月日\n")
    assert found.complaints == ["meibo.csv 1行目: 「カナ氏名」の列がありません。"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "ファイルが空です"),
        (b"\r\n\r\n", "ファイルが空です"),
        (HEAD.encode(), "見出しのほかに行がありません"),
        ((HEAD + GOOD).encode("utf-16-le"), "CSVとして読めません"),
        (b"\0" * 3_000_000, "1行が長すぎます"),
    ],
)
def test_89_nothing_to_read(settings: Settings, tmp_path: Path, data: bytes, words: str) -> None:
    found = read(settings, tmp_path, data)
    assert len(found.complaints) == 1
    assert words in found.complaints[0]


def test_89_lines_that_end_in_cr_only(settings: Settings, tmp_path: Path) -> None:
    found = read(settings, tmp_path, (HEAD + GOOD).replace("\n", "\r"))
    assert (found.complaints, len(found.rows)) == ([], 1)


def test_89_memory_does_not_grow_with_the_rows(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "meibo.csv"
    kana = "アイウエオカキクケコ"

    def peak(rows: int) -> int:
        with path.open("w", encoding="cp932") as stream:
            stream.write("記号,番号,氏名,カナ氏名,生年月日\n")
            for n in range(rows):
                stream.write(f"1,{n},{n}番,{''.join(kana[int(d)] for d in str(n))},1980-01-02\n")
        complaints = Complaints(path.name)
        tracemalloc.start()
        file = open_file(path, complaints)
        assert file is not None
        checked = check(file, settings, RING, settings.societies["yokokou"], TODAY, complaints, complaints, silent)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (checked.rows, complaints.lines()) == (rows, [])
        return used

    few, many = peak(300), peak(3000)
    # persons and names at 12 bytes each, and what sorting them takes: 500,000 rows stay under 150 MB
    assert (many - few) / 2700 < 300


def test_complaints_name_row_and_column_and_never_what_stands_there(settings: Settings, tmp_path: Path) -> None:
    head = "記号,番号,氏名,カナ氏名,生年月日,メールアドレス,仮パスワード,保護,資格喪失日,郵便番号\n"
    secrets = ["漢字鈴木", "1980-02-30", "suzuki@@mail", "ひみつの語", "多分", "いつか", "12-34"]
    found = read(settings, tmp_path, head + f"1,2,鈴木一郎,{','.join(secrets)}\n")
    assert len(found.complaints) == len(secrets)
    listed = "\n".join(found.complaints)
    assert all(f"({column}列目)" in listed for column in range(4, 11))
    assert not [word for word in [*secrets, "鈴木"] if word in listed]


def test_at_most_a_hundred_complaints_are_listed_and_the_rest_counted(settings: Settings, tmp_path: Path) -> None:
    found = read(settings, tmp_path, HEAD + ",,,,,\n1,2,,ア,1980-01-02,\n" * 130)
    assert len(found.complaints) == 101
    assert found.complaints[-1] == "meibo.csv: ほかに30件あります。"
    assert found.complaints[0] == "meibo.csv 3行目: 「氏名」(3列目) 空欄です。"


def test_rows_of_another_width(settings: Settings, tmp_path: Path) -> None:
    found = read(settings, tmp_path, HEAD + GOOD.strip() + ",,\n" + GOOD.strip() + ",x\n1,2\n")
    assert found.complaints == [
        "meibo.csv 3行目: 欄が7個あります。見出しは6個です。",
        "meibo.csv 4行目: 欄が2個あります。見出しは6個です。",
    ]


def test_numbers_of_uneven_length_with_leading_zeros_are_noted(settings: Settings, tmp_path: Path) -> None:
    found = read(settings, tmp_path, HEAD + GOOD + "12,034,佐藤,サトウ,1980-01-02,\n")
    assert found.complaints == []
    assert found.notes == [
        "meibo.csv: 「番号」の桁数がそろっていません。先頭の0が消えた行がないか、お確かめください。"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "1960-01-02",
        "1960/1/2",
        "19600102",
        "S35.1.2",
        "昭和35年1月2日",
        "s35/01/02",
        "１９６０年１月２日",
        " 1960.1.2 ",
        "㍼35年1月2日",
    ],
)
def test_dates(text: str) -> None:
    assert cells.birth_date(text, TODAY) == "1960-01-02"


def test_first_years_of_eras() -> None:
    assert cells.day("令和元年5月1日").isoformat() == "2019-05-01"
    assert cells.day("H1.1.8").isoformat() == "1989-01-08"
    assert cells.day("昭和64年1月7日").isoformat() == "1989-01-07"


@pytest.mark.parametrize(
    "text",
    ["", "60-1-2", "1960-13-01", "1981-02-29", "21916", "S70.1.1", "平成0年1月1日", "2026-11-21", "1799-01-01", "来年"],
)
def test_no_dates(text: str) -> None:
    with pytest.raises(BadCell):
        cells.birth_date(text, TODAY)


@pytest.mark.parametrize("text", ["ﾔﾏﾀﾞ ﾕ-ｺ", "やまだ　ゆーこ", "ヤマダ ユーコ", "ヤマダ　ユ−コ"])
def test_kana(text: str) -> None:
    assert cells.kana(text) == "ヤマダ ユーコ"


@pytest.mark.parametrize("text", ["はい", "○", "１", "Yes"])
def test_marks(text: str) -> None:
    assert cells.mark(text)


@pytest.mark.parametrize("text", ["", " ", "0", "いいえ", "×"])
def test_no_marks(text: str) -> None:
    assert not cells.mark(text)


def test_printed_credentials_of_other_formats() -> None:
    assert cells.printed_id("ab-12", Format.parse("easy:8")) == "ab-12"
    assert cells.printed_password("hunter2hunter2", Format.parse("easy:10")) == "hunter2hunter2"
    for text in ("=abcdefgh", "abc", "1E+10", "パスワード", "two words"):
        with pytest.raises(BadCell):
            cells.printed_password(text, Format.parse("easy:10"))


def test_the_robots_own_address_is_nobodys(settings: Settings) -> None:
    own = settings.directory.own_keys()
    with pytest.raises(BadCell):
        cells.mail_address("Touroku@Yokokou.example", frozenset(), own)
    assert cells.mail_address("ｔａｒｏ＠example.jp", frozenset(), own) == "taro@example.jp"
    assert cells.mail_address("a..b.@docomo.ne.jp", frozenset({"docomo.ne.jp"}), own) == "a..b.@docomo.ne.jp"


def test_repeats_finds_groups() -> None:
    repeats = Repeats()
    for line, key in enumerate([b"a" * 8, b"b" * 8, b"a" * 8, b"c" * 8, b"a" * 8, b"c" * 8], 2):
        repeats.add(key, line)
    assert sorted(repeats.groups()) == [[2, 4, 6], [5, 7]]
