"""The repository stands alone: no file names a machine's folders, a registry, or what lies beside the checkout."""

import re
import subprocess

from tests.support.documents import REPOSITORY

# In pieces, so that this file does not find itself.
_FOLDERS = "|".join(("wo" + "rk", "fa" + "rm", "home/" + r"\w+", "ro" + "ot"))
_HOSTS = "|".join((r"py" + r"pi\.org", r"python" + r"hosted\.org", "art" + "ifactory", "ne" + "xus"))
FORBIDDEN = {
    "a machine's folder": re.compile(rf"(?<![\w./~<-])/(?:{_FOLDERS})/"),
    "a package registry": re.compile(_HOSTS, re.IGNORECASE),
    "what lies beside the checkout": re.compile(r"\.\./" + "shared"),
}


def _tracked() -> dict[str, str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout.decode()
    names = [name for name in listed.split("\0") if name and (REPOSITORY / name).is_file()]
    return {name: (REPOSITORY / name).read_text("utf-8", "replace") for name in names}


def test_no_tracked_file_says_where_it_was_made() -> None:
    files = _tracked()
    assert len(files) > 200
    found = [
        f"{name}: {what}: {match.group()}"
        for name, text in files.items()
        for what, pattern in FORBIDDEN.items()
        for match in pattern.finditer(text)
    ]
    assert found == []


def test_the_patterns_find_what_they_are_for() -> None:
    examples = {
        "a machine's folder": "cd /wo" + "rk/main",
        "a package registry": "https://files.python" + "hosted.org/x",
        "what lies beside the checkout": "see .." + "/shared/spec",
    }
    assert all(FORBIDDEN[what].search(text) for what, text in examples.items())
    assert not FORBIDDEN["a machine's folder"].search("docs/" + "wo" + "rk/x https://kenpo.example/" + "ho" + "me/")
