"""First credentials nobody prints: a login ID that follows from symbol and number, and the birth date as password.

Both can be guessed. So a try is counted before it is looked at, for the login ID (whether anybody has it or not) and
for the network, and a society where too many accounts see wrong tries closes this way in until the next day in Japan.
What cannot be right whoever typed it (no such ID, no birth date) is no try.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import ratelimit
from mailbot.config import Formula, Society
from mailbot.credentials import KeyRing
from mailbot.ratelimit import Hit, Limits
from mailbot.store import new_id
from mailbot.store.alarms import Alarm, raise_alarm
from mailbot.store.tables import budget, member

from . import people, words
from .context import Context
from .outcomes import Refused
from .people import Person

INSURED = frozenset(("本人", "被保険者", "被保険者本人"))
"""What a roster's column 続柄 says of somebody who is insured in their own right."""
MIN_ACCOUNTS = 10
"""The way in does not close while no more accounts than these saw wrong tries: members mistype too."""
_FIRST_YEAR = 1880
_PART = re.compile(r"\{(symbol|number):([1-9])\}")
_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})", re.ASCII)
_SEPARATORS = re.compile(r"[\s\-/.年月日\u00ad\u2010-\u2015\u2212\u30fc\uff70\u200b-\u200f\u2060\ufeff]+")
_NOBODY = Person(relation="本人", kana="ヤマダハナコ", birth_date="1970-01-01")


# --- login IDs --------------------------------------------------------------------------------------------------------


def login_id(formula: Formula, symbol: str, number: str) -> str | None:
    """The ID of this symbol and number; None where they do not fit the formula."""
    text = formula.login_id
    for name, width in _PART.findall(text):
        digits = people.folded_number(symbol if name == "symbol" else number)
        if not (digits.isascii() and digits.isdigit()) or len(digits) > int(width):
            return None
        text = text.replace(f"{{{name}:{width}}}", digits.zfill(int(width)))
    return text


def hint(formula: Formula) -> tuple[str, str]:
    """How somebody makes their login ID, and their first password, in words."""
    widths = {name: int(width) for name, width in _PART.findall(formula.login_id)}
    symbol, number = "91"[: widths["symbol"]], "200001"[: widths["number"]]
    prefix, _, _ = formula.login_id.partition("{")
    return (
        f"はじめての被保険者ご本人は、{f'「{prefix}」のあとに、' if prefix else ''}保険証の記号{widths['symbol']}けたと"
        f"番号{widths['number']}けたを続けて入力してください。けたが足りないときは、前に0を付けます。"
        f"例：記号{symbol}、番号{number}の方は {login_id(formula, symbol, number)}",
        "はじめての被保険者ご本人のパスワードは、生年月日8けたです。例：2000年1月21日生まれの方は 20000121",
    )


def read(formula: Formula, typed: str) -> tuple[str, str] | None:
    """(symbol, number) of an ID typed by anybody: width, blanks, hyphens and case do not count."""
    found = _pattern(formula.login_id).fullmatch(people.folded_printed_id(typed))
    return (found["symbol"], found["number"]) if found else None


def spelled(society: Society, typed: str) -> str:
    """What was typed as the formula spells it, where it is such an ID; else as typed."""
    if society.formula is None or (parts := read(society.formula, typed)) is None:
        return typed
    return login_id(society.formula, *parts) or typed


def login_key(ring: KeyRing, society: Society, typed: str) -> str:
    """`member.login_key` of what was typed. Of a formula's ID, which tells symbol and number, it is a keyed hash: its
    capital begins no other key, for those are folded to small letters (`people.login_key`)."""
    parts = read(society.formula, typed) if society.formula is not None else None
    if parts is None:
        return people.login_key(typed)
    return f"F:{ring.index('formula-login', society.id, *map(people.folded_number, parts)).hex()}"


def shown_id(ring: KeyRing, society: Society, member_id: int, kind: str, kept: str | None, sealed: bytes) -> str:
    """A member's login ID for people to read, from `login_kind`, `login_id` and `sealed` of the row: a formula's is
    kept nowhere, it follows from what the roster says. Empty where there is none. Raises SealBroken."""
    if kind != "formula":
        return kept or ""
    if society.formula is None:
        return ""
    person = people.open_person(ring, sealed, society.id, member_id)
    return login_id(society.formula, person.symbol, person.number) or ""


@lru_cache
def _pattern(template: str) -> re.Pattern[str]:
    prefix, _, _ = template.partition("{")
    parts = "".join(f"(?P<{name}>[0-9]{{{width}}})" for name, width in _PART.findall(template))
    return re.compile(re.escape(people.folded_printed_id(prefix)) + parts)


def born(typed: str, now: int) -> date | None:
    """The birth date of a typed password, YYYYMMDD in any width; None where it can be nobody's."""
    found = _DATE.fullmatch(_SEPARATORS.sub("", unicodedata.normalize("NFKC", typed[: people.MAX_TYPED])))
    try:
        day = date(*map(int, found.groups())) if found else None
    except ValueError:
        return None
    return day if day and day.year >= _FIRST_YEAR and day.isoformat() <= people.today(now) else None


def first_password(person: Person) -> str | None:
    """What the birth date makes."""
    return person.birth_date.replace("-", "") or None


# --- the proof --------------------------------------------------------------------------------------------------------


