"""Facts of a member as text that cannot do harm in a mail, whatever somebody typed once."""

from __future__ import annotations

import re
import time

from mailbot.config.carriers import MAX_STEP, MAX_STEPS
from mailbot.letters.kinds import MAX_CODE, MAX_TEXT, Fact, FactKind
from mailbot.mail.compose import JAPAN_SECONDS

_WEEKDAYS = "月火水木金土日"
# Never the first character after a cut: joiners, variation selectors, accents, voiced-sound marks, skin tones.
_JOINED = re.compile("[\u200d\ufe0e\ufe0f\u0300-\u036f\u3099\u309a\U0001f3fb-\U0001f3ff]").match
_SAFE_URL = re.compile(r"https?://[!-~]*[0-9a-z]").fullmatch


class LetterError(ValueError):
    """A letter that cannot be rendered. Names letter and fact, never a value."""


def show(name: str, fact: Fact, value: str | int | None, home: str) -> str:
    """The fact as it stands in the mail. `home`: what every URL of the society starts with. Raises LetterError."""
    if value is None or value == "":
        if fact.default is None:
            raise LetterError(f"fact {name} is missing")
        return fact.default
    match fact.kind:
        case FactKind.TIME if isinstance(value, int):
            return moment(value)
        case FactKind.DATE if isinstance(value, int):
            return day(value)
        case FactKind.URL if isinstance(value, str) and value.startswith(home) and _SAFE_URL(value):
            return value
        case FactKind.TEXT if isinstance(value, str):
            return clean(value, MAX_TEXT) or fact.default or ""
        case FactKind.CODE if isinstance(value, str) and len(value) <= MAX_CODE:
            return clean(value, MAX_CODE)
        case FactKind.LINES if isinstance(value, str):
            return "\n".join(clean(line, MAX_STEP) for line in value.split("\n")[:MAX_STEPS])
    raise LetterError(f"fact {name} is not a {fact.kind.value}")


def clean(text: str, longest: int) -> str:
    """One line of at most `longest` characters, without control or invisible characters, and nothing a phone links.

    Full-width signs stand for `://`: they read the same and fold back to it where an ID is typed from the mail.
    """
    if not text.isprintable():
        text = " ".join("".join(c if c.isprintable() or c == "\u200d" else " " for c in text).split())
    text = text.strip(" \u200d").replace("://", "：／／")
    if len(text) <= longest:
        return text
    end = longest - 1
    while end > longest // 2 and (_JOINED(text, end) or text[end - 1] == "\u200d"):
        end -= 1
    return text[:end].rstrip() + "…"


def moment(at: int) -> str:
    """2026年11月20日（金）15時42分, in Japanese time. `at` in milliseconds since the epoch."""
    t = time.gmtime(at // 1000 + JAPAN_SECONDS)
    return f"{t[0]}年{t[1]}月{t[2]}日（{_WEEKDAYS[t[6]]}）{t[3]}時{t[4]:02}分"


def day(at: int) -> str:
    """2026年11月20日（金）, in Japanese time."""
    t = time.gmtime(at // 1000 + JAPAN_SECONDS)
    return f"{t[0]}年{t[1]}月{t[2]}日（{_WEEKDAYS[t[6]]}）"
