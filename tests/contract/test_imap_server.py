"""Servers that misbehave: silent, gone, poor in capabilities, or tired of our password."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import select
from sqlalchemy.exc import InternalError

from mailbot.intake.imap import client, mailbox
from mailbot.intake.imap.ledger import listed, rescan, troubles
from mailbot.intake.imap.mailbox import Mailbox
from mailbot.intake.imap.patience import USUAL
from mailbot.intake.reception import Reception
from mailbot.mail.envelope import Envelope, Purpose
from mailbot.mail.status import Status
from mailbot.store import Store, lease, open_store
from mailbot.store.alarms import alarms
from mailbot.store.tables import inbox, metadata
from mailbot.store.tables import lease as lease_table
from tests.support.factory import DAY, HOUR, MINUTE, NOW, UNCHECKED, World
from tests.support.imap import AMPLE, QUICK, Hands, blank_mail, hands, imap_toml, watching
from tests.support.imap_fake import FakeImap, fake_imap

FILED = ("filed", "accepted")
OVER = ("waiting", "4.7.1")
MAIL = blank_mail("anna@phone.example")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """SQLite alone: nothing here is the database's business."""
    opened = open_store(f"sqlite+aiosqlite:///{tmp_path / 'mailbot.sqlite3'}")
    async with opened.begin() as tx:
        await tx.run_sync(metadata.create_all)
    yield opened
    await opened.close()


@pytest.fixture
async def server() -> AsyncIterator[FakeImap]:
    async with fake_imap() as running:
        yield running


@pytest.fixture
def at(here: World, server: FakeImap, tmp_path: Path) -> Hands:
    return settle(here, server, tmp_path)


def settle(here: World, server: FakeImap, path: Path, **more: Any) -> Hands:
    return hands(here.ctx, path, imap_toml("box", server.port, server.ca_file, path, "anna", server.password, **more))


class Waits:
    """Stands for `pause`, and waits a moment only. Seconds between sessions are without their share of chance."""

    def __init__(self) -> None:
        self.between_sessions: list[int] = []
        self.between_looks: list[float] = []

    async def __call__(self, stop: asyncio.Event, seconds: float, file: object = None, beat: float = 0) -> None:
        if beat:
            self.between_sessions.append(int(seconds))
        else:
            self.between_looks.append(seconds)
        await asyncio.sleep(0.01)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    made = Waits()
    monkeypatch.setattr(mailbox, "pause", made)
    return made


async def kinds(at: Hands) -> set[str]:
    async with at.ctx.store.read() as tx:
        return {row.kind for row in await alarms(tx)}


async def test_case_51_bye_instead_of_idling(at: Hands, server: FakeImap) -> None:
    server.bye["IDLE"] = 1
    async with watching(at):
        await at.until(partial(_asked, server, "IDLE"))
        server.add(MAIL, NOW)
        await at.until_ledger(FILED, seconds=15)
        assert server.sessions == 2
    assert await at.answers() == ["anna@phone.example"]


