"""A small world for tests of registration: the shipped societies, a key ring, cheap hashes, people on the roster."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from argon2 import Parameters, Type
from sqlalchemy import func, insert, select

from mailbot import credentials
from mailbot.config import Settings, Society, Start, load
from mailbot.credentials import Format, KeyRing, Passwords
from mailbot.delivery.mails import ClaimedMail
from mailbot.delivery.policy import Lane
from mailbot.mail.address import parse_typed
from mailbot.mail.envelope import Envelope
from mailbot.mail.inbound import Inbound
from mailbot.registration import journeys, login, people
from mailbot.registration.context import Context
from mailbot.registration.invite import LinkRequest, request_links
from mailbot.registration.outcomes import Begun, LoggedIn, Moved, Refused
from mailbot.registration.people import Person
from mailbot.store import Store, new_id
from mailbot.store.tables import member, outbox, temporary

REPOSITORY = Path(__file__).parents[2]
NOW = 1_795_157_420_000  # 2026-11-20 15:50:20 in Japan
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
CHEAP = Parameters(Type.ID, 19, 16, 32, 1, 8, 1)
PASSWORD = "umi-no-mieru-9-machi".replace("-", "")
NETWORK = "192.0.2.0/24"


def settings(folder: Path, environment: Mapping[str, str] | None = None, societies: Path | None = None) -> Settings:
    """The shipped societies under default site settings; `environment` as MAILBOT_… variables without the prefix."""
    config = folder / "config"
    if not config.exists():
        shutil.copytree(societies or REPOSITORY / "config" / "societies", config / "societies")
        (config / "mailbot.toml").write_text("")
    given = {"SITE_DATA": f'"{folder}"', **(environment or {})}
    return load(config, {f"MAILBOT_{name}": value for name, value in given.items()})


class Unchecked:
    """A robot that checks no sender."""

    binding = True

    async def check(self, envelope: Envelope, inbound: Inbound) -> None:
        return None


UNCHECKED = Unchecked()


@dataclass(frozen=True)
class Joined:
    """Somebody on the roster, and what the letter says."""

    society: Society
    id: int
    letter: int
    login_id: str
    password: str


@dataclass
class World:
    """What a test needs at hand. `now` is the test's own clock."""

    ctx: Context
    now: int = NOW
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def society(self, name: str) -> Society:
        return self.ctx.settings.societies[name]

    async def join(
        self,
        society: str,
        *,
        login_id: str | None = None,
        password: str | None = None,
        nickname: str = "",
        household: str = "",
        protected: bool = False,
        left_on: str | None = None,
        expires_at: int | None = None,
        **person: str,
    ) -> Joined:
        """Puts a person on the roster. `password`: one the roster brought; else it is derived."""
        number, ring, now = next(self._numbers), self.ctx.ring, self.now
        member_id, letter_id, kid = new_id(), new_id(), ring.active(now).kid
        facts = {
            "symbol": "12",
            "number": f"{1000 + number}",
            "name": f"山田　{number}子",
            "kana": f"ヤマダ　{number}コ",
            "birth_date": "1980-01-02",
            **person,
        }
        who = Person(nickname=nickname, household=household, **facts)
        fmt = self.society(society).temporary.password
        printed_id = login_id or f"{31415000 + number}"
        address_key = parse_typed(who.address).key if who.address else None
        async with self.ctx.store.begin() as tx:
            await tx.execute(
                insert(member).values(
                    society=society,
                    id=member_id,
                    person_key=people.person_key(ring, society, who),
                    household=people.household_key(ring, society, household) if household else None,
                    sealed=people.seal_person(ring, who, society, member_id, now),
                    row_digest=b"-",
                    name_index=people.name_index(ring, society, who.name),
                    kana_index=people.kana_index(ring, society, who.kana),
                    number_index=people.number_index(ring, society, who.symbol, who.number),
                    file_address_index=people.file_address_index(ring, society, address_key) if address_key else None,
                    protected=protected,
                    left_on=left_on,
                    state="invited",
                    sealed_nickname=people.seal_text(
                        ring, nickname, society, "member", "sealed_nickname", member_id, now
                    )
                    if nickname
                    else None,
                    created_at=now,
                )
            )
            await tx.execute(
                insert(temporary).values(
                    society=society,
                    id=letter_id,
                    member_id=member_id,
                    login_key=people.temporary_key(ring, society, printed_id),
                    sealed_login_id=people.seal_text(
                        ring, printed_id, society, "temporary", "sealed_login_id", letter_id, now
                    ),
                    sealed_password=people.seal_text(
                        ring, password, society, "temporary", "sealed_password", letter_id, now
                    )
                    if password
                    else None,
                    kid=kid,
                    format=fmt,
                    state="live",
                    expires_at=expires_at,
                    created_at=now,
                )
            )
        printed = password or credentials.password(ring, kid, society, letter_id, 0, Format.parse(fmt))
        return Joined(self.society(society), member_id, letter_id, printed_id, printed)

    async def link(self, society: str, address: str) -> int:
        """The live registration link of an address."""
        async with self.ctx.store.begin() as tx:
            (mail,) = await request_links(self.ctx, tx, [LinkRequest(society, parse_typed(address))], self.now)
            return int(await tx.scalar(select(outbox.c.link_id).where(outbox.c.id == mail)) or 0)

    async def begin(self, who: Joined, link_id: int, **more: Any) -> Begun:
        """Passes the temporary login."""
        form = {"login_id": who.login_id, "password": who.password}
        begun = await journeys.begin(self.ctx, who.society, Start.WEB_FORM, link_id, form, NETWORK, self.now, **more)
        assert isinstance(begun, Begun), begun
        return begun

    async def submit(self, who: Joined, begun: Begun, login_id: str, **more: str) -> Any:
        """Submits the credentials with a good password, whatever else `more` says."""
        form = {"login_id": login_id, "password": PASSWORD, "password_again": PASSWORD, "nickname": "", **more}
        if "address" not in form:
            page = await journeys.page(self.ctx, who.society, begun.journey_id, begun.proof, self.now)
            form["address"] = getattr(page, "values", {}).get("address", "")
        return await journeys.submit(
            self.ctx, who.society, begun.journey_id, begun.proof, "credentials", form, self.now
        )

    async def register(self, who: Joined, login_id: str, invited: str = "hanako@docomo.ne.jp", **more: str) -> Begun:
        """From an address to a registered member."""
        begun = await self.begin(who, await self.link(who.society.id, invited))
        moved = await self.submit(who, begun, login_id, **more)
        assert moved == Moved(None), moved
        return begun

    async def log_in(self, who: Joined, login_id: str, password: str = PASSWORD, network: str = NETWORK) -> str:
        """The token of a new session."""
        done = await login.log_in(self.ctx, who.society, login_id, password, network, self.now)
        assert isinstance(done, LoggedIn), done
        return done.session_token

    async def rows(self, statement: Any) -> list[Any]:
        async with self.ctx.store.read() as tx:
            return list((await tx.execute(statement)).all())

    async def count(self, table: Any, *where: Any) -> int:
        async with self.ctx.store.read() as tx:
            return int(await tx.scalar(select(func.count()).select_from(table).where(*where)) or 0)

    async def mails(self, letter: str | None = None) -> list[ClaimedMail]:
        """What is in the outbox, as the courier would see it; oldest first."""
        statement = select(outbox).order_by(outbox.c.created_at, outbox.c.id)
        if letter is not None:
            statement = statement.where(outbox.c.letter == letter)
        found = []
        for row in await self.rows(statement):
            facts = json.loads(row.facts)
            found.append(
                ClaimedMail(
                    row.society, row.id, row.letter, Lane(row.lane), row.recipient, row.member_id, row.link_id, facts,
                    row.message_id, row.in_reply_to, 1, row.created_at, row.deadline_at, self.now + MINUTE,
                )
            )  # fmt: skip
        return found


def world(store: Store, folder: Path, environment: Mapping[str, str] | None = None) -> World:
    """A world on a database with all tables. Close `ctx.passwords` at the end."""
    ctx = Context(settings(folder, environment), KeyRing.create(NOW), Passwords(CHEAP, concurrency=4), store)
    return World(ctx)


def texts(refused: object) -> list[str]:
    """What a refusal says, `field: sentence`."""
    assert isinstance(refused, Refused), refused
    return [f"{complaint.field}: {complaint.text}" for complaint in refused.complaints]
