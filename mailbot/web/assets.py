"""The style sheet, one file of colours a society, the one script, and the small icon; with their digest in the name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from mailbot.config import Society

_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Asset:
    body: bytes
    media_type: str


_MEDIA_TYPES = {"css": "text/css", "js": "text/javascript"}


def _name(stem: str, body: bytes, kind: str) -> str:
    return f"{stem}.{hashlib.sha256(body).hexdigest()[:12]}.{kind}"


class Assets:
    """Everything static, in memory."""

    def __init__(self, societies: Iterable[Society]) -> None:
        folder = files("mailbot.web") / "static"
        style = (folder / "site.css").read_bytes()
        self._icon = (folder / "favicon.ico").read_bytes()
        self._files: dict[str, Asset] = {}
        self.style = self._add("site", style)
        self.proof = self._add("proof", (folder / "proof.js").read_bytes(), "js")
        self.themes = {society.id: self._add(society.id, _theme(society)) for society in societies}

    def _add(self, stem: str, body: bytes, kind: str = "css") -> str:
        name = _name(stem, body, kind)
        self._files[name] = Asset(body, _MEDIA_TYPES[kind])
        return f"/static/{name}"

    async def serve(self, request: Request) -> Response:
        asset = self._files.get(request.path_params["name"])
        if asset is None:
            return Response(status_code=404)
        return Response(asset.body, media_type=asset.media_type, headers={"Cache-Control": _FOREVER})

    async def icon(self, request: Request) -> Response:
        return Response(self._icon, media_type="image/x-icon", headers={"Cache-Control": "public, max-age=86400"})

    async def robots(self, request: Request) -> Response:
        return Response("User-agent: *\nDisallow: /\n", media_type="text/plain")


def _theme(society: Society) -> bytes:
    key, hover, pressed = society.pages.key_colours
    return f":root{{--key:{key};--key-hover:{hover};--key-down:{pressed}}}\n".encode()
