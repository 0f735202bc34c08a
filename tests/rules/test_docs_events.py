"""docs/events.md against every `emit` in the program."""

import ast
from collections.abc import Iterator

from mailbot import telemetry
from mailbot.intake.budgets import ALARMS, SILENT
from mailbot.store.alarms import Alarm
from tests.support.documents import REPOSITORY, table


def _calls(name: str) -> Iterator[ast.Call]:
    for path in (REPOSITORY / "mailbot").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and name in (getattr(node.func, "id", ""), getattr(node.func, "attr", "")):
                yield node


def _texts(node: ast.expr) -> Iterator[str]:
    """The values an argument may have: a literal, or one of two."""
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    else:
        assert isinstance(node, ast.Constant), f"line {node.lineno}: an event's name is a literal"
        yield str(node.value)


def test_every_event_is_listed_once() -> None:
    emitted = {text for call in _calls("emit") for text in _texts(call.args[0])}
    listed = [row[0] for row in table("events.md", "The list")]
    assert sorted(listed) == sorted(emitted)


def test_the_level_is_the_one_it_is_written_at() -> None:
    levels: dict[str, set[str]] = {}
    for call in _calls("emit"):
        error = any(keyword.arg == "error" for keyword in call.keywords)
        for text in _texts(call.args[0]):
            levels.setdefault(text, set()).add("error" if error else "debug" if text in telemetry._QUIET else "info")
    expected = {name: " or ".join(sorted(found, reverse=True)) for name, found in levels.items()}
    assert {name: level for name, level, *_ in table("events.md", "The list")} == expected


def test_every_alarm_is_listed_with_what_to_do() -> None:
    rows = table("events.md", "Alarms")
    assert [name for name, *_ in rows] == [alarm.value for alarm in Alarm]
    assert all(len(row) == 3 and all(words.endswith(".") for words in row[1:]) for row in rows)


def test_every_alarm_is_raised_somewhere() -> None:
    used = {
        node.attr
        for path in (REPOSITORY / "mailbot").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Alarm"
    }
    assert used == {alarm.name for alarm in Alarm}


def test_whatever_puts_a_mail_off_has_its_alarm() -> None:
    """Budgets of the way in: silent, or with an alarm; of the latter none is called otherwise than its budget."""
    assert {f"budget-{scope}" for scope in ALARMS} == {alarm.value for alarm in ALARMS.values()}
    assert not SILENT & set(ALARMS)
