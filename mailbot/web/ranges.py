"""Answers a request for a part of a body: browsers of iPhones play no sound without (RFC 9110 section 14.2)."""

from __future__ import annotations

import re

from starlette.responses import Response

_RANGE = re.compile(r"bytes=([0-9]{1,9})-([0-9]{0,9})", re.ASCII)


def ranged(body: bytes, media_type: str, wanted: str) -> Response:
    """206 for one range from a first byte, 416 for one beyond the end, else 200 with everything."""
    headers = {"Accept-Ranges": "bytes"}
    found = _RANGE.fullmatch(wanted.strip())
    if found is None:
        return Response(body, media_type=media_type, headers=headers)
    first, last = int(found[1]), min(int(found[2] or len(body)), len(body) - 1)
    if first > last:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{len(body)}"})
    part = body[first : last + 1]
    return Response(part, 206, headers | {"Content-Range": f"bytes {first}-{last}/{len(body)}"}, media_type)
