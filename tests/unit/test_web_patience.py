"""Clients that take their time, and requests without end."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mailbot.web import serve as serving
from mailbot.web.endpoint import page
from mailbot.web.network import Clients
from mailbot.web.visit import Visit, Web


async def _answered(*sent: bytes, pause: float = 0.0) -> bytes:
    """Everything the server says to these octets until it hangs up."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    hello = PlainTextResponse("hello")
    running = asyncio.create_task(serving.serve(hello, stop=stop, started=port.set_result))
    reader, writer = await asyncio.open_connection("127.0.0.1", await port)
    said = b""
    try:
        async with asyncio.timeout(20):
            for piece in sent:
                writer.write(piece)
                await asyncio.sleep(pause)
            said = await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()
        stop.set()
        await running
    return said


@pytest.mark.parametrize(
    "sent",
    [(b"",), (b"GET / HTTP/1.1\r\nHost: a\r\n",), (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHo")],
)
async def test_half_a_request_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, sent: tuple[bytes, ...]) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.3)
    said = await _answered(*sent, pause=0.1)
    assert said.count(b"hello") == len(sent) - 1


async def test_a_head_without_end_is_refused() -> None:
    said = await _answered(b"GET / HTTP/1.1\r\nHost: a\r\nX: ", *[b"x" * 65536] * 4)
    assert said.startswith(b"HTTP/1.1 400 ") or said == b""


async def test_every_line_of_forwarded_for_counts() -> None:
    """Some proxies add a line of their own below the one a client made up."""

    async def show(visit: Visit) -> Response:
        return PlainTextResponse(visit.network)

    society = SimpleNamespace(id="a")
    ctx = SimpleNamespace(settings=SimpleNamespace(societies={"a": society}))
    web = SimpleNamespace(ctx=ctx, clients=Clients(("127.0.0.1",)), clock=lambda: 0)
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path_params": {"society": "a"},
        "client": ("127.0.0.1", 1),
        "headers": [(b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-for", b"198.51.100.7")],
    }
    answer = await page(cast(Web, web), show, pausable=False)(Request(scope))
    assert answer.body == b"198.51.100.0/24"
