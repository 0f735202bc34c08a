"""`mailbot queue pause`, `mailbot purge`, and small things staff type."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2

from tests.support.member import Member
from tests.support.robot import Robot, robot
from tests.support.sink import Sink

YK = "touroku@yokokou.example"


async def cli(made: Robot, *arguments: str, check: bool = True) -> str:
    done = await asyncio.to_thread(made.command, *arguments, check=check)
    return done.stdout + done.stderr


async def ask(made: Robot, *arguments: str) -> Any:
    return await asyncio.to_thread(made.json, *arguments)


async def state(made: Robot, sender: str) -> str:
    return next(str(one["state"]) for one in await ask(made, "queue", "list") if one["to"] == sender)


async def test_held_mails_wait_and_forms_stay_open(tmp_path: Path, smtp_sink: Sink) -> None:
    overrides = {"COURIER_POLL_MS": "100"}
    async with robot(tmp_path, smtp_sink.port, overrides=overrides) as made:
        assert "wait now" in await cli(made, "queue", "pause", "--reason", "relay moves")
        assert "wait already" in await cli(made, "queue", "pause", "--reason", "again")
        assert (await asyncio.to_thread(made.send_blank_mail, "a@phone.example", YK))[0] == 250
        async with Member(made.web) as member:
            page = await member.submit(await member.get("/shochiku/entry"), {"address": "b@phone.example"})
            assert page.heading == "メールをご覧ください"
        words = await cli(made, "queue", "status")
        assert "PAUSED: mails of every society wait since " in words
        assert "(relay moves)" in words
        assert {one["paused"] for one in await ask(made, "queue", "status")} == {True}
        told = await cli(made, "check", check=False)
        assert "MEND  outgoing mail: mails of every society wait since" in told
        token = (tmp_path / "var" / "ops.token").read_text().strip()
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{made.ops_port}", auth=("x", token)) as ops:
            front = (await ops.get("/", timeout=30)).text
        assert "Mails of every society wait since" in front
        assert "relay moves" in front
        await asyncio.sleep(1)  # ten looks of the courier
        assert smtp_sink.mails == []
        assert await state(made, "a@phone.example") == "queued"

        assert "wait now" in await cli(made, "queue", "pause", "--society", "yokokou", "--reason", "wrong letter")
        still = await cli(made, "queue", "resume")
        assert "leave again" in still
        assert "Still PAUSED: mails of yokokou wait since" in still
        assert "`mailbot queue resume --society yokokou` lets them go" in still
        await smtp_sink.wait(to="b@phone.example")
        assert smtp_sink.to("a@phone.example") == []
        assert {
            one["society"]: one["paused"] for one in await ask(made, "queue", "status") if one["state"] == "queued"
        } == {"yokokou": True}
        await cli(made, "queue", "resume", "--society", "yokokou")
        await smtp_sink.wait(to="a@phone.example")
        assert "were not paused" in await cli(made, "queue", "resume")
        assert "ok    outgoing mail: leaves as it comes" in await cli(made, "check", check=False)
        refused = await asyncio.to_thread(
            made.command, "queue", "pause", "--society", "nobody", "--reason", "x", check=False
        )
        assert (refused.returncode, "nobody" in refused.stderr) == (1, True)


async def test_a_mail_whose_time_ran_out_while_held_is_not_sent(tmp_path: Path, smtp_sink: Sink) -> None:
    async with robot(tmp_path, smtp_sink.port, overrides={"COURIER_POLL_MS": "100"}) as made:
        await cli(made, "queue", "pause", "--reason", "relay moves")
        assert (await asyncio.to_thread(made.send_blank_mail, "a@phone.example", YK))[0] == 250
        with closing(sqlite3.connect(tmp_path / "var" / "mailbot.sqlite3", timeout=30)) as base, base:
            base.execute("UPDATE outbox SET deadline_at = created_at + 1")
        await cli(made, "queue", "resume")
        for _ in range(100):
            if await state(made, "a@phone.example") == "expired":
                break
            await asyncio.sleep(0.1)
        assert await state(made, "a@phone.example") == "expired"
        assert smtp_sink.mails == []


def test_purging_to_the_end(tmp_path: Path) -> None:
    office = Robot(tmp_path, 1)
    assert "0 rows removed." in office.command("purge").stdout
    with closing(sqlite3.connect(tmp_path / "var" / "mailbot.sqlite3", timeout=30)) as base, base:
        columns = "society, scope, subject, minute_at, minute_count, hour_at, hour_count, day_at, day_count"
        rows = [("yokokou", "web", f"n{number}", 1, 1, 1, 1, 1, 1) for number in range(1203)]
        base.executemany(f"INSERT INTO budget ({columns}) VALUES ({', '.join('?' * 9)})", rows)
    would = {one["table"]: one["rows"] for one in office.json("purge", "--dry-run")}
    assert {name: count for name, count in would.items() if count} == {"budget": 1203}
    assert "1203 rows would go." in office.command("purge", "--dry-run").stdout
    assert {one["table"]: one["rows"] for one in office.json("purge")} == would
    assert not any(one["rows"] for one in office.json("purge", "--dry-run"))
    (line,) = [line for line in office.command("audit", "export").stdout.splitlines() if "purged" in line]
    assert '""count"":1203' in line


def test_batches_in_the_audit_are_named_as_elsewhere(tmp_path: Path) -> None:
    office = Robot(tmp_path, 1)
    file = tmp_path / "roster.csv"
    file.write_text(
        "記号,番号,氏名,カナ氏名,生年月日,メールアドレス\n1,2,鈴木　一郎,スズキ　イチロウ,1970-02-03,\n", "utf-8"
    )
    batch = office.json("roster", "import", "yokokou", str(file))["batch"]
    (line,) = [line for line in office.command("audit", "export").stdout.splitlines() if "roster-imported" in line]
    assert f'""batch"":""{batch}""' in line
    assert "whole" in office.command("audit", "verify").stdout


def test_a_qr_code_of_another_kind_is_refused_with_those_there_are(tmp_path: Path) -> None:
    refused = Robot(tmp_path, 1).command("qr", "yokokou", "--out", str(tmp_path / "x.gif"), check=False)
    assert refused.returncode == 2
    assert all(kind in refused.stderr for kind in (".svg", ".png", ".pdf"))
    assert not (tmp_path / "x.gif").exists()


def test_a_qr_code_is_a_new_file_and_whole(tmp_path: Path) -> None:
    office, out = Robot(tmp_path, 1), tmp_path / "code.png"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))  # what the command inherits: like a full disk
    try:
        full = office.command("qr", "yokokou", "--out", str(out), check=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (full.returncode, str(out) in full.stderr, out.exists()) == (1, True, False)
    office.command("qr", "yokokou", "--out", str(out))
    assert out.read_bytes().startswith(b"\x89PNG")
    refused = office.command("qr", "yokokou", "--out", str(out), check=False)
    assert (refused.returncode, "File exists" in refused.stderr) == (1, True)
