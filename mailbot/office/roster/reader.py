"""Bytes of a roster file -> rows of cells, streaming.

Spreadsheets save CSV as UTF-8 with or without a mark, as cp932 ("Shift_JIS" with ①, ㈱ and 髙, which Python's shift_jis
refuses) or as UTF-16 with tabs. Bytes that do not decode stay visible as characters nobody writes, so that the row and
column can be named.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_LINE = 1 << 20
"""Characters of one physical line."""
_BLOCK = 1 << 16
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What no roster holds: controls, lone surrogates (bytes that did not decode), private-use characters (外字, and what
# cp932 makes of 0xA0, 0xFD-0xFF and 0xF040 on), U+FFFD, invisible and direction marks, non-characters
BAD_CHARACTERS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ue000-\uf8ff"
    "\ufdd0-\ufdef\ufeff\ufff0-\uffff\U000f0000-\U0010ffff]"
)


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the file. `line` is where it begins, counted from 1."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that could not be read at all. `final`: nothing behind it was read."""

    line: int
    text: str
    final: bool = False


def detect(file: Path) -> str:
    """The encoding: a mark, else UTF-8 if all of it is, else cp932; of two that fail, the one that fails later.

    A file cut in the middle of its last letter is still UTF-8, though cp932 would read all of it as nonsense.
    """
    with file.open("rb") as stream:
        head = stream.read(4)
    for bom, name in _BOMS:
        if head.startswith(bom):
            return name
    utf8, beyond_ascii = _fails_at(file, "utf-8")
    if utf8 is None or (beyond_ascii and utf8 >= file.stat().st_size - 3):
        return "utf-8"
    cp932, _ = _fails_at(file, "cp932")
    return "utf-8" if cp932 is not None and utf8 >= cp932 else "cp932"


def _fails_at(file: Path, encoding: str) -> tuple[int | None, bool]:
    """(position of the first byte that does not decode strictly, whether letters beyond ASCII came before it)."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    position, beyond_ascii = 0, False
    with file.open("rb") as stream:
        while True:
            block = stream.read(_BLOCK)
            waiting = len(decoder.getstate()[0])
            try:
                beyond_ascii = not decoder.decode(block, final=not block).isascii() or beyond_ascii
            except UnicodeDecodeError as error:
                before = error.object[: error.start].decode(encoding)
                return position - waiting + error.start, beyond_ascii or not before.isascii()
            if not block:
                return None, beyond_ascii
            position += len(block)


def records(file: Path, encoding: str) -> Iterator[Record | Broken]:
    """All rows but empty ones, the header first. Never more than one row in memory."""
    errors = "replace" if encoding == "utf-16" else "surrogateescape"
    with file.open("rb") as raw, io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline="") as text:
        lines = _Lines(text)
        first = next(lines, "")
        lines.back(first)
        delimiter = "\t" if "\t" in first and "," not in first else ","
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            start = lines.number + 1
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                final = lines.ended or "limit" in str(error)
                yield Broken(start, _words(str(error)), final)
                if final:
                    return
                continue
            if any(cell.strip() for cell in cells):
                yield Record(start, tuple(cells))
        if lines.too_long:
            yield Broken(lines.number, "1行が長すぎます。ここから後ろは読めません。", True)


def _words(error: str) -> str:
    if "unexpected end" in error:
        return "「\"」で始まった欄が、ファイルの終わりまで閉じていません。"
    if "limit" in error:
        return "欄が長すぎます。「\"」が閉じていないかもしれません。ここから後ろは読めません。"
    return "「\"」の使い方が正しくありません。"


class _Lines:
    """Physical lines with their count; a line without end does not fill the memory."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._held: str | None = None
        self.number = 0
        self.ended = False
        self.too_long = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line, self._held = (self._held, None) if self._held is not None else (self._text.readline(MAX_LINE), None)
        if len(line) >= MAX_LINE:
            self.too_long = True
        if not line or self.too_long:
            self.ended = True
            raise StopIteration
        self.number += 1
        return line

    def back(self, line: str) -> None:
        """Puts the first line back, so that it is read again."""
        if line:
            self._held = line
            self.number -= 1