async def test_case_52_a_black_hole_in_idle_costs_one_turn(
    here: World, server: FakeImap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is announced, and DONE is not answered: the end of IDLE's turn finds out."""
    monkeypatch.setattr(client, "IDLE_SECONDS", 0.2)
    at = settle(here, server, tmp_path, poll_seconds=1)
    server.pushes = False
    server.deaf["DONE"] = 1
    async with watching(at):
        await at.learnt()
        await at.until(lambda: _asked(server, "IDLE"))
        server.add(MAIL, NOW)
        await at.until_ledger(FILED, seconds=15)
        assert server.sessions == 2
    assert await at.answers() == ["anna@phone.example"]


async def _asked(server: FakeImap, command: str, times: int = 1) -> bool:
    return server.asked(command) >= times


async def test_a_server_that_ends_idle_soon_is_polled_for_an_hour(
    here: World, server: FakeImap, tmp_path: Path, waits: Waits
) -> None:
    at = settle(here, server, tmp_path, poll_seconds=1)
    server.bye["IDLE"] = 3
    async with watching(at, patience=USUAL):
        await at.until(partial(_asked, server, "IDLE", 2))
        server.add(MAIL, NOW)
        await at.until_ledger(FILED)
        assert (server.asked("IDLE"), server.sessions) == (2, 3)
        at.now += HOUR
        await at.until(partial(_asked, server, "IDLE", 4))
    assert waits.between_sessions[:3] == [1, 2, 1], "a turn without IDLE that ended well is a success"


async def test_a_server_that_is_away_is_called_ever_more_rarely(at: Hands, server: FakeImap, waits: Waits) -> None:
    """Connecting is no success, and neither is a look."""
    server.bye["SELECT"] = 5
    server.bye["SEARCH"] = 4
    server.bye["IDLE"] = 1
    async with watching(at, patience=USUAL):
        await at.until(partial(_asked, server, "IDLE", 2))
    assert waits.between_sessions[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]


async def test_a_server_that_hangs_up_after_some_commands_is_called_again_at_once(
    here: World, server: FakeImap, tmp_path: Path, waits: Waits
) -> None:
    at = settle(here, server, tmp_path, batch=10)
    async with watching(at):
        await at.learnt()
    server.patience = 12
    for number in range(60):
        server.add(blank_mail(f"p{number}@phone.example", number), NOW)
    async with watching(at, patience=USUAL):
        await at.until(partial(_answered, at, 60))
    assert server.sessions >= 4
    assert set(waits.between_sessions) == {1}


async def _answered(at: Hands, mails: int) -> bool:
    return len(await at.answers()) == mails


async def test_a_slow_line_is_not_a_dead_one(at: Hands, server: FakeImap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "COMMAND_SECONDS", 0.5)
    async with watching(at):
        await at.learnt()
    for number in range(20):
        server.add(blank_mail(f"p{number}@phone.example", number), NOW)
    server.drip = 0.05
    async with watching(at):
        await at.until_ledger(*[FILED] * 20)
    assert server.sessions == 2


async def test_an_answer_without_end_is_given_up(at: Hands, server: FakeImap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "COMMAND_SECONDS", 0.5)
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.6)
    async with watching(at):
        await at.learnt()
    for number in range(200):
        server.add(blank_mail(f"p{number}@phone.example", number), NOW)
    server.drip = 0.05
    async with watching(at):
        await at.until(partial(_asked, server, "SELECT", 3))
        server.drip = 0
        await at.until(partial(_answered, at, 200))


@pytest.mark.parametrize(
    "refusal", ["[UNAVAILABLE] try later", "[INUSE] locked", "[ALERT] Too many simultaneous connections."]
)
@pytest.mark.parametrize("command", ["LOGIN", "SELECT"])
async def test_a_server_out_of_order_for_a_moment(at: Hands, server: FakeImap, command: str, refusal: str) -> None:
    server.refusal, server.no[command] = refusal, 2
    async with watching(at, patience=replace(QUICK, refused=300)):
        await at.learnt()
        assert await kinds(at) == set()
    assert server.sessions == 3


async def test_a_count_that_is_repeated_is_no_news(at: Hands, server: FakeImap) -> None:
    server.repeats = True
    async with watching(at):
        await at.until(partial(_asked, server, "IDLE"))
        looks = server.asked("SEARCH")
        for writer in server.open:
            writer.write(b"* 0 EXISTS\r\n" * 50)
        at.now += 50_000
        await at.until(partial(_lasts, at))
        server.add(MAIL, NOW)
        await at.until_ledger(FILED)
        await at.until(partial(_asked, server, "IDLE", 2))
    assert server.asked("SEARCH") == looks + 2, "one that finds the mail and one that finds no more"


async def test_a_server_that_ends_idle_at_once_is_not_asked_at_once(at: Hands, server: FakeImap, waits: Waits) -> None:
    async def mail(verb: str) -> None:
        if verb == "IDLE":
            server.add(blank_mail("anna@phone.example", server.uid_next), NOW)

    server.before = mail
    async with watching(at, patience=replace(QUICK, between_looks=50)):
        await at.until(partial(_asked, server, "IDLE", 3))
    first, second, *_ = waits.between_looks
    assert 40 < min(first, second) <= max(first, second) <= 50


