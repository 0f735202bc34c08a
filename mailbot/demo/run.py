"""Starts the demo robot in a folder that is removed at the end, goes through the tour, then stays up."""

from __future__ import annotations

import asyncio
import signal
import socket
import tempfile
from pathlib import Path

from mailbot import resources
from mailbot.app import Robot, loopback
from mailbot.config import Settings, load, split_endpoint
from mailbot.delivery.relay import CaptureRelay
from mailbot.demo import tour
from mailbot.demo.page import demo_app
from mailbot.office import roster
from mailbot.web.serve import serve as serve_web

DEMO_PAGE = "127.0.0.1:8025"

WIDE = {
    "BUDGETS_ADDRESS_PER_MINUTE": "30",
    "BUDGETS_ADDRESS_PER_HOUR": "300",
    "BUDGETS_ADDRESS_PER_DAY": "3000",
}
"""People who try things out send many blank mails from one address."""


def free(endpoint: str) -> str:
    """The endpoint itself, or one on a free port when another program has it."""
    host, port = split_endpoint(endpoint)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            with socket.socket() as other:
                other.bind((host, 0))
                return f"{host}:{other.getsockname()[1]}"
    return endpoint


def demo_settings(folder: Path, data: Path) -> tuple[Settings, str, list[str]]:
    """(settings on free loopback ports, endpoint of the demo page, what to say about ports)."""
    plain = load(folder, {}).site
    wanted = {"smtp": plain.smtp.listen[0], "web": plain.web.listen, "ops": plain.ops.listen, "demo": DEMO_PAGE}
    got = {}
    for name, endpoint in wanted.items():
        host, port = split_endpoint(endpoint)
        got[name] = free(endpoint if loopback(host) else f"127.0.0.1:{port}")
    said = [f"{wanted[name]} is taken: {name} uses {got[name]} instead." for name in got if got[name] != wanted[name]]
    overrides = {
        **WIDE,
        "AUTHENTICATION_MODE": "off",
        "SITE_DATA": f'"{data}"',
        "SITE_DATABASE": '""',
        "SITE_KEYS": f'"{data / "keys.json"}"',
        "DKIM_FOLDER": f'"{data}"',
        "OPS_TOKEN_FILE": f'"{data / "ops.token"}"',
        "SITE_WEB_URL": f'"http://{got["web"]}"',
        "SMTP_LISTEN": f'["{got["smtp"]}"]',
        "WEB_LISTEN": f'"{got["web"]}"',
        "OPS_LISTEN": f'"{got["ops"]}"',
        "RELAY_URL": '"capture:"',
    }
    return load(folder, {f"MAILBOT_{name}": value for name, value in overrides.items()}), got["demo"], said


async def run(folder: Path, *, once: bool) -> bool:
    """True when every step of the tour held. Without `once` it stays up until Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="mailbot-demo-") as data:
        settings, demo_endpoint, said = demo_settings(folder, Path(data))
        for line in said:
            print(line)
        relay = CaptureRelay()
        robot = Robot(settings, relay=relay)
        running = asyncio.create_task(robot.run())
        started = asyncio.create_task(robot.started.wait())
        await asyncio.wait({running, started}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        try:
            await _rosters(robot, settings)
            held = await tour.walk(robot, settings, relay)
            if not once:
                await _stay(robot, settings, relay, demo_endpoint, running)
            return held
        finally:
            robot.stop()
            await running


async def _rosters(robot: Robot, settings: Settings) -> None:
    """Loads the invented members that come with mailbot."""
    for society in settings.societies.values():
        file = resources.folder("config") / "demo-rosters" / f"{society.id}.csv"
        if file.exists():
            await roster.import_file(robot.ctx, society, file, actor="demo", now=robot.clock.now())


async def _stay(
    robot: Robot, settings: Settings, relay: CaptureRelay, endpoint: str, running: asyncio.Task[None]
) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ending.set)
    ready = asyncio.Event()
    page = asyncio.create_task(
        serve_web(demo_app(robot, settings, relay), *split_endpoint(endpoint), started=lambda _: ready.set())
    )
    await ready.wait()
    site = settings.site
    token = site.ops.token_file.read_text("ascii").strip()
    print("\nThe robot stays up. Where to look:")
    print(f"  http://{endpoint}/   the demo: a phone, the notice, the mailbox")
    for society in settings.societies.values():
        print(f"  {site.site.web_url}/{society.id}/login   {society.name}")
    print(f"  http://{site.ops.listen}/   ops: any user name, password {token}")
    print(f"  {site.smtp.listen[0]}   SMTP: swaks --server {site.smtp.listen[0]} --from you@example.com --to …")
    print("Ctrl-C ends it; everything it made is then removed.", flush=True)
    wait = asyncio.create_task(ending.wait())
    await asyncio.wait({wait, running}, return_when=asyncio.FIRST_COMPLETED)
    page.cancel()
    await asyncio.gather(page, return_exceptions=True)
    wait.cancel()
