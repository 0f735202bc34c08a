"""What mailbot imports: downwards only, and nothing that is not declared."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())

# Where the import has another name than the distribution.
_IMPORTED_AS = {
    "argon2-cffi": "argon2",
    "dkimpy": "dkim",
    "dnspython": "dns",
    "flufl-bounce": "flufl",
    "fonttools": "fontTools",
    "prometheus-client": "prometheus_client",
    "pyspf": "spf",
    "python-multipart": "python_multipart",
}
# Chosen by name at run time, so that no import statement shows it.
_BY_NAME = {
    "aiosqlite": "the driver in SQLite's database URL",
    "psycopg": "the driver in PostgreSQL's database URL",
    "httptools": "uvicorn's parser",
    "pynacl": "dkimpy's Ed25519",
    "python-multipart": "Starlette's forms",
}

_COMES_ALONG = {"pydantic_core"}  # pinned by pydantic itself to its own version


def _declared() -> set[str]:
    return {re.split(r"[\[~<>=! ]", line, maxsplit=1)[0] for line in _PROJECT["project"]["dependencies"]}


def _imported() -> set[str]:
    names = set[str]()
    for path in (_ROOT / "mailbot").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"mailbot"} - _COMES_ALONG


def test_imports_point_down_only() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_import_is_declared_and_every_declaration_imported() -> None:
    modules = {_IMPORTED_AS.get(name, name) for name in _declared()}
    by_name = {_IMPORTED_AS.get(name, name) for name in _BY_NAME}
    assert _imported() - modules == set(), "imported but not declared in pyproject.toml"
    assert modules - by_name - _imported() == set(), "declared in pyproject.toml but never imported"
    assert set(_BY_NAME) <= _declared()


def test_constraints_pin_every_dependency_with_hashes_and_name_no_registry() -> None:
    for file in ("constraints-build.txt", "constraints.txt", "constraints-dev.txt"):
        text = (_ROOT / file).read_text()
        assert "://" not in text
        entries = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
        assert [entry for entry in entries if "==" in entry and "--hash=sha256:" not in entry] == []
    pinned = {line.partition("==")[0] for line in (_ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert _declared() <= pinned


def test_no_society_is_named_in_code() -> None:
    societies = [path.stem for path in (_ROOT / "config/societies").glob("*.toml")]
    assert societies
    named = re.compile(r"\b(" + "|".join(map(re.escape, societies)) + r")\b", re.IGNORECASE)
    found = [
        f"{path.relative_to(_ROOT)}: {match.group()}"
        for path in (_ROOT / "mailbot").rglob("*.py")
        for match in named.finditer(path.read_text("utf-8"))
    ]
    assert found == []
