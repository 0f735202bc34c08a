"""The journey that begins with insurance details: its forms as a browser without scripts fills them in."""

from __future__ import annotations

import re
from hashlib import sha256

from tests.support.member import Member, Page


def solved(page: Page) -> dict[str, str]:
    """What the page's script would have found out for the captcha; nothing where none is asked."""
    boxes = page.tree.xpath("//*[@data-salt]")
    if not boxes:
        return {}
    salt, target, most = (boxes[0].get(f"data-{name}") for name in ("salt", "target", "most"))
    for number in range(int(most)):
        if sha256(f"{salt}{number}".encode()).hexdigest() == target:
            return {"captcha_proof": str(number)}
    raise AssertionError("no number fits")


def details(row: dict[str, str], address: str) -> dict[str, str]:
    """The form for a person on the roster."""
    year, month, day = row["生年月日"].split("-")
    return {
        "address": address,
        "symbol": row["記号"],
        "number": row["番号"],
        "birth_date_year": year,
        "birth_date_month": str(int(month)),
        "birth_date_day": str(int(day)),
    }


async def prove(member: Member, page: Page, row: dict[str, str], address: str, **other: str) -> Page:
    """Sends the form of the insurance details; `other`: fields that differ."""
    return await member.submit(page, {**details(row, address), **other, **solved(page)})


def key_on(page: Page) -> str:
    """The number to note down."""
    (text,) = page.tree.xpath("//*[contains(@class,'key')]")
    found = re.fullmatch(r"\d{4}", "".join(text.text_content().split()))
    assert found is not None, page.text
    return found[0]


def wrong_key(key: str) -> str:
    return f"{(int(key) + 1) % 10_000:04}"
