"""Links between the documents, and the two READMEs, hold together."""

import re
from pathlib import Path

import pytest

from tests.support.documents import DOCS, REPOSITORY

PAGES = [*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md")]
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = [target for target in _LINK.findall(page.read_text("utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target.partition("#")[0]).exists()] == []


def test_every_document_is_linked_from_both_readmes() -> None:
    pages = {f"docs/{page.name}" for page in DOCS.glob("*.md")}
    for name in ("README.md", "README.ja.md"):
        links = set(_LINK.findall((REPOSITORY / name).read_text("utf-8")))
        assert pages - links == set(), name


def test_the_readmes_are_twins() -> None:
    english, japanese = ((REPOSITORY / name).read_text("utf-8") for name in ("README.md", "README.ja.md"))

    def shape(text: str) -> list[str]:
        """Headings by level, the rows of tables, links, and the commands and rooms that are named."""
        levels = re.findall(r"^#+(?= )", text, re.MULTILINE)
        rooms = re.findall(r"^      (\S+)  ", text, re.MULTILINE)
        links = [link for link in _LINK.findall(text) if not link.startswith("README")]
        return [*levels, str(len(re.findall(r"^\|", text, re.MULTILINE))), *rooms, *links]

    assert shape(english) == shape(japanese)


def test_the_rooms_of_the_readme_are_those_of_the_program() -> None:
    text = (REPOSITORY / "README.md").read_text("utf-8")
    named = {name.removesuffix("/") for name in re.findall(r"^      (\S+)  ", text, re.MULTILINE)}
    rooms = {path.name for path in (REPOSITORY / "mailbot").iterdir() if path.is_dir() and path.name[0] != "_"}
    assert named - {"app.py", "dkimkeys.py", "dns.py"} == rooms - {"demo"}