async def prove(
    ctx: Context,
    tx: AsyncConnection,
    society: Society,
    formula: Formula,
    form: Mapping[str, str],
    network: str,
    now: int,
) -> int | Refused:
    """The member behind `login_id` and `password` (and `kana`, where asked); whatever is wrong is one sentence."""
    wrong = Refused.whole(words.wrong_login(society))
    parts = read(formula, form.get("login_id", ""))
    day = born(form.get("password", ""), now)
    if parts is None or day is None:
        return wrong
    if await is_closed(tx, society, now):
        return Refused.whole(closed_words(now))
    account = _account(ctx, society, parts, now)
    at_account = Hit(society.id, "formula", account, Limits(day=formula.tries_a_day))
    at_network = Hit(society.id, "formula-network", network, Limits(hour=formula.network_an_hour))
    ledger = await ratelimit.Ledger.lock(tx, [at_account.key, at_network.key], now)
    if ledger.allow([at_network]) is not None:
        return Refused.whole(words.too_often(ledger.again_at(at_network), now), 429)
    allowed = ledger.allow([at_account]) is None
    await ledger.save(tx)
    kana = people.folded_kana(form.get("kana", "")) if formula.ask_kana else None
    known, right = await _look(ctx, tx, society, parts, day, kana, now)
    if allowed and right is not None:
        await ratelimit.forgive(tx, [at_account, at_network])
        return right
    await _failed(tx, society, formula, account, known, now)
    return wrong


async def forget_tries(ctx: Context, tx: AsyncConnection, society: Society, person: Person, now: int) -> bool:
    """Staff have checked the person: today's wrong tries at the person's ID are forgotten; whether there were any.

    They still count where the way in closes for everybody.
    """
    if (formula := society.formula) is None:
        return False
    text = login_id(formula, person.symbol, person.number)
    parts = read(formula, text) if text else None
    if parts is None:
        return False
    c = budget.c
    mine = (c.society == society.id, c.scope == "formula", c.subject == _account(ctx, society, parts, now))
    tried = await tx.scalar(select(c.day_count).where(*mine))
    await ratelimit.refund(tx, society.id, "formula", _account(ctx, society, parts, now))
    return bool(tried)


def _account(ctx: Context, society: Society, parts: tuple[str, str], now: int) -> str:
    """Subject of a budget: an ID on one day in Japan."""
    return f"{people.today(now)}|{ctx.ring.index('formula', society.id, *parts).hex()}"


async def _look(
    ctx: Context,
    tx: AsyncConnection,
    society: Society,
    parts: tuple[str, str],
    day: date,
    kana: str | None,
    now: int,
) -> tuple[bool, int | None]:
    """(whether the ID is somebody's who has still to register, whom everything typed fits)."""
    c = member.c
    index = people.number_index(ctx.ring, society.id, *parts)
    statement = select(c.id, c.state, c.sealed, c.left_on).where(c.society == society.id, c.number_index == index)
    rows = list(await tx.execute(statement))
    if not rows:  # nobody costs what somebody costs
        nobody = new_id()
        sealed = people.seal_person(ctx.ring, _NOBODY, society.id, nobody, now)
        people.open_person(ctx.ring, sealed, society.id, nobody)
    known, fitting = False, []
    for row in rows:
        person = people.open_person(ctx.ring, row.sealed, society.id, row.id)
        if unicodedata.normalize("NFKC", person.relation).strip() not in INSURED:
            continue
        if row.state != "invited" or people.has_left(society, row.left_on, now):
            continue
        known = True
        fits = hmac.compare_digest(person.birth_date, day.isoformat())
        if kana is not None:
            fits &= hmac.compare_digest(people.folded_kana(person.kana).encode(), kana.encode())
        if fits:
            fitting.append(int(row.id))
    return known, fitting[0] if len(fitting) == 1 else None


async def _failed(
    tx: AsyncConnection, society: Society, formula: Formula, account: str, known: bool, now: int
) -> None:
    """Notes whose account saw a wrong try today, and closes the way in when there are too many."""
    today = people.today(now)
    scope = "formula-known" if known else "formula-other"
    await ratelimit.hit(tx, [Hit(society.id, scope, account, Limits())], now)
    c = budget.c
    accounts = await tx.scalar(
        select(func.count()).where(
            c.society == society.id, c.scope == "formula-known", c.subject.startswith(f"{today}|", autoescape=True)
        )
    )
    if (accounts or 0) <= MIN_ACCOUNTS:
        return
    everybody = await tx.scalar(
        select(func.count()).where(member.c.society == society.id, member.c.left_on.is_(None))
    )
    if (accounts or 0) * 1000 > (everybody or 0) * formula.close_per_mille:
        await ratelimit.hit(tx, [Hit(society.id, "formula-closed", today, Limits())], now)
        text = f"{accounts} of {everybody} accounts saw wrong birth dates on {today}: no first login until midnight"
        await raise_alarm(tx, society.id, Alarm.FORMULA_LOGIN_CLOSED, text, now)


async def is_closed(tx: AsyncConnection, society: Society, now: int) -> bool:
    """Whether too many accounts saw wrong tries today."""
    c = budget.c
    statement = select(c.subject).where(
        c.society == society.id, c.scope == "formula-closed", c.subject == people.today(now)
    )
    return society.formula is not None and (await tx.execute(statement)).first() is not None


def closed_words(now: int) -> str:
    """Says so, until when, and what still works."""
    midnight = datetime.combine(date.fromisoformat(people.today(now)) + timedelta(days=1), datetime.min.time(), UTC)
    again = words.clock(int(midnight.timestamp() * 1000) - 9 * 3_600_000, now)
    return (
        "生年月日によるはじめてのログインは、安全のため、今日は止めています。"
        f"{again}から、もう一度お試しください。お急ぎの方は、このページの下の「お困りのときは」へご連絡ください。"
        "登録がお済みの方は、ご自分で決めたパスワードでログインできます。"
    )
