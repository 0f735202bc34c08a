"""The members' pages over a real SQLite database, with a clock the test moves, in the test's loop or behind a port."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from argon2 import Parameters, Type
from sqlalchemy import insert, select
from starlette.applications import Starlette

from mailbot.config import Society, load
from mailbot.credentials import Format, KeyRing, LinkPurpose, Passwords, fold, mint
from mailbot.credentials import password as printed_password
from mailbot.mail.address import parse_mailbox
from mailbot.registration import people
from mailbot.registration.context import Context
from mailbot.registration.people import Person
from mailbot.store import new_id, open_store, schema, tables
from mailbot.web.app import member_app
from mailbot.web.serve import serve
from tests.support.servers import free_port

REPOSITORY = Path(__file__).parents[2]
TEMPLATES = REPOSITORY / "templates"
NOON = 1_795_143_600_000  # 2026-11-20 12:00 in Japan
CHEAP = Parameters(type=Type.ID, version=19, salt_len=16, hash_len=32, time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class House:
    """One installation with its pages. `now` is what every page believes the time to be."""

    ctx: Context
    app: Starlette
    port: int
    now: int = NOON
    made: dict[str, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.ctx.settings.site.site.web_url

    def society(self, name: str) -> Society:
        return self.ctx.settings.societies[name]

    async def link(self, society: str, purpose: LinkPurpose, address: str, **columns: object) -> str:
        """A link row -> the URL that a mail would carry."""
        link_id, kid = new_id(), self.ctx.ring.active(self.now).kid
        mailbox = parse_mailbox(address)
        row = {
            "society": society,
            "id": link_id,
            "purpose": purpose.value,
            "address": mailbox.text,
            "address_key": mailbox.key,
            "kid": kid,
            "created_at": self.now,
            "expires_at": self.now + 180 * 60_000,
            **columns,
        }
        async with self.ctx.store.begin() as tx:
            await tx.execute(insert(tables.link).values(row))
        letter = {LinkPurpose.REGISTRATION: "r", LinkPurpose.REISSUE: "p", LinkPurpose.ADDRESS_PROOF: "a"}[purpose]
        return f"{self.url}/{society}/{letter}/{mint(self.ctx.ring, purpose, society, link_id, kid)}"

    async def letter(self, society: str, login_id: str, person: Person) -> str:
        """An invited member with a printed letter -> the temporary password."""
        ring, store = self.ctx.ring, self.ctx.store
        member_id, temporary_id, kid = new_id(), new_id(), ring.active(self.now).kid
        form = Format.parse(self.society(society).temporary.password)
        mail_key = parse_mailbox(person.address).key if person.address else None
        async with store.begin() as tx:
            await tx.execute(
                insert(tables.member).values(
                    society=society,
                    id=member_id,
                    person_key=people.person_key(ring, society, person),
                    household=people.household_key(ring, society, person.household) if person.household else None,
                    sealed=people.seal_person(ring, person, society, member_id, self.now),
                    row_digest=b"",
                    number_index=people.number_index(ring, society, person.symbol, person.number),
                    file_address_index=people.file_address_index(ring, society, mail_key) if mail_key else None,
                    protected=False,
                    state="invited",
                    sealed_nickname=people.seal_text(
                        ring, person.nickname, society, "member", "sealed_nickname", member_id, self.now
                    ),
                    created_at=self.now,
                )
            )
            await tx.execute(
                insert(tables.temporary).values(
                    society=society,
                    id=temporary_id,
                    member_id=member_id,
                    login_key=people.temporary_key(ring, society, login_id),
                    sealed_login_id=people.seal_text(
                        ring, login_id, society, "temporary", "sealed_login_id", temporary_id, self.now
                    ),
                    kid=kid,
                    format=str(form),
                    state="live",
                    created_at=self.now,
                )
            )
        self.made[login_id] = member_id
        return printed_password(ring, kid, society, temporary_id, 0, form)

    async def member(self, society: str, login_id: str, password: str, *addresses: str, **person: str) -> int:
        """A registered member."""
        await self.letter(
            society, f"{new_id() % 10**8:08}", Person(**{"nickname": "たろう", "number": login_id, **person})
        )
        member_id = list(self.made.values())[-1]
        columns = {
            "state": "registered",
            "login_id": login_id,
            "login_key": fold(login_id),
            "password_hash": await self.ctx.passwords.hash(password),
            "password_set_at": self.now,
            "registered_at": self.now,
            "login_opens_at": self.now,
        }
        async with self.ctx.store.begin() as tx:
            await tx.execute(tables.member.update().where(tables.member.c.id == member_id).values(columns))
            for slot, address in enumerate(addresses, 1):
                mailbox = parse_mailbox(address)
                await tx.execute(
                    insert(tables.address).values(
                        society=society,
                        member_id=member_id,
                        slot=slot,
                        address=mailbox.text,
                        address_key=mailbox.key,
                        proved_at=self.now,
                    )
                )
        return member_id

    async def letters_queued(self, letter: str) -> list[str]:
        """Recipients of the mails of this kind that are in the outbox."""
        async with self.ctx.store.read() as tx:
            found = await tx.scalars(select(tables.outbox.c.recipient).where(tables.outbox.c.letter == letter))
            return list(found)


@asynccontextmanager
async def house(folder: Path, *, served: bool = False, web_url: str = "", **environment: str) -> AsyncIterator[House]:
    """The shipped societies on a fresh database. `served`: listens on `House.port`; else drive `House.app` itself."""
    port = free_port()
    config = folder / "config"
    shutil.copytree(REPOSITORY / "config" / "societies", config / "societies", dirs_exist_ok=True)
    (config / "mailbot.toml").touch()
    settings = load(
        config,
        {
            "MAILBOT_SITE_WEB_URL": f'"{web_url or f"http://127.0.0.1:{port}"}"',
            "MAILBOT_WEB_LISTEN": f'"127.0.0.1:{port}"',
            "MAILBOT_SITE_DATA": f'"{folder / "var"}"',
            **environment,
        },
    )
    store = open_store(settings.database_url)
    await schema.upgrade(store)
    passwords = Passwords(CHEAP)
    ctx = Context(settings, KeyRing.create(NOON - 1), passwords, store)
    found: list[House] = []
    app = member_app(ctx, [TEMPLATES], lambda: found[0].now)
    found.append(House(ctx, app, port))
    stop = asyncio.Event()
    task = asyncio.create_task(serve(app, "127.0.0.1", port, stop, drain_seconds=1)) if served else None
    try:
        yield found[0]
    finally:
        stop.set()
        if task is not None:
            await task
        await passwords.close()
        await store.close()