async def _lease_until(at: Hands) -> int:
    async with at.ctx.store.read() as tx:
        return await tx.scalar(select(lease_table.c.until)) or 0


async def _lasts(at: Hands) -> bool:
    return await _lease_until(at) >= at.now + 60_000


@pytest.mark.parametrize("chatter", [False, True])
async def test_the_lease_lasts_while_the_robot_idles(at: Hands, server: FakeImap, chatter: bool) -> None:
    async def chat() -> None:
        while True:
            for writer in server.open:
                writer.write(b"* OK Still here\r\n")
            await asyncio.sleep(0.02)

    async with watching(at):
        await at.until(partial(_asked, server, "IDLE"))
        chatting = asyncio.create_task(chat()) if chatter else None
        at.now += 50_000
        await at.until(partial(_lasts, at))
        if chatting:
            chatting.cancel()
    assert server.sessions == 1


async def test_the_lease_lasts_while_mails_are_filed(here: World, server: FakeImap, tmp_path: Path) -> None:
    at = settle(here, server, tmp_path, batch=2)
    held = []

    async def slow(verb: str) -> None:
        if verb == "STORE":
            held.append(await _lease_until(at) > at.now)
            at.now += 70_000

    async with watching(at):
        await at.learnt()
    for number in range(4):
        server.add(blank_mail(f"p{number}@phone.example", number), NOW)
    server.no["STORE"] = 4
    async with watching(at):
        await at.until(partial(_asked, server, "STORE", 4))
        await at.until_ledger(*[("taken", "accepted")] * 4)
    server.before = slow
    async with watching(at):
        await at.until_ledger(*[FILED] * 4)
    assert held == [True, True]


