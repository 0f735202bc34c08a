"""What clerks do for one member, with the real robot: mails over SMTP, pages over HTTP, commands on the line."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.member import Member, log_in
from tests.support.robot import body, link_in
from tests.support.rows import HOUR, NEXT_PASSWORD, PASSWORD, Account, Stage, person, stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

YK, STAYS = "yokokou", "hayase"
REGISTRATION = "touroku@yokokou.example"
WRONG = "ログインIDまたは仮パスワードが違います"
# Who leaves keeps the account; everything else by default.
SOCIETY = """
name = "早瀬健康保険組合"
left_closes_login = false

[addresses]
robot = "info@hayase.example"
bounce = "bounce@hayase.example"

[[help]]
kind = "phone"
name = "早瀬健康保険組合"
value = "03-0000-1111"

[journeys.paper]
starts = ["web-form"]
steps = ["temporary-login", "credentials"]
"""
SECRET = {"郵便番号": "100-0001", "住所": "架空市秘密町一丁目", "保護": "1"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    people = {YK: [person("守屋秘子", "4711", "ひみ", **SECRET)], STAYS: []}
    async with stage(tmp_path_factory.mktemp("clerk"), people, {STAYS: SOCIETY}) as made:
        yield made


async def cli(at: Stage, *arguments: str, check: bool = True, stdin: str | None = None) -> str:
    done = await asyncio.to_thread(at.robot.command, *arguments, check=check, stdin=stdin)
    return done.stdout + done.stderr


async def ask(at: Stage, *arguments: str) -> Any:
    return await asyncio.to_thread(at.robot.json, *arguments)


async def member_id(at: Stage, society: str, text: str) -> str:
    (found,) = await ask(at, "member", "find", society, text)
    return str(found["member"])


async def timeline(at: Stage, society: str, member: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await ask(at, "member", "timeline", society, member)
    assert [one["at"] for one in found] == sorted(one["at"] for one in found)
    return found


async def until(at: Stage, society: str, member: str, event: str, count: int = 1) -> list[dict[str, Any]]:
    """The timeline once it has so many of these."""
    for _ in range(60):
        found = await timeline(at, society, member)
        if len([one for one in found if one["event"] == event]) >= count:
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(f"no {event}: {found}")


async def test_the_timeline_reads_like_what_happened(at: Stage) -> None:
    letter, address = at.letter(YK), at.new_address()
    at.sink.answer("rcpt", "451 4.2.2 mailbox full")  # the carrier puts the first try off
    assert (await asyncio.to_thread(at.robot.send_blank_mail, address, REGISTRATION))[0] == 250
    for _ in range(100):
        (mail,) = [one for one in await ask(at, "queue", "list") if one["to"] == address]
        if mail["attempts"]:
            break
        await asyncio.sleep(0.1)
    await cli(at, "queue", "retry", mail["id"])
    link = link_in((await at.mails(address))[-1])
    login_id = at.new_login_id()
    async with Member(at.robot.web) as member:
        page = await member.submit(await member.get(link), {"login_id": letter.printed_id, "password": "wrong"})
        assert page.errors
        page = await member.submit(page, {"login_id": letter.printed_id, "password": letter.printed_password})
        typed = {"login_id": login_id, "password": PASSWORD, "password_again": PASSWORD}
        assert (await member.submit(page, typed)).url.endswith("/done")
        await log_in(member, YK, login_id, PASSWORD)
    who = await member_id(at, YK, login_id)
    found = await until(at, YK, who, "mail-delivered", 2)
    first = dict.fromkeys(one["event"] for one in found)
    order = ("letter-made", "mail-in", "mail-queued", "mail-deferred", "mail-delivered", "journey-begun", "link-used")
    assert [event for event in first if event in order] == list(order)
    assert {"roster-joined", "letter-used", "registered", "login"} <= set(first)
    what = {one["event"]: one["what"] for one in found}
    assert what["mail-in"] == f"空メールが {address} から届いた（返信する）"
    assert "あて先のメールボックスがいっぱいです。あとでもう一度送ります（451 4.2.2）" in what["mail-deferred"]
    assert "メールサーバーが受け取りました" in what["mail-delivered"]

    shown = await cli(at, "member", "timeline", YK, who)
    lines = shown.splitlines()
    assert lines[0].split() == ["at", "event", "what"]
    assert abs(datetime.fromisoformat(lines[-1][:19] + "+09:00").timestamp() - found[-1]["at"] / 1000) < 1
    everything = shown + json.dumps(found, ensure_ascii=False)
    secrets = (letter.printed_id, letter.printed_password, PASSWORD, link.rpartition("/")[2])
    assert not [one for one in secrets if one in everything]
    for bad in ("x", "aaaaaaaaaaaab"):
        assert "member find" in await cli(at, "member", "timeline", YK, bad, check=False)


async def test_a_registration_is_taken_back_and_begun_afresh(at: Stage) -> None:
    account = await at.register(YK)
    who = await member_id(at, YK, account.login_id)
    async with at.logged_in(YK, account) as (member, _):
        refused = await asyncio.to_thread(at.robot.command, "member", "reset", YK, who, check=False, stdin="n\n")
        assert refused.returncode == 1
        assert (await member.get(f"/{YK}/home")).status == 200
        done = await cli(at, "member", "reset", YK, who, stdin="y\n")
        assert "1 address(es) are told" in done
        assert "A new letter waits to be printed" in done
        assert not (await member.get(f"/{YK}/home")).url.endswith("/home")
    (told,) = await at.mails(account.address, "利用登録の取り消しのお知らせ")
    assert "これまでのログインIDとパスワードは、もう使えません" in body(told)
    assert not [word for word in (account.login_id, account.letter.row["氏名"]) if word in body(told)]
    async with Member(at.robot.web) as member:
        page = await log_in(member, YK, account.login_id, account.password)
        assert page.errors
        link = await at.invite(member, YK, at.new_address())
        old = {"login_id": account.letter.printed_id, "password": account.letter.printed_password}
        assert (await member.submit(await member.get(link), old)).errors  # the used letter stays used
    shown = await ask(at, "member", "show", YK, who)
    assert (shown["state"], shown["login id"], shown["addresses"]) == ("invited", None, [])
    assert "nothing to take back" in await cli(at, "member", "reset", YK, who, "--yes", check=False)

    # the new letter, as the printer gets it
    file = at.robot.folder / "reset-letters.csv"
    await cli(at, "roster", "letters", YK, "--out", str(file))
    lines = csv.DictReader(file.read_text("utf-8-sig").splitlines())
    (line,) = [line for line in lines if line["氏名"] == account.letter.row["氏名"]]
    assert line["仮ログインID"] != account.letter.printed_id
    new = type(account.letter)(account.letter.row, line["仮ログインID"], line["仮パスワード"])
    again = await at.register(YK, new, login_id=account.login_id)
    async with at.logged_in(YK, again):
        pass
    events = [one["event"] for one in await timeline(at, YK, who)]
    assert events.count("registered") == 2
    assert {"registration-reset", "letter-used"} <= set(events)


async def test_a_paused_letter_is_unlocked(at: Stage) -> None:
    letter, address = at.letter(YK), at.new_address()
    who = await member_id(at, YK, letter.printed_id)
    async with Member(at.robot.web) as member:
        page = await member.get(await at.invite(member, YK, address))
        for _ in range(10):
            page = await member.submit(page, {"login_id": letter.printed_id, "password": "wrong"})
        right = {"login_id": letter.printed_id, "password": letter.printed_password}
        assert (await member.submit(page, right)).errors
        done = await cli(at, "member", "unlock", YK, who)
        assert done == "Wrong entries from the letter, which had paused: forgotten.\n"
        assert not (await member.submit(page, right)).errors
    assert "Nothing was locked or paused." in await cli(at, "member", "unlock", YK, who)
    events = [one["event"] for one in await timeline(at, YK, who)]
    assert events.index("letter-paused") < events.index("member-unlocked")


async def test_a_paused_login_is_unlocked_and_others_stay_paused(at: Stage) -> None:
    account, other = await at.register(YK), await at.register(YK)
    async with Member(at.robot.web) as member:
        for one in (account, other):
            for _ in range(11):
                await log_in(member, YK, one.login_id, "wrong")
        assert (await log_in(member, YK, account.login_id, account.password)).errors
        who = await member_id(at, YK, account.login_id)
        assert "Wrong passwords at the login, from 1 network(s): forgotten." in await cli(
            at, "member", "unlock", YK, who
        )
        assert (await log_in(member, YK, other.login_id, other.password)).errors
        assert (await log_in(member, YK, account.login_id, account.password)).url.endswith("/home")


async def test_a_completion_mail_that_failed_is_sent_again(at: Stage) -> None:
    letter, address = at.letter(YK), at.new_address()
    async with Member(at.robot.web) as member:
        page = await at.credentials_page(member, YK, letter, address)
        at.sink.answer("rcpt", "550 5.7.1 refused by the receiver's filter")
        login_id = at.new_login_id()
        typed = {"login_id": login_id, "password": PASSWORD, "password_again": PASSWORD}
        assert (await member.submit(page, typed)).url.endswith("/done")
    who = await member_id(at, YK, login_id)
    found = await until(at, YK, who, "completion-undelivered")
    (failed,) = [one["what"] for one in found if one["event"] == "mail-failed"]
    assert "受信拒否設定などで断られました（550 5.7.1）" in failed
    assert f"The mail completion goes to {address} once more." in await cli(at, "member", "renotify", YK, who)
    await at.mails(address, "利用登録完了のご案内")
    told = await asyncio.to_thread(at.robot.command, "member", "renotify", YK, who, check=False)
    assert (told.returncode, "a moment ago" in told.stderr) == (1, True)
    nobody = await cli(at, "member", "renotify", YK, await member_id(at, YK, at.letter(YK).printed_id), check=False)
    assert f"a blank mail to {REGISTRATION} brings a new link" in nobody


async def test_who_left_moves_the_address_without_reading_the_old_one(at: Stage) -> None:
    account: Account = await at.register(STAYS)
    new = at.new_address()
    who = await member_id(at, STAYS, account.login_id)
    await at.sql("UPDATE member SET left_on = '2026-01-31' WHERE login_id = ?", account.login_id)
    # by staff, after checking the person: nothing counts before the new mailbox was read
    assert "counts once" in await cli(at, "member", "address", STAYS, who, new)
    assert (await ask(at, "member", "show", STAYS, who))["addresses"] == [f"1: {account.address}"]
    link = await at.link(new, "メールアドレスの確認のお願い")
    async with Member(at.robot.web) as member:
        await member.submit(await member.get(link), button="このアドレスを使う")
    assert (await ask(at, "member", "show", STAYS, who))["addresses"] == [f"1: {new}"]
    assert (await at.mails(account.address, "メールアドレス変更のお知らせ"))[0].rcpt_tos == (account.address,)
    found = await timeline(at, STAYS, who)
    assert {"address-corrected", "address-proved", "link-used"} <= {one["event"] for one in found}
    # by the member, who can still log in
    third = at.new_address()
    async with at.logged_in(STAYS, account) as (member, _):
        page = await member.get(f"/{STAYS}/profile")
        page = await member.submit(page, {"address_1": third, "password": account.password})
        assert not page.errors
        proof = await member.get(await at.link(third, "メールアドレスの確認のお願い"))
        await member.submit(proof, button="このアドレスを使う")
    assert (await ask(at, "member", "show", STAYS, who))["addresses"] == [f"1: {third}"]
    await at.mails(new, "メールアドレス変更のお知らせ")
    for bad in ("no-at", "a@b", ""):
        assert (await cli(at, "member", "address", STAYS, who, bad, check=False)).strip()
    assert "まだ利用登録をしていない方です。" in await cli(
        at, "member", "address", YK, await member_id(at, YK, at.letter(YK).printed_id), new, check=False
    )


async def test_a_protected_person_stays_hidden_until_it_is_recorded(at: Stage) -> None:
    letter = at.letters[YK]["守屋秘子"]
    who = await member_id(at, YK, letter.printed_id)
    hidden = [await cli(at, "member", *words, YK, who) for words in (("show",), ("timeline",))]
    hidden.append(await cli(at, "member", "find", YK, "守屋秘子"))
    hidden.append(json.dumps(await ask(at, "member", "show", YK, who), ensure_ascii=False))
    assert not [word for word in ("架空市", "100-0001", "守屋") for text in hidden if word in text]
    assert "架空市秘密町一丁目" in await cli(at, "member", "show", YK, who, "--reveal")
    revealed = [one for one in await timeline(at, YK, who) if one["event"] == "member-revealed"]
    assert len(revealed) == 1
    assert "cli:" in revealed[0]["what"]


async def test_results_for_the_portal(at: Stage, tmp_path: Path) -> None:
    account = await at.register(STAYS, nickname="＝1+1")
    file, plain = tmp_path / "all.csv", tmp_path / "old.csv"
    told = await ask(at, "member", "export", STAYS, "--out", str(file))
    lines = {line["ログインID"]: line for line in csv.DictReader(file.read_text("utf-8-sig").splitlines())}
    assert told == {"file": str(file), "members": len(lines), "lacking": {}}
    line = lines[account.login_id]
    assert (len(bytes.fromhex(line["個人キー"])), line["番号"]) == (16, account.letter.row["番号"])
    assert (line["メールアドレス1"], line["ニックネーム"]) == (account.address, "'＝1+1")
    assert file.stat().st_mode & 0o777 == 0o600
    refused = await asyncio.to_thread(at.robot.command, "member", "export", STAYS, "--out", str(file), check=False)
    assert (refused.returncode, "File exists" in refused.stderr) == (1, True)
    await at.sql("UPDATE member SET registered_at = registered_at - ? WHERE login_id = ?", 3 * HOUR, account.login_id)
    await cli(at, "member", "export", STAYS, "--out", str(plain), "--since", "2h", "--encoding", "cp932")
    assert account.login_id not in plain.read_text("cp932")
    assert plain.read_bytes()[:2] == "個".encode("cp932")
    assert "--since" in await cli(at, "member", "export", STAYS, "--out", "x", "--since", "soon", check=False)
    assert not list(tmp_path.glob(".*"))  # noqa: ASYNC240  a look at a folder


async def test_the_new_password_after_a_reset_is_no_old_one(at: Stage) -> None:
    """Resetting ends a reissue link that was already mailed."""
    account = await at.register(YK)
    async with Member(at.robot.web) as member:
        await member.submit(await member.get(f"/{YK}/reissue"), {"address": account.address})
        link = await at.link(account.address, "パスワード再発行のご案内")
        await cli(at, "member", "reset", YK, await member_id(at, YK, account.login_id), "--yes")
        page = await member.get(link)
        assert page.status == 410
        assert (await log_in(member, YK, account.login_id, NEXT_PASSWORD)).errors
