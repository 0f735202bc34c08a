"""Rows of a roster file -> persons, and everything that is wrong with them.

A complaint names file, row and column, never what stands there: complaints are printed, logged and mailed around.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from mailbot.config import Settings, Society
from mailbot.credentials import Format, KeyRing
from mailbot.mail.address import stored
from mailbot.registration import people
from mailbot.registration.people import Person

from . import cells
from .cells import BadCell
from .columns import BY_KEY, Layout, read_header
from .reader import BAD_CHARACTERS, Broken, Record, detect, records

SHOWN = 100
"""Complaints listed; the rest is only counted."""
EVERY = 500
"""Rows between two words about progress."""

Progress = Callable[[str, int, int], None]
"""(what is being done, units done, units in all)."""


def silent(_what: str, _done: int, _total: int) -> None:
    """No progress shown."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """`line` 0: the file as a whole."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file} {self.line}行目: {self.text}" if self.line else f"{self.file}: {self.text}"


@dataclass
class Complaints:
    """The first of them, and how many there are."""

    file: str
    shown: list[Complaint] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, text: str) -> None:
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(Complaint(self.file, line, text))

    def __bool__(self) -> bool:
        return self.count > 0

    def lines(self) -> list[str]:
        """As printed, in the file's order."""
        more = self.count - len(self.shown)
        listed = [str(one) for one in sorted(self.shown, key=lambda one: one.line)]
        return [*listed, f"{self.file}: ほかに{more}件あります。"] if more else listed


@dataclass(frozen=True, slots=True)
class Row:
    """One person as the file says."""

    line: int
    person: Person
    left_on: str | None
    protected: bool
    printed_id: str
    printed_password: str


@dataclass(frozen=True)
class RosterFile:
    """A file whose header is understood."""

    path: Path
    encoding: str
    layout: Layout
    size: int

    def rows(self, settings: Settings, society: Society, today: str, complaints: Complaints) -> Iterator[Row]:
        """Every good row, streaming; what is wrong with the others goes to `complaints`."""
        found = records(self.path, self.encoding)
        next(found)
        read = _reader(settings, society, today, self.layout, complaints)
        for record in found:
            if isinstance(record, Broken):
                complaints.add(record.line, record.text)
            elif (row := read(record)) is not None:
                yield row


def open_file(path: Path, complaints: Complaints) -> RosterFile | None:
    """None when the file cannot be read or its header is not understood; `complaints` says why."""
    try:
        size = path.stat().st_size
        encoding = detect(path)
    except OSError as error:
        complaints.add(0, f"ファイルを開けません（{error.strerror}）。")
        return None
    first = next(records(path, encoding), None)
    if first is None:
        complaints.add(0, "ファイルが空です。")
        return None
    if isinstance(first, Broken):
        complaints.add(first.line, first.text)
        return None
    if any("\0" in cell for cell in first.cells):
        complaints.add(first.line, "CSVとして読めません。「CSV UTF-8」で保存し直してください。")
        return None
    layout, wrong = read_header(first.cells)
    for text in wrong:
        complaints.add(first.line, text)
    return RosterFile(path, encoding, layout, size) if layout else None


def _reader(
    settings: Settings, society: Society, today: str, layout: Layout, complaints: Complaints
) -> Callable[[Record], Row | None]:
    """A function that reads one record by the society's rules."""
    legacy = frozenset(settings.site.smtp.legacy_domains)
    own = settings.directory.own_keys()
    id_format, password_format = Format.parse(society.temporary.login_id), Format.parse(society.temporary.password)
    needed = {key for key, column in BY_KEY.items() if column.required}
    parsers: dict[str, Callable[[str], str | bool | None]] = {
        "symbol": cells.identifier,
        "number": cells.identifier,
        "relation": cells.as_written,
        "name": cells.as_written,
        "kana": cells.kana,
        "birth_date": lambda text: cells.birth_date(text, today),
        "mail": lambda text: cells.mail_address(text, legacy, own),
        "nickname": cells.as_written,
        "temporary_id": lambda text: cells.printed_id(text, id_format),
        "temporary_password": lambda text: cells.printed_password(text, password_format),
        "household": cells.plain,
        "postal_code": cells.postal_code,
        "postal_address": cells.as_written,
        "protected": cells.mark,
        "left_on": cells.leaving_date,
    }

    def read(record: Record) -> Row | None:
        row = list(record.cells)
        if len(row) > layout.width and not any(cell.strip() for cell in row[layout.width :]):
            row = row[: layout.width]
        if len(row) != layout.width:
            complaints.add(record.line, f"欄が{len(row)}個あります。見出しは{layout.width}個です。")
            return None
        before = complaints.count
        values: dict[str, str | bool | None] = {}
        for key, position in layout.places.items():
            text = row[position - 1]
            try:
                if BAD_CHARACTERS.search(text):
                    raise BadCell("外字か、正しくない文字があります。")
                values[key] = parsers[key](text)
                if key in needed and not values[key]:
                    raise BadCell("空欄です。")
            except BadCell as error:
                complaints.add(record.line, f"{layout.where(key)} {error}")
        if complaints.count > before:
            return None

        def text_of(key: str) -> str:
            return str(values.get(key) or "")

        person = Person(
            symbol=text_of("symbol"),
            number=text_of("number"),
            relation=text_of("relation"),
            name=text_of("name"),
            kana=text_of("kana"),
            birth_date=text_of("birth_date"),
            address=text_of("mail"),
            nickname=text_of("nickname"),
            household=text_of("household"),
            postal_code=text_of("postal_code"),
            postal_address=text_of("postal_address"),
        )
        left_on = values.get("left_on")
        return Row(
            record.line,
            person,
            str(left_on) if left_on else None,
            bool(values.get("protected")),
            text_of("temporary_id"),
            text_of("temporary_password"),
        )

    return read