async def test_of_two_robots_one_has_the_folder_open(
    at: Hands, server: FakeImap, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = [0]

    async def take(*given: Any) -> bool:
        mine = await lease_take(*given)
        refused[0] += not mine
        return mine

    async def waited() -> bool:
        return refused[0] >= 3

    lease_take = lease.take
    monkeypatch.setattr(lease, "take", take)
    async with watching(at), watching(at):
        await at.learnt()
        server.add(MAIL, NOW)
        await at.until_ledger(FILED)
        await at.until(waited)
    assert server.most_open == 1


async def test_no_more_mails_at_once_than_the_batch(at: Hands, server: FakeImap) -> None:
    async with watching(at):
        await at.learnt()
    for number in range(120):
        server.add(blank_mail(f"p{number}@phone.example", number), NOW)
    async with watching(at):
        await at.until_ledger(*[FILED] * 120)
    sizes = [len(one.split()[1].split(",")) for one in server.commands if one.startswith(("fetch", "FETCH", "STORE"))]
    assert max(sizes) == 50


async def test_idle_ends_after_its_minutes(
    here: World, server: FakeImap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = settle(here, server, tmp_path, poll_seconds=3600, idle_minutes=2)
    turns = []

    async def idle(_: object, seconds: float, stop: asyncio.Event, *__: object, **___: object) -> None:
        turns.append(seconds)
        await stop.wait()

    async def idled() -> bool:
        return bool(turns)

    monkeypatch.setattr(client.Connection, "idle", idle)
    async with watching(at):
        await at.until(idled)
    assert turns == [120]


async def test_what_needs_no_answer_has_a_folder_of_its_own(here: World, server: FakeImap, tmp_path: Path) -> None:
    at = settle(here, server, tmp_path, done_folder="Done", ignored_folder="Not answered")
    async with watching(at):
        await at.learnt()
    server.add(MAIL, NOW)
    server.add(blank_mail("x@phone.example", 2, headers="Auto-Submitted: auto-replied\r\n"), NOW)
    async with watching(at):
        await at.until_ledger(FILED, ("filed", "automatic-reply"))
    moved = {folder: [mail.content[14:15] for mail in mails] for folder, mails in server.moved.items()}
    assert moved == {"Done": [b"a"], "Not answered": [b"x"]}


async def test_new_numbers_bring_no_old_mail_back(at: Hands, server: FakeImap) -> None:
    """Neither what came before the robot nor what only the server dates today."""
    async with watching(at):
        await at.learnt()
    at.now, server.uidvalidity = NOW + 5 * HOUR, 8
    for name, came, written in (
        ("history", NOW - HOUR, NOW - HOUR),
        ("old", at.now, NOW + HOUR),
        ("late", NOW + HOUR, at.now),
        ("fresh", at.now - HOUR, at.now - HOUR),
    ):
        server.add(blank_mail(f"{name}@phone.example", name, date=written), came)
    renumbered = ("ignored", "renumbered")
    async with watching(at):
        await at.until_ledger(("ignored", "history"), renumbered, renumbered, FILED)
    assert await at.answers() == ["fresh@phone.example"]


@pytest.mark.parametrize("renumbered", [False, True])
async def test_a_rescan_believes_the_server_and_not_the_phone(at: Hands, server: FakeImap, renumbered: bool) -> None:
    """Unless the folder has been restored: there the server may call old mail fresh."""
    server.add(blank_mail("slow@phone.example", date=NOW - 3 * DAY), NOW)
    async with watching(at):
        await at.learnt()
    server.uidvalidity += renumbered
    if renumbered:
        async with watching(at):
            await at.until_ledger(("ignored", "renumbered"))
    async with at.ctx.store.begin() as tx:
        assert await rescan(tx, "box", NOW - DAY)
    async with watching(at):
        await at.until_ledger(("ignored", "renumbered") if renumbered else FILED)
    assert len(await at.answers()) == 1 - renumbered


async def test_another_place_does_not_forget_who_waits(here: World, server: FakeImap, tmp_path: Path) -> None:
    def settled(budgets: str = "", **more: Any) -> Hands:
        toml = imap_toml("box", server.port, server.ca_file, tmp_path, "anna", server.password, **more)
        return hands(here.ctx, tmp_path, toml, budgets)

    at = settled("society_per_hour_min = 1\n")
    async with watching(at):
        await at.learnt()
        for number in range(3):
            server.add(blank_mail(f"p{number}@phone.example", number), NOW)
        await at.until_ledger(FILED, OVER, OVER)
    same = settled("society_per_hour_min = 1\n", folder="Inbox")
    async with watching(same):
        await same.until(partial(_asked, server, "SELECT", 2))
        await same.until(partial(_asked, server, "IDLE", 2))
        assert await same.ledger() == [FILED, OVER, OVER]
        assert "imap-moved" not in await kinds(same)
    other = settled(AMPLE, folder="Robot")
    other.now += 90 * MINUTE
    async with watching(other):
        await other.until(partial(_raised, other, "imap-moved"))
        assert await other.ledger() == []
    async with at.ctx.store.read() as tx:
        (text,) = [row.text for row in await alarms(tx) if row.kind == "imap-moved"]
    assert "2 mails" in text
    assert "`mailbot imap rescan box --since 2h`" in text
    async with at.ctx.store.begin() as tx:
        assert await rescan(tx, "box", other.now - 2 * HOUR)
    async with watching(other):
        await other.until(partial(_answered, other, 3))


async def test_a_waiting_mail_that_somebody_deletes(here: World, server: FakeImap, tmp_path: Path) -> None:
    toml = imap_toml("box", server.port, server.ca_file, tmp_path, "anna", server.password, poll_seconds=1)
    at = hands(here.ctx, tmp_path, toml, "society_per_hour_min = 1\n")
    async with watching(at):
        await at.learnt()
        uids = [server.add(blank_mail(f"p{number}@phone.example", number), NOW) for number in range(2)]
        await at.until_ledger(FILED, OVER)
        del server.mails[uids[1]]
        await at.until_ledger(FILED, ("gone", None))


@pytest.mark.parametrize("command", ["SELECT", "SEARCH", "FETCH", "STORE", "CAPABILITY", "LOGIN"])
async def test_a_server_that_falls_silent_is_left_for_a_new_connection(
    at: Hands, server: FakeImap, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(client, "COMMAND_SECONDS", 0.3)
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.3)
    async with watching(at):
        await at.learnt()
    server.add(MAIL, NOW)
    server.deaf[command] = 2
    async with watching(at):
        await at.until_ledger(FILED, seconds=15)
    assert await at.answers() == ["anna@phone.example"]
    assert server.deaf[command] == 0


async def test_case_55_a_mail_that_vanishes_between_search_and_fetch(at: Hands, server: FakeImap) -> None:
    async with watching(at):
        await at.learnt()
    server.vanish = {server.add(MAIL, NOW)}
    server.add(blank_mail("berta@phone.example", 2), NOW)
    async with watching(at):
        await at.until_ledger(("gone", None), FILED)
    assert await at.answers() == ["berta@phone.example"]
    assert server.sessions == 2


async def test_case_56_a_text_that_looks_like_an_answer(here: World, server: FakeImap, tmp_path: Path) -> None:
    at = settle(here, server, tmp_path, addresses=["touroku@yokokou.example", "helpdesk@hpe.example"])
    text = "困っています (\r\nA1 OK (\r\n* 2 EXPUNGE\r\n* BYE\r\n+ idling\r\n) {5}\r\n" + "x" * 9000 + "\r\n"
    async with watching(at):
        await at.learnt()
        server.add(blank_mail("anna@phone.example", to="helpdesk@hpe.example", text=text), NOW)
        server.add(blank_mail("berta@phone.example", 2, headers="X-Odd: A1 OK (\r\n * 3 FETCH (UID 9\r\n"), NOW)
        await at.until_ledger(FILED, FILED)
    assert server.sessions == 1
    async with at.ctx.store.read() as tx:
        purposes = {row.purpose for row in await tx.execute(select(inbox))}
    assert purposes == {"help", "registration"}
    assert any("BODY.PEEK[TEXT]" in one for one in server.commands)
    assert sum("BODY.PEEK[TEXT]" in one for one in server.commands) == 1, "nobody reads the text of a blank mail"


@pytest.mark.parametrize(
    ("missing", "moved"),
    [("", True), ("MOVE", True), ("UIDPLUS", True), ("MOVE UIDPLUS", False), ("MOVE UIDPLUS IDLE", False)],
)
@pytest.mark.parametrize("permanent", [r"\Seen \Flagged \Deleted \*", r"\Seen \Flagged \Deleted"])
async def test_case_57_servers_that_can_little(
    here: World, server: FakeImap, tmp_path: Path, missing: str, moved: bool, permanent: str
) -> None:
    at = settle(here, server, tmp_path, done_folder="Done", poll_seconds=1)
    server.capabilities = " ".join(one for one in server.capabilities.split() if one not in missing.split())
    server.permanent = permanent
    async with watching(at):
        await at.learnt()
        server.add(MAIL, NOW)
        await at.until_ledger(FILED)
        server.add(blank_mail("berta@phone.example", 2), NOW)
        await at.until_ledger(FILED, FILED)
    assert await at.answers() == ["anna@phone.example", "berta@phone.example"]
    places = [*server.mails.values(), *server.moved.get("Done", [])]
    mark = "$RobotDone" if r"\*" in permanent else r"\Flagged"
    assert len(places) == 2
    assert all(mark in mail.flags for mail in places)
    assert (len(server.mails) == 0) is moved
    assert not any(one == "EXPUNGE" for one in server.commands), "a plain EXPUNGE takes other people's mails along"


async def test_a_copy_that_could_not_be_expunged_is_not_made_again(
    here: World, server: FakeImap, tmp_path: Path
) -> None:
    at = settle(here, server, tmp_path, done_folder="Done", poll_seconds=1)
    server.capabilities = "IMAP4rev1 IDLE UIDPLUS"
    async with watching(at):
        await at.learnt()
        server.no["EXPUNGE"] = 3
        server.add(MAIL, NOW)
        await at.until(partial(_asked, server, "EXPUNGE"))
        assert await kinds(at) == set()
        at.now += HOUR + MINUTE
        await at.until(partial(_raised, at, "imap-unfiled"))
        server.no["EXPUNGE"] = 0
        at.now += HOUR + MINUTE
        await at.until_ledger(FILED)
    assert (len(server.mails), len(server.moved["Done"])) == (0, 1)


async def test_case_58_a_password_that_changed(at: Hands, server: FakeImap) -> None:
    server.password = "neu"
    patience = replace(QUICK, refused=300, refused_longest=1800)
    async with watching(at, patience=patience):
        await at.until(lambda: _raised(at, "imap-refused"))
        await asyncio.sleep(0.5)
        assert server.asked("LOGIN") == 1, "servers lock accounts that keep trying"
        box = at.ctx.settings.site.imap["box"]
        box.password_file.write_text("neu\n")  # staff mend it
        await at.learnt()
        server.add(MAIL, NOW)
        await at.until_ledger(FILED)
    assert server.asked("LOGIN") == 2


async def test_of_two_mailboxes_that_are_refused_each_has_its_words(
    here: World, server: FakeImap, tmp_path: Path
) -> None:
    place = (server.port, server.ca_file, tmp_path)
    ours = {"a": "touroku@yokokou.example", "b": "info@yokokou.example"}
    boxes = [imap_toml(name, *place, name, "falsch", addresses=[address]) for name, address in ours.items()]
    at = hands(here.ctx, tmp_path, "\n".join(boxes))

    async def both() -> bool:
        return len(await _troubles(at)) == 2

    async with watching(at, patience=replace(QUICK, refused=300)):
        await at.until(both)
    assert {name: (when, f"login of {name}" in words) for name, (when, words) in (await _troubles(at)).items()} == {
        "a": (NOW, True),
        "b": (NOW, True),
    }


async def _troubles(at: Hands) -> dict[str, tuple[int, str]]:
    async with at.ctx.store.read() as tx:
        return await troubles(tx)


async def _raised(at: Hands, kind: str) -> bool:
    return kind in await kinds(at)


async def test_case_58_a_token_that_ended_and_is_renewed(here: World, server: FakeImap, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("ya29.old\n")
    token.chmod(0o600)
    server.token = "ya29.new"
    at = settle(here, server, tmp_path, password_file=None, token_file=str(token))
    async with watching(at, patience=replace(QUICK, refused=300)):
        await at.until(lambda: _raised(at, "imap-refused"))
        token.write_text("ya29.new")
        server.add(MAIL, NOW)
        await at.learnt()
        server.add(blank_mail("berta@phone.example", 2), NOW)
        await at.until_ledger(FILED)
    assert server.sasl == [f"user=anna\1auth=Bearer {word}\1\1" for word in ("ya29.old", "ya29.new")]
    assert await at.answers() == ["berta@phone.example"]


async def test_a_token_that_is_renewed_while_the_old_one_is_tried(
    here: World, server: FakeImap, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    token.chmod(0o600)
    server.token = "new"

    async def renew(verb: str) -> None:
        if verb == "AUTHENTICATE" and not server.sasl:
            token.write_text("new\n")

    server.before = renew
    at = settle(here, server, tmp_path, password_file=None, token_file=str(token))
    async with watching(at, patience=replace(QUICK, refused=300)):
        await at.learnt()
    assert len(server.sasl) == 2


async def test_a_server_out_of_order_is_no_wrong_password(at: Hands, server: FakeImap) -> None:
    server.refusal, good = "[UNAVAILABLE] try later", server.password
    server.password = "-"
    async with watching(at):
        await at.until(lambda: _asked(server, "LOGIN", 3))
        assert await kinds(at) == set()
        at.now += 6 * MINUTE
        await at.until(lambda: _raised(at, "imap-down"))
        server.password = good
        await at.learnt()
        server.add(MAIL, NOW)
        await at.until_ledger(FILED)


async def test_thousands_of_lines_at_once(at: Hands, server: FakeImap) -> None:
    server.flood = 3000
    async with watching(at):
        await at.learnt()
        server.add(MAIL, NOW)
        await at.until_ledger(FILED)
    assert server.sessions == 1


async def test_mail_announced_in_the_middle_of_another_command(at: Hands, server: FakeImap) -> None:
    """Such an EXISTS is never pushed again."""
    async with watching(at):
        await at.learnt()
        server.late = MAIL
        server.add(blank_mail("berta@phone.example", 2), NOW)
        await at.until_ledger(FILED, FILED)
    assert await at.answers() == ["anna@phone.example", "berta@phone.example"]


async def test_mail_announced_while_what_was_left_half_done_is_filed(
    at: Hands, server: FakeImap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "COMMAND_SECONDS", 0.3)
    async with watching(at):
        await at.learnt()
        server.deaf["STORE"] = 1
        server.add(blank_mail("berta@phone.example", 2), NOW)
        await at.until_ledger(("taken", "accepted"))
    monkeypatch.setattr(client, "COMMAND_SECONDS", 60)
    server.late = MAIL
    async with watching(at):
        await at.until_ledger(FILED, FILED)


class Choking:
    """A funnel that fails with some mails."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    async def receive(self, envelope: Envelope) -> Status:
        if b"receive@" in envelope.content:
            raise ZeroDivisionError
        return await self._reception.receive(envelope)

    def place(self, envelope: Envelope) -> tuple[str, Purpose, bytes]:
        if b"place@" in envelope.content:
            raise ZeroDivisionError
        return self._reception.place(envelope)


async def test_a_mail_that_makes_us_fail_waits_and_blocks_no_other(at: Hands, server: FakeImap) -> None:
    async with watching(at):
        await at.learnt()
    for number, name in enumerate(("place", "receive", "anna", "berta")):
        server.add(blank_mail(f"{name}@phone.example", number), NOW)
    async with watching(at, wrap=Choking):
        await at.until_ledger(("waiting", None), ("waiting", "4.3.0"), FILED, FILED)
        assert server.sessions == 2
    async with watching(at):  # a repaired robot
        at.now += MINUTE
        await at.until_ledger(*[FILED] * 4)


async def test_a_mail_that_cannot_be_fetched_but_is_there_waits(at: Hands, server: FakeImap) -> None:
    async with watching(at):
        await at.learnt()
    server.add(MAIL, NOW)
    server.no["FETCH"] = 1
    async with watching(at):
        await at.until_ledger(("waiting", None))
        assert server.no["FETCH"] == 0
    at.now += MINUTE
    async with watching(at):
        await at.until_ledger(FILED)


async def test_a_search_that_finds_nothing_by_mistake(here: World, server: FakeImap, tmp_path: Path) -> None:
    """Once, what waits is asked for by its number; where that finds nothing either, it is taken when it appears."""
    toml = imap_toml("box", server.port, server.ca_file, tmp_path, "anna", server.password)
    at = hands(here.ctx, tmp_path, toml, "society_per_hour_min = 1\n")
    for number in range(2):
        server.add(blank_mail(f"h{number}@phone.example", f"h{number}"), NOW)
    async with watching(at):
        await at.learnt()
    for number in range(2):
        server.add(blank_mail(f"p{number}@phone.example", number), NOW)
    async with watching(at):
        await at.until_ledger(FILED, OVER)
    for blind, state in ((1, OVER), (2, ("gone", None))):
        server.blind, idled = blind, server.asked("IDLE")
        async with watching(at):
            await at.until(partial(_asked, server, "IDLE", idled + 1))
            assert await at.ledger() == [FILED, state]
    at.now += HOUR
    async with watching(at):
        await at.until_ledger(FILED, FILED)


@pytest.mark.parametrize("permanent", [r"\Seen \Flagged \Deleted \*", r"\Seen \Flagged \Deleted"])
async def test_numbers_that_are_given_again_while_the_robot_idles(
    here: World, server: FakeImap, tmp_path: Path, permanent: str
) -> None:
    """Also those of mails that lay there before the robot. One that only looks new by its day is not answered."""
    at = settle(here, server, tmp_path, poll_seconds=1)
    server.permanent = permanent
    for number in range(2):
        server.add(blank_mail(f"h{number}@phone.example", f"h{number}"), NOW)
    async with watching(at):
        await at.learnt()
        server.add(MAIL, NOW)
        await at.until_ledger(FILED)
    del server.mails[102], server.mails[103]
    server.uid_next, server.numbers, at.now = 102, count(102), NOW + 3 * DAY
    async with watching(at):
        await at.until(partial(_asked, server, "IDLE", server.asked("IDLE") + 1))
        server.add(blank_mail("berta@phone.example", 2, date=at.now), at.now)
        server.add(blank_mail("old@phone.example", 3, date=NOW), at.now)
        await at.until_ledger(FILED, ("ignored", "too-old"))
    assert await at.answers() == ["anna@phone.example", "berta@phone.example"]
    assert await kinds(at) == {"imap-renumbered", "imap-ignored"}


@pytest.mark.parametrize("return_path", ["", "<>", "<a b@phone.example>"])
async def test_a_mail_without_a_sender_is_never_answered(at: Hands, server: FakeImap, return_path: str) -> None:
    async with watching(at):
        await at.learnt()
        server.add(blank_mail("anna@phone.example", return_path=return_path), NOW)
        await at.until_ledger(("filed", "null-sender"))
    assert await at.answers() == []


async def test_whom_a_mail_is_for(here: World, server: FakeImap, tmp_path: Path) -> None:
    """Several societies in one mailbox; the society's address may stand in any header a server or phone writes."""
    addresses = ["touroku@yokokou.example", "helpdesk@hpe.example"]
    at = settle(here, server, tmp_path, addresses=addresses)
    async with watching(at):
        await at.learnt()
        mails = [
            blank_mail("a@phone.example", 1, to="helpdesk@hpe.example"),
            blank_mail(
                "b@phone.example", 2, to="x@y.example", headers="Delivered-To: HelpDesk+abcdefgh@hpe.example\r\n"
            ),
            blank_mail(
                "c@phone.example",
                3,
                to="x@y.example",
                headers="Cc: =?utf-8?q?a?= <helpdesk@hpe.example>, b@c.example\r\n",
            ),
            blank_mail("d@phone.example", 4, to="undisclosed-recipients:;"),
            blank_mail("e@phone.example", 5, to="touroku@omron.example"),
        ]
        for mail in mails:
            server.add(mail, NOW)
        await at.until_ledger(*[FILED] * 5)
    async with at.ctx.store.read() as tx:
        found = {row.from_address[0]: (row.society, row.tag) for row in await tx.execute(select(inbox))}
    assert found == {
        "a": ("hpe", None),
        "b": ("hpe", "abcdefgh"),
        "c": ("hpe", None),
        "d": ("yokokou", None),
        "e": ("yokokou", None),
    }


class ReadOnly:
    """A database that was just made a standby."""

    def __init__(self) -> None:
        self.refused = 0

    def begin(self) -> Any:
        self.refused += 1
        raise InternalError("DELETE", None, Exception("cannot execute DELETE in a read-only transaction"))


async def test_a_database_that_is_read_only_for_a_while(at: Hands, server: FakeImap) -> None:
    stop, standby = asyncio.Event(), ReadOnly()

    async def refused() -> bool:
        return standby.refused >= 6 or task.done()

    patience = replace(QUICK, longest=0.01, alarm=0)
    box = Mailbox("box", at.ctx.settings, cast(Store, standby), Reception(at.ctx, 1, UNCHECKED), at.clock, patience)
    task = asyncio.create_task(box.run(stop))
    await at.until(refused)
    assert not task.done()
    stop.set()
    await task


async def test_a_mailbox_that_fails_harms_no_other(here: World, server: FakeImap, tmp_path: Path) -> None:
    toml = imap_toml("box", server.port, server.ca_file, tmp_path, "anna", server.password)
    toml += imap_toml("dead", 1, server.ca_file, tmp_path, "berta", "x")
    at = hands(here.ctx, tmp_path, toml)
    async with watching(at):
        await at.learnt()
        server.add(MAIL, NOW)
        await at.until_ledger(FILED)
    at.now += HOUR
    async with at.ctx.store.read() as tx:
        assert await listed(tx, ignored=True) == []
