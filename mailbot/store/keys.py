"""Many rows by their keys, in a way both databases find by index.

`(a, b) IN (VALUES …)` reads a whole table on SQLite, or all of a society's rows, of which it expects few: no matter in
a small database, a quarter of a second a batch with 100,000 members. One list a column is found by index; what it finds
beyond the keys that were asked for is the caller's to pass by.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, bindparam


def among(*columns: Column[Any]) -> ColumnElement[bool]:
    """Rows in which each column holds a value that one of the keys has in its place; run it with `values(keys)`."""
    return and_(*(column.in_(bindparam(f"key_{place}", expanding=True)) for place, column in enumerate(columns)))


def values(keys: Collection[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """The parameters of `among` for these keys, of which there must be one."""
    return {f"key_{place}": list(dict.fromkeys(column)) for place, column in enumerate(zip(*keys, strict=True))}
