"""CSV for spreadsheets: written to a file of one's own (mode 0600), safe to open, whole or not there (RFC 4180)."""

from __future__ import annotations

import codecs
import csv
import errno
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterable, Sequence
from enum import StrEnum
from pathlib import Path

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
GETA = "〓"
"""What printers put where a character is missing."""
# Unicode has two characters for these; Windows' table knows one of each.
_TWINS = str.maketrans({"〜": "～", "−": "－", "‖": "∥", "—": "―", "¢": "￠", "£": "￡", "¬": "￢"})


class Encoding(StrEnum):
    """How the file is written: with the mark that Excel needs, without, or for software that knows no Unicode."""

    UTF_8_MARK = "utf-8-bom"
    UTF_8 = "utf-8"
    CP932 = "cp932"


_CODECS = {Encoding.UTF_8_MARK: "utf-8-sig", Encoding.UTF_8: "utf-8", Encoding.CP932: "cp932"}


def safe(text: str) -> str:
    """A cell that a spreadsheet does not take for a formula (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(_FORMULA) else text


async def write(
    file: Path,
    head: Sequence[str],
    rows: AsyncIterable[Sequence[str]],
    encoding: Encoding = Encoding.UTF_8_MARK,
    lacking: Counter[str] | None = None,
) -> int:
    """Writes a new file; how many rows. Raises OSError where it exists.

    A character the encoding lacks becomes `〓`; `lacking` counts them. The file appears under its name when it is
    whole, whatever happens before.
    """
    _refuse_existing(file)
    missing = lacking if lacking is not None else Counter()
    hidden = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    handle = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    count = 0
    try:
        with os.fdopen(handle, "w", encoding=_CODECS[encoding], newline="") as stream:
            sheet = csv.writer(stream)
            sheet.writerow([_fitting(safe(cell), encoding, missing) for cell in head])
            async for row in rows:
                sheet.writerow([_fitting(safe(cell), encoding, missing) for cell in row])
                count += 1
            stream.flush()
            os.fsync(stream.fileno())
        _name(hidden, file)
    finally:
        hidden.unlink(missing_ok=True)
    return count


def _name(hidden: Path, file: Path) -> None:
    """Gives the whole file its name, unless somebody else took it meanwhile."""
    try:
        os.link(hidden, file)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):  # a drive without hard links
            raise
        _refuse_existing(file)
        hidden.rename(file)


def _refuse_existing(file: Path) -> None:
    if file.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))


def _fitting(text: str, encoding: Encoding, missing: Counter[str]) -> str:
    if encoding is not Encoding.CP932 or text.isascii():
        return text
    text = text.translate(_TWINS)
    try:
        codecs.encode(text, "cp932")
    except UnicodeEncodeError:
        lost = [letter for letter in text if not _known(letter)]
        missing.update(lost)
        text = text.translate({ord(letter): GETA for letter in lost})
    return text


def _known(letter: str) -> bool:
    try:
        letter.encode("cp932")
    except UnicodeEncodeError:
        return False
    return True