def household_of(ring: KeyRing, society: str, person: Person) -> bytes:
    """`member.household`: the column, else everybody under one symbol and number."""
    return people.household_key(ring, society, person.household or f"{person.symbol}\x1f{person.number}")


def prefix(key: bytes) -> int:
    """The first 64 bits of a keyed hash."""
    return int.from_bytes(key[:8])


class Repeats:
    """Finds equal keys among half a million rows in 12 bytes each."""

    def __init__(self) -> None:
        self._keys, self._lines = array("Q"), array("I")

    def add(self, key: bytes, line: int) -> None:
        self._keys.append(prefix(key))
        self._lines.append(line)

    def groups(self) -> list[list[int]]:
        """Lines that share a key."""
        order = sorted(range(len(self._keys)), key=self._keys.__getitem__)
        groups: list[list[int]] = []
        for before, this in pairwise(order):
            if self._keys[before] != self._keys[this]:
                continue
            if groups and groups[-1][-1] == self._lines[before]:
                groups[-1].append(self._lines[this])
            else:
                groups.append([self._lines[before], self._lines[this]])
        return groups

    def keys(self) -> set[int]:
        """The keys' first 64 bits."""
        return set(self._keys)


@dataclass
class Checked:
    """What reading the whole file once found."""

    rows: int = 0
    persons: Repeats = field(default_factory=Repeats)
    printed: Repeats = field(default_factory=Repeats)


def check(
    file: RosterFile,
    settings: Settings,
    ring: KeyRing,
    society: Society,
    today: str,
    complaints: Complaints,
    notes: Complaints,
    progress: Progress,
) -> Checked:
    """Reads every row once: complaints, and persons or printed IDs that stand there twice."""
    checked = Checked()
    names, addresses = Repeats(), Repeats()
    lengths: dict[str, set[int]] = {"symbol": set(), "number": set()}
    padded: set[str] = set()
    last = 0
    for row in file.rows(settings, society, today, complaints):
        checked.rows += 1
        person, line = row.person, row.line
        checked.persons.add(people.person_key(ring, society.id, person), line)
        names.add(people.name_index(ring, society.id, person.name), line)
        if row.printed_id:
            checked.printed.add(people.temporary_key(ring, society.id, row.printed_id), line)
        if person.address:
            household = household_of(ring, society.id, person)
            key = stored(person.address).key
            addresses.add(ring.index("roster-household-address", society.id, household.hex(), key), line)
        for name in ("symbol", "number"):
            text = getattr(person, name)
            lengths[name].add(len(text))
            if text.startswith("0") and len(text) > 1:
                padded.add(name)
        if line - last >= EVERY:
            last = line
            progress("確認しています", checked.rows, 0)
    for lines in checked.persons.groups():
        complaints.add(lines[0], f"記号・番号・生年月日・カナ氏名が同じ人が、{_rows(lines[1:])}にもあります。")
    for lines in checked.printed.groups():
        complaints.add(lines[0], f"同じ仮ログインIDが、{_rows(lines[1:])}にもあります。")
    for lines in addresses.groups():
        notes.add(lines[0], f"同じ世帯に同じメールアドレスの人がいます（{_rows(lines[1:])}）。")
    for lines in names.groups():
        notes.add(lines[0], f"同じ氏名の人がいます（{_rows(lines[1:])}）。")
    for name in sorted(padded):
        if len(lengths[name]) > 1:
            notes.add(
                0, f"「{BY_KEY[name].label}」の桁数がそろっていません。先頭の0が消えた行がないか、お確かめください。"
            )
    if not checked.rows and not complaints:
        complaints.add(0, "見出しのほかに行がありません。")
    return checked


def _rows(lines: list[int]) -> str:
    listed = "、".join(f"{line}行目" for line in lines[:5])
    return listed + ("など" if len(lines) > 5 else "")
