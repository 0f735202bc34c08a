"""What a chosen password or login ID must look like, checked and explained from one rule object.

The rules themselves are a society's data (`mailbot.config.society`). A problem is a code with its numbers; `sentence`
and `describe` say it to members in Japanese, so that the list before the fields and the error behind them agree.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits
from typing import Any

from mailbot.config.society import ASCII_PUNCTUATION, LoginIdRule, PasswordRule

from .common import is_common
from .passwords import MAX_BYTES, PasswordTooLong, canonical
from .temporary import Format

# a fact with fewer than this many other characters around it is no password
_OWN_CHARACTERS = 4
_SHORTEST_FACT = 3
_SEPARATORS = re.compile(r"[\s\-/._:,]")

_CLASSES = {
    "lower": ("英小文字", ascii_lowercase),
    "upper": ("英大文字", ascii_uppercase),
    "digit": ("数字", digits),
    "symbol": ("記号", ASCII_PUNCTUATION),
}
_ALPHABET_WORDS = {"digits": "数字", "easy": "英小文字と数字", "letters": "英字"}


class Code(StrEnum):
    """Stable names of what can be wrong."""

    EMPTY = "empty"
    TOO_SHORT = "too-short"
    TOO_LONG = "too-long"
    CHARACTERS = "characters"
    MISSING = "missing"
    COMMON = "common"
    PERSONAL = "personal"
    DIGIT_POSITION = "digit-position"
    TEMPORARY_SHAPE = "temporary-shape"
    TAKEN = "taken"


class Fact(StrEnum):
    """What somebody who knows the member would try first; the value is how pages name it."""

    LOGIN_ID = "ログインID"
    NUMBER = "記号・番号"
    BIRTH_DATE = "生年月日"
    ADDRESS = "メールアドレス"
    SOCIETY = "健康保険組合の名前"
    PREVIOUS = "これまでのパスワード"


@dataclass(frozen=True)
class Problem:
    """A code and the facts its sentence needs. `params` never holds the whole input."""

    code: Code
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What is known about the person who chooses. Absent facts are simply not compared.

    `numbers`: symbol, number and both together; `societies`: name, service name, id and other words of the society;
    `previous`: the password that is being replaced, the printed one included.
    """

    login_ids: tuple[str, ...] = field(default=(), repr=False)
    numbers: tuple[str, ...] = field(default=(), repr=False)
    birth_date: date | None = field(default=None, repr=False)
    addresses: tuple[str, ...] = field(default=(), repr=False)
    societies: tuple[str, ...] = ()
    previous: str | None = field(default=None, repr=False)


NOBODY = Context()


def normalised(text: str) -> str:
    """The text as it counts: NFKC. Where it differs from what was typed, pages tell the member so."""
    return unicodedata.normalize("NFKC", text)


# --- passwords ------------------------------------------------------------------------------------------------------


def problems(rule: PasswordRule, text: str, context: Context = NOBODY) -> list[Problem]:
    """Everything wrong with a new password, in the order a member can mend it; empty when it may be taken."""
    try:
        plain = canonical(text).decode("utf-8", "surrogatepass")
    except PasswordTooLong:
        return [Problem(Code.TOO_LONG, {"max": min(rule.max_length, MAX_BYTES), "length": len(text)})]
    if not plain:
        return [Problem(Code.EMPTY)]
    found = list(_length(rule.min_length, rule.max_length, plain))
    if rule.allowed_characters is None:
        refused = [letter for letter in plain if not (letter.isprintable() or unicodedata.category(letter) == "Zs")]
    else:
        refused = [letter for letter in plain if letter not in ascii_letters + digits + rule.allowed_characters]
    if refused:
        found.append(Problem(Code.CHARACTERS, {"characters": tuple(dict.fromkeys(refused))[:5]}))
    missing = [name for name in rule.require if not any(letter in _members(rule, name) for letter in plain)]
    found += [Problem(Code.MISSING, {"class": name, "symbols": rule.allowed_characters}) for name in missing]
    if is_common(plain):
        found.append(Problem(Code.COMMON))
    if (fact := _personal(plain, context)) is not None:
        found.append(Problem(Code.PERSONAL, {"fact": fact}))
    return found


def describe(rule: PasswordRule, label: str) -> list[str]:
    """The rules as a list to stand before the fields."""
    lines = [f"{label}は、{rule.min_length}文字以上で決めてください（{rule.max_length}文字まで）。"]
    if rule.require:
        each = "それぞれ" if len(rule.require) > 1 else ""
        lines.append(f"{_listed([_CLASSES[name][0] for name in rule.require])}を、{each}1文字以上入れてください。")
    lines.append(
        _characters_line(rule.allowed_characters, "空白やかなも使えます。文字の種類は自由です。", bool(rule.require))
    )
    lines.append("よく使われるパスワード（password1、12345678など）と、いままでのパスワードは使えません。")
    facts = "、".join(fact for fact in Fact if fact is not Fact.PREVIOUS)
    lines.append(f"{facts}や、それに{_OWN_CHARACTERS - 1}文字までを足しただけのものは使えません。")
    return lines


