"""docs/states.md against functions, enums and columns."""

import importlib
import re
from collections.abc import Iterable

import pytest

from mailbot.credentials import LinkState
from mailbot.delivery.policy import MailState
from mailbot.registration.outcomes import End
from mailbot.store.tables import help_request, member, roster_batch, session, temporary
from tests.support.documents import DOCS, section, table

OUTSIDE = {"new", "gone"}
MACHINES = {
    "Link": {state.value for state in LinkState} - {"unknown"},
    "Journey": {"open", "done", "expired", "died"},
    "Temporary credential": set(str(temporary.c.state.comment).split(" | ")),
    "Member": set(str(member.c.state.comment).split(" | ")),
    "Outgoing mail": {state.value for state in MailState},
    "Help request": set(str(help_request.c.state.comment).split(" | ")),
    "Session": {*str(session.c.scope.comment).split(" | "), "ended"},
    "Roster batch": set(str(roster_batch.c.state.comment).split(" | ")),
    "Key of the ring": {"active", "usable", "compromised", "retired"},
}


def _edges(machine: str) -> set[tuple[str, str]]:
    """The edges of the table; a list of states stands for one edge each."""
    return {
        (start, end)
        for starts, end, *_ in table("states.md", machine)
        for start in (word.strip() for word in starts.split(","))
    }


def _drawn(machine: str) -> set[tuple[str, str]]:
    """The edges of the picture, with the table's words for its begin and end."""
    found = re.findall(r"^ {4}(\S+) --> (\S+?)(?::.*)?$", section("states.md", machine), re.MULTILINE)
    return {
        ("new" if start == "[*]" else start.replace("_", "-"), "gone" if end == "[*]" else end.replace("_", "-"))
        for start, end in found
    }


def _words(edges: Iterable[tuple[str, str]]) -> set[str]:
    return {word for edge in edges for word in edge} - OUTSIDE


@pytest.mark.parametrize("machine", MACHINES)
def test_the_states_are_those_of_the_program(machine: str) -> None:
    assert _words(_edges(machine)) == MACHINES[machine]


@pytest.mark.parametrize("machine", MACHINES)
def test_the_picture_shows_the_edges_of_the_table(machine: str) -> None:
    assert _drawn(machine) ^ _edges(machine) <= {(word, word) for word in MACHINES[machine]}


def test_every_machine_is_held() -> None:
    assert re.findall(r"^## (.+)$", (DOCS / "states.md").read_text("utf-8"), re.MULTILINE) == list(MACHINES)


def test_what_a_browser_is_told_at_the_end_of_a_journey() -> None:
    words = ", ".join(f"`{end.value}`" for end in End)
    assert words in section("states.md", "Journey").replace("\n", " ")


def _names() -> list[str]:
    return sorted(
        {
            name
            for path in DOCS.rglob("*.md")
            for name in re.findall(r"`(mailbot(?:\.\w+)+:[\w.]+)`", path.read_text("utf-8"))
        }
    )


@pytest.mark.parametrize("name", _names())
def test_a_function_named_in_a_document_exists(name: str) -> None:
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    assert callable(found)
