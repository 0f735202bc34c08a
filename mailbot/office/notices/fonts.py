"""Which characters the notice can print. What it cannot is told before anything is printed, never printed as a box."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import typst

from mailbot import resources

FAMILIES = ("BIZ UDGothic", "Noto Sans JP")
"""Those that come with mailbot, the one that is asked first in front."""
SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")

# Nothing of these is ever drawn: line ends, zero-width marks, and the byte-order mark.
_UNSEEN = frozenset("\n\u200b\u200c\u200d\u2060\ufeff")
_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))


@dataclass(frozen=True)
class Typeface:
    """The fonts of a run, in the order in which they are asked for a character."""

    files: tuple[Path, ...]
    families: tuple[str, ...]
    characters: frozenset[int]
    variants: frozenset[tuple[int, int]]
    """(character, variation selector) pairs: forms of a kanji that a font tells apart (Unicode Technical Standard
    37)."""

    def missing(self, text: str) -> list[str]:
        """What cannot be printed, each once: a character, or one with its variation selector."""
        found: dict[str, None] = {}
        for place, letter in enumerate(text):
            code = ord(letter)
            if any(code in selectors for selectors in _SELECTORS):
                base = text[place - 1 : place]
                if not base or (ord(base), code) not in self.variants:
                    found[base + letter] = None
            elif code not in self.characters and letter not in _UNSEEN:
                found[letter] = None
        return list(found)


def described(missing: Iterable[str]) -> str:
    """`𠮷（U+20BB7）、…` for a sentence."""
    return "、".join(f"{text}（{' '.join(f'U+{ord(letter):04X}' for letter in text)}）" for text in missing)


def typeface(further: Path) -> Typeface:
    """The fonts that come with mailbot and those of the folder `further` (`Path()`: none). Raises OSError, or
    ValueError in words."""
    files = font_files(resources.folder("templates") / "notice" / "fonts")
    if further != Path():
        if not further.is_dir():
            raise ValueError(f"site.fonts: {further} is no folder")
        files += font_files(further)
    return _typeface(files)


def font_files(folder: Path) -> tuple[Path, ...]:
    """Font files of a folder, by name."""
    return tuple(sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES))


@cache
def _typeface(files: tuple[Path, ...]) -> Typeface:
    """Reads the character maps: a tenth of a second, once in a process."""
    # not at the top: it would cost each command of any kind as much
    from fontTools.ttLib import TTFont

    families: dict[str, None] = dict.fromkeys(FAMILIES)
    characters: set[int] = set()
    variants: set[tuple[int, int]] = set()
    for info in _fonts(files):
        families[info.family] = None
        assert info.path is not None
        with TTFont(info.path, fontNumber=info.index, lazy=True) as font:
            characters.update(font.getBestCmap() or ())
            for table in font["cmap"].tables:
                if table.format == 14:  # {selector: [(character, glyph or None for the usual one)]}
                    variants.update((code, mark) for mark, pairs in table.uvsDict.items() for code, _ in pairs)
    return Typeface(files, tuple(families), frozenset(characters), frozenset(variants))


def _fonts(files: Sequence[Path]) -> list[typst.FontInfo]:
    folders = sorted({str(file.parent) for file in files})
    known = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=list(folders))
    return [info for info in known.fonts() if info.path is not None]
