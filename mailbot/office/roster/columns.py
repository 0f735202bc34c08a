"""The columns of a roster file: their names and synonyms, as one table. docs/roster.md lists the same table."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """`key` is the English name; `label` the Japanese one that complaints use."""

    key: str
    label: str
    required: bool
    synonyms: tuple[str, ...]
    meaning: str
    """What stands in it, for docs/roster.md."""


COLUMNS = (
    Column("symbol", "記号", True, ("被保険者証記号", "保険証記号", "被保険者記号"), "保険証の記号"),
    Column("number", "番号", True, ("被保険者証番号", "保険証番号", "被保険者番号"), "保険証の番号"),
    Column(
        "relation",
        "続柄",
        False,
        ("本人家族区分", "被保険者との続柄", "relationship"),
        "本人、妻、長男など",
    ),
    Column("name", "氏名", True, ("漢字氏名", "氏名漢字", "名前", "お名前"), "お名前"),
    Column(
        "kana",
        "カナ氏名",
        True,
        ("氏名カナ", "カナ", "フリガナ", "ふりがな", "氏名フリガナ", "かな氏名", "name in kana", "furigana"),
        "お名前の読み。全角・半角・ひらがなのどれでも",
    ),
    Column(
        "birth_date",
        "生年月日",
        True,
        ("誕生日", "birthday", "date of birth"),
        "1960-01-02、1960/1/2、19600102、昭和35年1月2日、S35.1.2のどれか",
    ),
    Column(
        "mail",
        "メールアドレス",
        False,
        ("メール", "Eメール", "電子メール", "e-mail", "mail address", "mail on file"),
        "健保組合に届け出のあるメールアドレス",
    ),
    Column(
        "nickname",
        "仮ニックネーム",
        False,
        ("ニックネーム", "temporary nickname"),
        "登録の画面に初めから入れておくニックネーム",
    ),
    Column(
        "temporary_id",
        "仮ログインID",
        False,
        ("仮ID", "ログインID", "仮ユーザーID", "temporary login id", "login id"),
        "お知らせに印刷するID。空欄なら自動で作ります",
    ),
    Column(
        "temporary_password",
        "仮パスワード",
        False,
        ("パスワード", "初期パスワード", "password"),
        "お知らせに印刷するパスワード。空欄なら自動で作ります",
    ),
    Column(
        "household",
        "世帯",
        False,
        ("世帯番号", "世帯コード", "世帯ID", "household id"),
        "同じ値の人が一つの世帯になります。空欄なら記号と番号が同じ人",
    ),
    Column("postal_code", "郵便番号", False, ("〒", "zip", "zip code", "postcode"), "お知らせの宛先。数字7桁"),
    Column("postal_address", "住所", False, ("送付先住所", "送付先", "address"), "お知らせの宛先"),
    Column(
        "protected",
        "保護",
        False,
        ("保護対象", "DV保護", "支援措置", "情報保護"),
        "はい・○・1なら、世帯の一覧や家族と共用の通知に出しません",
    ),
    Column(
        "left_on",
        "資格喪失日",
        False,
        ("喪失日", "喪失年月日", "資格喪失年月日", "脱退日", "left", "left date"),
        "資格がなくなった日。書き方は生年月日と同じ",
    ),
)
IGNORED = ("性別", "備考", "メモ", "No", "連番", "gender", "sex", "memo", "note", "notes")
"""Columns that rosters often have and the robot does not want: left aside, and said so."""

_SPARE = re.compile(r"[\s_\-‐−ー()\[\]「」・.*※:]+")


def folded(header: str) -> str:
    """A header as it is compared: width, case, blanks, brackets and hyphens do not count."""
    return _SPARE.sub("", unicodedata.normalize("NFKC", header)).casefold()


_NAMES = {
    folded(name): column for column in COLUMNS for name in (column.key, column.label, *column.synonyms)
}
_IGNORED = frozenset(map(folded, IGNORED))
BY_KEY = {column.key: column for column in COLUMNS}


@dataclass(frozen=True, slots=True)
class Layout:
    """Which cell holds what. Positions count from 1."""

    places: dict[str, int]
    """Column key -> position."""
    width: int
    ignored: tuple[int, ...]
    """Positions left aside."""

    def where(self, key: str) -> str:
        """How a complaint names a column: 「生年月日」(5列目)."""
        return f"「{BY_KEY[key].label}」({self.places[key]}列目)"


def read_header(cells: Sequence[str]) -> tuple[Layout | None, list[str]]:
    """The layout, or what is wrong with the header row.

    Unknown headers are named only where the row clearly is a header: where it is missing, its cells are a person's.
    """
    places: dict[str, int] = {}
    ignored: list[int] = []
    unknown: list[int] = []
    found: list[str] = []
    for position, cell in enumerate(cells, 1):
        column = _NAMES.get(folded(cell))
        if column is None:
            (ignored if folded(cell) in _IGNORED or not cell.strip() else unknown).append(position)
        elif column.key in places:
            found.append(f"「{column.label}」が{places[column.key]}列目と{position}列目の二か所にあります。")
        else:
            places[column.key] = position
    if not places:
        return None, ["見出しの行がありません。1行目に、「記号」「番号」などをコンマかタブで区切って書いてください。"]
    sure = len(places) * 2 >= len(cells)
    for position in unknown:
        name = f"「{cells[position - 1].strip()[:30]}」" if sure else ""
        found.append(f"{position}列目の見出し{name}が分かりません。名前を直すか、列を消してください。")
    if unknown:
        found.append(f"使える見出し: {'、'.join(column.label for column in COLUMNS)}")
    missing = [column.label for column in COLUMNS if column.required and column.key not in places]
    found += [f"「{label}」の列がありません。" for label in missing]
    return (None if found else Layout(places, len(cells), tuple(ignored))), found