def _members(rule: PasswordRule, name: str) -> str:
    """The characters of a class; a society that names its signs counts only those."""
    if name == "symbol" and rule.allowed_characters is not None:
        return rule.allowed_characters
    return _CLASSES[name][1]


def _personal(plain: str, context: Context) -> Fact | None:
    squeezed = _squeezed(plain)
    if context.previous is not None and plain == normalised(context.previous):
        return Fact.PREVIOUS
    for fact, value in _facts(context):
        known = _squeezed(value)
        if len(known) >= _SHORTEST_FACT and known in squeezed:
            rest = len(_SEPARATORS.sub("", plain)) - len(known) * squeezed.count(known)
            if rest < _OWN_CHARACTERS:
                return fact
    return None


def _facts(context: Context) -> Iterator[tuple[Fact, str]]:
    yield from ((Fact.LOGIN_ID, value) for value in context.login_ids)
    if context.birth_date is not None:
        yield from ((Fact.BIRTH_DATE, value) for value in birth_date_forms(context.birth_date))
    yield from ((Fact.NUMBER, value) for value in context.numbers)
    for address in context.addresses:
        yield Fact.ADDRESS, address
        yield Fact.ADDRESS, address.rpartition("@")[0]
    yield from ((Fact.SOCIETY, value) for value in context.societies)


# era letter, name and first year; a form of the era before its first day is typed by nobody and does no harm
_ERAS = (("r", "令和", 2019), ("h", "平成", 1989), ("s", "昭和", 1926), ("t", "大正", 1912))


def birth_date_forms(day: date) -> list[str]:
    """The ways a birth date is typed, without separators: 19800102, 800102, 01021980, s550102, 昭和55年1月2日 …"""
    tails = (f"{day.month:02}{day.day:02}", f"{day.month}{day.day}", f"{day.month}月{day.day}日")
    turned = (f"{day.day:02}{day.month:02}", f"{day.day}{day.month}")
    eras = [(letter, name, day.year - first + 1) for letter, name, first in _ERAS if day.year >= first]
    years = [f"{day.year:04}", f"{day.year % 100:02}", f"{day.year}年"]
    for letter, name, count in eras:
        years += [f"{letter}{count}", f"{letter}{count:02}", f"{count:02}", f"{name}{count}", f"{name}{count}年"]
    forms = [year + tail for year in years for tail in tails]
    forms += [tail + year for year in years[:2] for tail in (*tails[:2], *turned)]
    return sorted({*forms, tails[0]}, key=lambda form: (-len(form), form))


def _squeezed(text: str) -> str:
    """Letters and digits only, without case: 1980-01-02 and 19800102 are the same guess."""
    return "".join(letter for letter in normalised(text).casefold() if letter.isalnum())


# --- login IDs ------------------------------------------------------------------------------------------------------


def login_id_problems(
    rule: LoginIdRule, text: str, reserved: tuple[Format, ...] = (), printed: str | None = None
) -> list[Problem]:
    """Everything wrong with a chosen login ID; whether another member has it is for the caller (`Code.TAKEN`).

    `reserved`: formats of generated temporary IDs, which a chosen ID must not look like; `printed`: the member's own
    temporary ID, which may be kept where the rule says so.
    """
    if len(text) > MAX_BYTES:
        return [Problem(Code.TOO_LONG, {"max": rule.max_length, "length": len(text)})]
    plain = login_id_text(text)
    if not plain:
        return [Problem(Code.EMPTY)]
    found = list(_length(rule.min_length, rule.max_length, plain))
    allowed = ascii_letters + digits + _punctuation(rule.allowed_characters)
    refused = dict.fromkeys(letter for letter in plain if letter not in allowed)
    if refused:
        found.append(Problem(Code.CHARACTERS, {"characters": tuple(refused)[:5]}))
    if rule.digit_free is not None and len(plain) == rule.digit_free.length:
        positions = rule.digit_free.positions
        if any(plain[position - 1].isdecimal() for position in positions if position <= len(plain)):
            found.append(Problem(Code.DIGIT_POSITION, {"positions": positions}))
    kept = rule.keep_printed and printed is not None and fold(plain) == fold(printed)
    shape = next((fmt for fmt in reserved if fmt.fits(plain) or (not fmt.cased and fmt.fits(plain.lower()))), None)
    if shape is not None and not kept:
        found.append(Problem(Code.TEMPORARY_SHAPE, {"format": shape}))
    return found


