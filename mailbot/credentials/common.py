"""Passwords that everybody tries first (NIST SP 800-63B section 3.1.1.2 asks for a list of them).

`common.txt` holds words and endings; every word with every ending, in front or behind, capitalised or with the usual
signs for letters, is common, and so is a word said twice, one short piece repeated, and a straight run of keys.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

# the signs people put for letters; two readings of 1 and !
_SIGNS = (
    str.maketrans("@430$5!17", "aaeossiit"),
    str.maketrans("@430$5!17", "aaeosslit"),
)
_ROWS = (
    "012345678901234567890",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "q1w2e3r4t5y6u7i8o9p0",
    "1q2w3e4r5t6y7u8i9o0p",
    "!@#$%^&*()",
    "!\"#$%&'()",
    "あいうえおかきくけこさしすせそたちつてとなにぬねの",
)
_LONGEST_PIECE = 3
_SHORTEST_RUN = 4


@lru_cache(maxsize=1)
def _lists() -> tuple[frozenset[str], frozenset[str]]:
    parts: dict[str, set[str]] = {"words": set(), "endings": {""}}
    part = "words"
    for line in (files("mailbot.credentials") / "common.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            part = line.strip("[]")
        elif line and not line.startswith(";"):
            parts[part].update(line.split())
    return frozenset(parts["words"]), frozenset(parts["endings"])


def is_common(text: str) -> bool:
    """Whether a normalised password is one of the common ones."""
    plain = text.casefold()
    readings = {plain, *(plain.translate(signs) for signs in _SIGNS)}
    return _repeats(plain) or _runs(plain) or any(_listed(reading, plain) for reading in readings)


def how_many() -> int:
    """Number of different passwords that words and endings alone make."""
    words, endings = _lists()
    return len({word + ending for word in words for ending in endings})


def _listed(reading: str, plain: str) -> bool:
    """A word in `reading` (signs read as letters) with an ending as it was typed, behind it or in front; or twice."""
    words, endings = _lists()
    return any(
        (reading[:cut] in words and (plain[cut:] in endings or reading[cut:] == reading[:cut]))
        or (reading[cut:] in words and plain[:cut] in endings)
        for cut in range(len(plain) + 1)
    )


def _repeats(plain: str) -> bool:
    """One piece of up to three characters, over and over: aaaaaaaa, abcabcabc."""
    return any(
        len(plain) > piece and (plain[:piece] * (len(plain) // piece + 1)).startswith(plain)
        for piece in range(1, _LONGEST_PIECE + 1)
    )


def _runs(plain: str) -> bool:
    """Made of runs along rows of keys, each of at least four characters: qwertyuiop, abcd1234, 87654321."""
    start = 0
    while start < len(plain):
        size = max(_run(plain[start:], row) for forward in _ROWS for row in (forward, forward[::-1]))
        if size < _SHORTEST_RUN:
            return False
        start += size
    return bool(plain)


def _run(text: str, row: str) -> int:
    """Length of the longest start of `text` that lies in `row`."""
    size = 0
    while size < len(text) and text[: size + 1] in row:
        size += 1
    return size
