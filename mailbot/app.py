"""Composition root: builds every object once, collects every room's problems before a role starts, runs the roles in
one TaskGroup and drains them on SIGTERM.

Raises `StartProblem` with everything that keeps the robot from starting, in words.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path

import argon2

from mailbot import credentials, resources
from mailbot.config import ConfigError, Settings, Society, carriers, load, split_endpoint
from mailbot.credentials import KeyRing, Passwords, RingError
from mailbot.delivery.courier import Courier
from mailbot.delivery.relay import Relay
from mailbot.delivery.relays import RelayProblem, open_relay
from mailbot.dkimkeys import lying_keys, make_keys, open_signer
from mailbot.dns import Resolver
from mailbot.intake.authentication import Authenticator, unchecked
from mailbot.intake.imap import ImapIntake
from mailbot.intake.reception import Reception
from mailbot.intake.smtp import SmtpListener, tls_context
from mailbot.letters import Letters, lint
from mailbot.mail.network import Peers
from mailbot.private import CHOWN, StartProblem, read_private, user, write_private
from mailbot.registration import consents, steps
from mailbot.registration.context import Context
from mailbot.store import Store, open_store, schema
from mailbot.store.clock import Clock, ClockSkew
from mailbot.store.engine import OUTAGES
from mailbot.store.wakeup import listen
from mailbot.telemetry import emit
from mailbot.web import render
from mailbot.web.app import member_app
from mailbot.web.ops import ops_app
from mailbot.web.serve import serve as serve_web


class Role(StrEnum):
    """A track of the robot; on PostgreSQL each may run alone, as often as wanted."""

    INTAKE = "intake"
    COURIER = "courier"
    WEB = "web"


def template_folders(settings: Settings) -> list[Path]:
    """The installation's own templates first, then those that come with mailbot."""
    own = settings.site.site.templates
    return [*([own] if own != Path() else []), resources.folder("templates")]


async def open_database(settings: Settings) -> Store:
    """Opens the database; an empty one gets the schema, an old one is a StartProblem."""
    try:
        store = open_store(settings.database_url)
    except OSError as error:
        raise StartProblem([_unopened(settings, error)]) from error
    try:
        if await schema.current(store) is None:
            await schema.upgrade(store)
        await schema.require_current(store)
    except schema.SchemaError as error:
        await store.close()
        raise StartProblem([str(error)]) from error
    except Exception as error:
        await store.close()
        raise StartProblem([_unopened(settings, error)]) from error
    return store


def sqlite_file(settings: Settings) -> list[Path]:
    """The database's file; none where a server keeps it."""
    driver, _, path = settings.database_url.partition(":///")
    return [Path(path)] if driver.startswith("sqlite") else []


def _unopened(settings: Settings, error: Exception) -> str:
    words = f"the database cannot be opened: {getattr(error, 'orig', None) or error}"
    return words + "".join(f" ({path}, as {user()}): {CHOWN}" for path in sqlite_file(settings))


async def open_ring(settings: Settings, store: Store, now: int) -> KeyRing:
    """Loads the key ring, or makes one while the database is still empty."""
    path = settings.site.site.keys
    try:
        if not path.exists():
            if not await schema.is_empty(store):
                raise StartProblem(
                    [f"{path}: the key ring is missing, and this database needs it: put the file back from your backup"]
                )
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                credentials.save(path, KeyRing.create(now), new=True)
            except RingError:
                if not path.exists():  # else another role was faster
                    raise
        ring = credentials.load(path)
        await schema.bind_ring(store, ring.fingerprint())
    except (RingError, schema.SchemaError) as error:
        raise StartProblem([str(error)]) from error
    return ring


def open_passwords(settings: Settings) -> Passwords:
    memory = settings.site.web.password_hash_memory_kib
    return Passwords(argon2.Parameters(argon2.Type.ID, 19, 16, 32, 2, memory, 1))


def problems(settings: Settings, letters: Letters) -> list[str]:
    """What every room finds wrong with the societies' files and templates."""
    folders = template_folders(settings)
    found = [*letters.problems(), *render.problems(settings.societies, folders)]
    found += consents.problems(settings.societies, folders)
    for carrier in settings.carriers.all.values():
        shown = dict.fromkeys(words for line in (carrier.name, *carrier.steps) for words in lint.plain(line))
        found += [f"{carriers.FILE}: [{carrier.id}]: {words}" for words in shown]
    for society in settings.societies.values():
        found += [f"{society.id}: {text}" for text in steps.problems(society)]
    return found


def build_letters(settings: Settings) -> Letters:
    site = settings.site.site
    return Letters(settings.societies, template_folders(settings), site.web_url, site.host)