def describe_login_id(rule: LoginIdRule, label: str, reserved: tuple[Format, ...] = ()) -> list[str]:
    """The rules as a list to stand before the field."""
    lines = [
        f"{label}は、{rule.min_length}文字以上{rule.max_length}文字以内で決めてください。",
        _characters_line(_punctuation(rule.allowed_characters), "", True),
        "大文字と小文字は区別しません。ほかの方と同じもの、見分けにくいものは使えません。",
    ]
    if rule.digit_free is not None:
        where = _listed([f"{position}文字目" for position in rule.digit_free.positions])
        lines.append(f"{rule.digit_free.length}文字にするときは、{where}に数字を使えません。")
    if reserved:
        shapes = _listed([_shape(fmt) for fmt in reserved])
        kept = "（お知らせのIDを、そのまま使うことはできます）" if rule.keep_printed else ""
        lines.append(f"お知らせのIDと同じ形（{shapes}）のものは選べません{kept}。")
    return lines


def login_id_text(text: str) -> str:
    """A login ID as it is kept and shown: NFKC, no blanks around it. Cut to 1024 characters before any work."""
    return normalised(text[:MAX_BYTES]).strip()


# characters that are read for each other, and what Japanese keyboards write for a hyphen
_LOOK_ALIKES = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l", "!": "l", "‐": "-", "ー": "-", "−": "-"})


def fold(login_id: str) -> str:
    """The key under which login IDs are unique and found: Taro, taro and ＴＡＲ０ are one; digits stay apart."""
    return login_id_text(login_id).casefold().translate(_LOOK_ALIKES)


# --- words ----------------------------------------------------------------------------------------------------------


def sentence(problem: Problem, label: str) -> str:
    """The problem as a sentence for the member; `label` is the field's own label."""
    p = problem.params
    match problem.code:
        case Code.EMPTY:
            return f"{label}を入力してください。"
        case Code.TOO_SHORT:
            return f"{label}は、{p['min']}文字以上で入力してください。いま{p['length']}文字です。"
        case Code.TOO_LONG:
            return f"{label}は、{p['max']}文字以内で入力してください。いま{p['length']}文字です。"
        case Code.CHARACTERS:
            shown = "".join(f"「{_shown(letter)}」" for letter in p["characters"])
            return f"{label}に、{shown}は使えません。"
        case Code.MISSING:
            symbols = p.get("symbols")
            which = f"（{' '.join(symbols)} のどれか）" if p["class"] == "symbol" and symbols else ""
            return f"{label}に、{_CLASSES[p['class']][0]}を1文字以上入れてください{which}。"
        case Code.COMMON:
            return "よく使われるパスワードのため、登録できません。別の言葉を組み合わせてください。"
        case Code.PERSONAL:
            if p["fact"] is Fact.PREVIOUS:
                return "いままでと違うパスワードを入力してください。"
            return f"{p['fact']}から分かるパスワードは使えません。別の言葉を組み合わせてください。"
        case Code.DIGIT_POSITION:
            where = _listed([f"{position}文字目" for position in p["positions"]])
            return f"{label}の{where}には、数字を使えません。"
        case Code.TEMPORARY_SHAPE:
            return f"{label}に、お知らせのIDと同じ形（{_shape(p['format'])}）は使えません。別のIDにしてください。"
        case Code.TAKEN:
            return f"その{label}は、ほかの方が使っています。数字を足すなど、別のIDにしてください。"


def _length(shortest: int, longest: int, plain: str) -> Iterator[Problem]:
    if len(plain) < shortest:
        yield Problem(Code.TOO_SHORT, {"min": shortest, "length": len(plain)})
    if len(plain) > longest:
        yield Problem(Code.TOO_LONG, {"max": longest, "length": len(plain)})


def _punctuation(allowed: str | None) -> str:
    return ASCII_PUNCTUATION if allowed is None else allowed


def _characters_line(allowed: str | None, free: str, plain: bool) -> str:
    if allowed is None:
        return "空白やかなも使えます。" if plain else free
    signs = f"、次の記号です： {' '.join(allowed)}" if allowed else "です"
    return f"使える文字は、半角の英字（a–z、A–Z）、数字{signs}"


def _listed(words: list[str]) -> str:
    return "と".join(words) if len(words) < 3 else "、".join(words)


def _shape(fmt: Format) -> str:
    return f"{_ALPHABET_WORDS[fmt.alphabet]}{fmt.length}文字"


_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _shown(letter: str) -> str:
    if letter.isspace() and not _CONTROLS.match(letter):
        return "空白"
    return letter if letter.isprintable() else "見えない文字"
