"""CSV for spreadsheets: written to a file of one's own (mode 0600), safe to open, whole or not there."""

from __future__ import annotations

import csv
import os
from collections.abc import AsyncIterable, Sequence
from pathlib import Path

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def safe(text: str) -> str:
    """A cell that a spreadsheet does not take for a formula (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(_FORMULA) else text


async def write(file: Path, head: Sequence[str], rows: AsyncIterable[Sequence[str]]) -> int:
    """Writes a new file, UTF-8 with the mark that Excel needs; how many rows. Raises OSError where it exists."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    count = 0
    try:
        with os.fdopen(handle, "w", encoding="utf-8-sig", newline="") as stream:
            sheet = csv.writer(stream)
            sheet.writerow(head)
            async for row in rows:
                sheet.writerow([safe(cell) for cell in row])
                count += 1
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        os.unlink(file)
        raise
    return count