def open_relays(settings: Settings, clock: Clock) -> Relay:
    """What `[relay]` names; connects with the first mail."""
    site = settings.site
    legacy_domains = frozenset(site.smtp.legacy_domains)
    try:
        return open_relay(site.relay, site.site.host, legacy_domains=legacy_domains, now=clock.now)
    except RelayProblem as error:
        raise StartProblem([str(error)]) from error


def ops_token(settings: Settings) -> str:
    """The token of the ops door, made at the first start."""
    path = settings.site.ops.token_file
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24).encode() + b"\n")
    return read_private(path).decode().strip()


class Doors:
    """The listening sockets of this process. They stay open while a robot makes room for the next, so that a reload
    refuses nobody: who comes in between waits in the backlog."""

    def __init__(self) -> None:
        self._open: dict[str, socket.socket] = {}

    def take(self, endpoint: str) -> socket.socket:
        """A listening socket for `host:port`, for the caller to close. Raises StartProblem."""
        if endpoint not in self._open:
            host, port = split_endpoint(endpoint)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                self._open[endpoint] = socket.create_server((host, port), family=family, backlog=1024)
            except OSError as error:
                raise StartProblem([f"cannot listen on {endpoint}: {error.strerror}"]) from error
        taken = self._open[endpoint].dup()
        taken.setblocking(False)
        return taken

    def close(self, but: Collection[str] = ()) -> None:
        """Closes every socket but those of these endpoints."""
        for endpoint in set(self._open) - set(but):
            self._open.pop(endpoint).close()


def endpoints(settings: Settings, roles: Collection[Role]) -> list[str]:
    """Where these roles listen."""
    site = settings.site
    return [
        site.ops.listen,
        *([site.web.listen] if Role.WEB in roles else []),
        *((*site.smtp.listen, *site.smtp.lmtp_listen) if Role.INTAKE in roles else ()),
    ]


class Robot:
    """All roles of one process. `run` returns when `stop` is called and everything is drained."""

    def __init__(
        self,
        settings: Settings,
        roles: Sequence[Role] = tuple(Role),
        relay: Relay | None = None,
        doors: Doors | None = None,
    ) -> None:
        self.settings = settings
        self._doors = doors
        self.roles = frozenset(roles)
        self.clock = Clock()
        self._relay = relay
        self._stop = asyncio.Event()
        self.started = asyncio.Event()
        self.ctx: Context

    def stop(self) -> None:
        """Asks every role to finish what it has begun and to take nothing new."""
        self._stop.set()

    async def run(self) -> None:
        """Raises StartProblem before any door opens."""
        settings = self.settings
        letters = build_letters(settings)
        if found := problems(settings, letters):
            raise StartProblem(found)
        store = await open_database(settings)
        passwords = open_passwords(settings)
        try:
            await self._synchronise(store)
            ring = await open_ring(settings, store, self.clock.now())
            self.ctx = Context(settings, ring, passwords, store)
            await self._run_roles(letters)
        finally:
            await passwords.close()
            await store.close()

    async def _run_roles(self, letters: Letters) -> None:
        settings, ctx = self.settings, self.ctx
        if not lying_keys(settings):
            make_keys(settings)
        signer = open_signer(settings)
        relay = self._relay or open_relays(settings, self.clock)
        courier = Courier(ctx, letters, signer, relay, self.clock.now)
        authenticator = Authenticator(settings.site, Resolver(settings.site.dns))
        reception = Reception(ctx, settings.site.smtp.batch, authenticator)
        listener = SmtpListener(
            settings.site.smtp,
            settings.site.site.host,
            settings.directory,
            reception.receive,
            self.clock.now,
            unchecked=unchecked(settings.site),
            upstream=Peers(settings.site.authentication.upstream_peers),
            kept_bytes=settings.site.authentication.kept_bytes,
        )
        mailboxes = ImapIntake(settings, ctx.store, reception, self.clock.now)
        pages = member_app(ctx, template_folders(settings), clock=self.clock.now)
        doors = self._doors or Doors()
        sockets = {endpoint: doors.take(endpoint) for endpoint in endpoints(settings, self.roles)}
        doors.close(but=sockets if self._doors else ())
        courier_stop = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []
        async with contextlib.AsyncExitStack() as closing, asyncio.TaskGroup() as group:
            for close in (relay.close, authenticator.close, partial(mailboxes.stop, 0)):  # also when a role fails
                closing.push_async_callback(close)
            ops = ops_app(ctx, ops_token(settings), self.clock.now)
            tasks.append(group.create_task(serve_web(ops, listening=sockets[settings.site.ops.listen])))
            if Role.WEB in self.roles:
                tasks.append(group.create_task(serve_web(pages, listening=sockets[settings.site.web.listen])))
            if Role.COURIER in self.roles:
                group.create_task(courier.run(courier_stop))
            if Role.INTAKE in self.roles:
                await listener.start(sockets.__getitem__)
                tasks.append(group.create_task(reception.run()))
                mailboxes.start()
            tasks.append(group.create_task(self._keep_clock(ctx.store)))
            hints = group.create_task(listen(ctx.store))
            self.started.set()
            emit("robot.started", roles=",".join(sorted(self.roles)), version=version("mailbot"))
            await self._stop.wait()
            emit("robot.stopping")
            # the way in closes first, then the pages, last the way out: nothing accepted waits for the next start
            grace = settings.site.courier.drain_seconds
            await asyncio.gather(listener.stop(grace), mailboxes.stop(grace))
            hints.cancel()
            for task in reversed(tasks):
                task.cancel()
            await asyncio.wait(tasks)
            courier_stop.set()
        emit("robot.stopped")

    async def _keep_clock(self, store: Store) -> None:
        while True:
            await asyncio.sleep(60)
            with suppress(*OUTAGES):  # the roles wait out an outage; the clock does too
                await self._synchronise(store)

    async def _synchronise(self, store: Store) -> None:
        """Raises StartProblem: with a wrong clock no lease and no deadline holds."""
        try:
            await self.clock.synchronise(store)
        except ClockSkew as error:
            raise StartProblem([str(error)]) from error


def loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def serve(folder: Path, roles: Sequence[Role]) -> None:
    """`mailbot serve`: runs until SIGTERM or SIGINT; SIGHUP starts again on the files as they are now.

    A SIGHUP whose files have problems keeps the robot running as it was and says why.
    """
    settings = load(folder)
    if len(set(roles)) < len(Role) and settings.database_url.startswith("sqlite"):
        raise StartProblem(["single roles need PostgreSQL (site.database): roles talk only through the database"])
    doors, ended, asked = Doors(), asyncio.Event(), asyncio.Event()
    while True:
        robot = Robot(settings, roles, doors=doors)
        _heed_signals(robot, ended, asked)
        renewal = asyncio.create_task(_renewed(robot, folder, asked, doors))
        try:
            await robot.run()
        finally:
            renewal.cancel()
        if ended.is_set():
            return doors.close()
        settings = await renewal


def _heed_signals(robot: Robot, ended: asyncio.Event, asked: asyncio.Event) -> None:
    """SIGTERM and SIGINT end the robot; SIGHUP asks for the files to be read again."""

    def end() -> None:
        ended.set()
        robot.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, asked.set)


async def _renewed(robot: Robot, folder: Path, asked: asyncio.Event, doors: Doors) -> Settings:
    """The files as they are now, once SIGHUP asked for them and a robot could start on them; the running one is then
    asked to stop."""
    await robot.started.wait()
    while True:
        await asked.wait()
        asked.clear()
        try:
            candidate = load(folder)
            await rehearse(candidate, robot.roles, robot.clock, doors)
        except (ConfigError, StartProblem) as error:
            emit("robot.reload-refused", error=str(error))
        except Exception as error:  # whatever it is: the robot that runs goes on, and can be asked again
            emit("robot.reload-refused", error=error)
        else:
            emit("robot.reloading")
            robot.stop()
            return candidate


async def rehearse(settings: Settings, roles: Collection[Role], clock: Clock, doors: Doors) -> None:
    """Opens what a robot on these files would, and lets go of it again. Raises StartProblem.

    A mailbox that cannot be opened keeps no robot from starting, so none is tried here."""
    if found := problems(settings, build_letters(settings)):
        raise StartProblem(found)
    if lost := [path for path in (settings.site.site.keys, *sqlite_file(settings)) if not path.exists()]:
        raise StartProblem([f"{path}: is not there, and a reload makes none: is site.data right?" for path in lost])
    store = await open_database(settings)
    try:
        await open_ring(settings, store, clock.now())
    finally:
        await store.close()
    open_signer(settings)
    await open_relays(settings, clock).close()
    ops_token(settings)
    try:
        tls_context(settings.site.smtp)
    except OSError as error:
        raise StartProblem([f"{settings.site.smtp.tls_certificate}: cannot be used for STARTTLS: {error}"]) from error
    for endpoint in endpoints(settings, roles):
        doors.take(endpoint).close()


def society_of(settings: Settings, society: str) -> Society:
    """Raises StartProblem naming the societies there are."""
    found = settings.societies.get(society)
    if found is None:
        raise StartProblem([f"no society {society!r}; there are: {', '.join(sorted(settings.societies))}"])
    return found
