"""One statement for many rows without SQLAlchemy's work per row: its text is made once, the driver gets the values.

For the statements of the hot path (`make bench ARGS=--profile` shows that work). Only for columns whose values need no
conversion: text, bytes, integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Insert, Update
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncConnection


class Bulk:
    """An INSERT or UPDATE with named parameters. Lifetime: the module's."""

    def __init__(self, **statements: Insert | Update) -> None:
        """`any=` for both databases, or `sqlite=` and `postgresql=` where they differ."""
        self._statements = statements
        self._texts: dict[tuple[str, tuple[str, ...]], tuple[str, Any]] = {}

    async def run(self, tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> CursorResult[Any]:
        """Executes the statement for every row; all rows have the same keys."""
        dialect = tx.dialect
        key = dialect.name, tuple(rows[0])
        if key not in self._texts:
            statement = self._statements.get("any", self._statements.get(dialect.name))
            assert statement is not None
            compiled: Any = statement.compile(dialect=dialect, column_keys=list(rows[0]))
            shape = itemgetter(*compiled.positiontup) if compiled.positional else dict
            self._texts[key] = str(compiled), shape
        text, shape = self._texts[key]
        return await tx.exec_driver_sql(text, [shape(row) for row in rows])
