"""Reads a submitted form: small, text only, whole. Everything else is a refusal, before any work is spent on it."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

MAX_BODY = 64 * 1024
MAX_DISCARDED = 4 * 1024 * 1024
"""A body too large is read so far and forgotten: a browser that is cut off while it sends never sees our answer."""
BODY_SECONDS = 30
"""Longest wait for all of a form."""
MAX_FIELDS = 40
MAX_VALUE = 1024
"""Bytes of one value: more than any name, address or password that can be right."""


class BadForm(StrEnum):
    TOO_LARGE = "too-large"
    NOT_A_FORM = "not-a-form"


async def read_form(request: Request) -> dict[str, str] | BadForm:
    """The fields of an `application/x-www-form-urlencoded` body; the last of several values counts."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return BadForm.NOT_A_FORM
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > MAX_DISCARDED:
        return BadForm.TOO_LARGE
    body, seen = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                seen += len(chunk)
                if seen <= MAX_BODY:
                    body += chunk
                elif seen > MAX_DISCARDED:
                    break
    except (ClientDisconnect, TimeoutError):
        return BadForm.NOT_A_FORM
    return parse(bytes(body)) if seen <= MAX_BODY else BadForm.TOO_LARGE


def parse(body: bytes) -> dict[str, str] | BadForm:
    """Strict UTF-8, which has no lone surrogates; no NUL, which no database column holds."""
    try:
        pairs = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS, separator="&"
        )
    except ValueError:
        return BadForm.NOT_A_FORM
    for name, value in pairs:
        if "\0" in name + value or max(len(name.encode()), len(value.encode())) > MAX_VALUE:
            return BadForm.NOT_A_FORM
    return dict(pairs)
