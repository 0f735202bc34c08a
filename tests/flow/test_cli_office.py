"""`mailbot roster`, `member` and `society` from the command line, and a large import while mail comes in."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from pathlib import Path

import pytest

from tests.support.robot import REPOSITORY, Robot, robot
from tests.support.sink import Sink

HEAD = "記号,番号,氏名,カナ氏名,生年月日,メールアドレス\n"
KANA = "アイウエオカキクケコ"
ROWS, SENDERS = 5000, 5
BUDGETS = {f"BUDGETS_{name}": "1000000" for name in ("DOMAIN_PER_HOUR", "NETWORK_PER_HOUR", "SOCIETY_PER_HOUR_MIN")}
PERSONAL = ("鈴木", "スズキ", "1970", "suzuki@", "髙橋", "タカハシ")


@pytest.fixture
def office(tmp_path: Path) -> Robot:
    """A configuration with an empty database; nothing runs."""
    return Robot(tmp_path, 1)


def demo_roster(society: str) -> str:
    return str(REPOSITORY / "config" / "demo-rosters" / f"{society}.csv")


@pytest.mark.parametrize(("society", "people", "letters"), [("yokokou", 8, 7), ("shochiku", 6, 6)])
def test_the_demo_rosters(office: Robot, tmp_path: Path, society: str, people: int, letters: int) -> None:
    dry = office.json("roster", "import", society, demo_roster(society), "--dry-run")
    assert (dry["joined"], dry["complaints"], dry["batch"]) == (people, [], None)
    done = office.json("roster", "import", society, demo_roster(society))
    assert (done["joined"], done["letters"]) == (people, letters)
    again = office.command("roster", "import", society, demo_roster(society)).stdout
    assert "Nothing has changed since the last import." in again
    out = tmp_path / "letters.csv"
    assert f"{letters} letters written" in office.command("roster", "letters", society, "--out", str(out)).stdout
    assert out.stat().st_mode & 0o777 == 0o600
    with out.open(encoding="utf-8-sig") as stream:
        assert len(list(csv.DictReader(stream))) == letters
    refused = office.command("roster", "letters", society, "--out", str(out), check=False)
    assert (refused.returncode, "File exists" in refused.stderr) == (1, True)
    changes = office.json("roster", "diff", society)
    assert {one["verdict"] for one in changes} == {"joined"}
    assert f"{people} removed" in office.command("roster", "undo", society).stdout
    nothing = office.command("roster", "undo", society, check=False)
    assert (nothing.returncode, nothing.stderr) == (1, "there is no import to undo\n")


def test_a_bad_roster_is_refused_without_a_name(office: Robot, tmp_path: Path) -> None:
    file = tmp_path / "suzuki.csv"
    file.write_text(HEAD + "1,2,鈴木　一郎,スズキ,1970-02-30,suzuki@\n1,2,鈴木,鈴木,1970-01-02,\n", "utf-8")
    for command in (("import",), ("import", "--dry-run"), ("diff",)):
        done = office.command("roster", command[0], "yokokou", str(file), *command[1:], check=False)
        assert done.returncode == 1
        for place in ("2行目: 「生年月日」(5列目)", "2行目: 「メールアドレス」(6列目)", "3行目: 「カナ氏名」(4列目)"):
            assert f"suzuki.csv {place}" in done.stderr
        assert not [word for word in PERSONAL if word in done.stdout + done.stderr]
    assert office.json("roster", "diff", "yokokou") == []
    assert office.command("roster", "import", "nobody", str(file), check=False).returncode == 1
    assert office.command("roster", "import", "yokokou", check=False).returncode == 2
    missing = office.command("roster", "import", "yokokou", str(tmp_path / "none.csv"), check=False)
    assert (missing.returncode, "ファイルを開けません" in missing.stderr) == (1, True)


def test_members_are_found_and_masked(office: Robot, tmp_path: Path) -> None:
    office.command("roster", "import", "yokokou", demo_roster("yokokou"))
    for text in ("髙橋 太郎", "ﾀｶﾊｼﾀﾛｳ", "10482957"):
        (one,) = office.json("member", "find", "yokokou", text)
        assert (one["name"], one["kana"], one["state"]) == ("髙＊＊＊", "タ＊＊＊", "invited")
    assert len(office.json("member", "find", "yokokou", "101-2001")) == 4
    assert office.json("member", "find", "yokokou", "髙橋") == []
    card = office.command("member", "show", "yokokou", one["member"]).stdout
    assert "10482957" in card
    assert not [word for word in ("髙橋", "1974", "架空町", "83051746") if word in card]
    shown = json.loads(office.command("member", "show", "yokokou", one["member"], "--reveal", "--json").stdout)
    assert (shown["name"], shown["birth date"], shown["number"]) == ("髙橋　太郎", "1974-05-18", "2001")
    assert "83051746" not in json.dumps(shown)
    assert office.command("member", "show", "yokokou", "aaaaaaaaaaaab", check=False).returncode == 1
    assert office.command("member", "show", "yokokou", "x", check=False).returncode == 1
    out = tmp_path / "members.csv"
    assert "0 members written" in office.command("member", "export", "yokokou", "--out", str(out)).stdout
    listed = office.json("society", "list")
    assert {one["society"]: one["on the roster"] for one in listed if one["on the roster"]} == {"yokokou": 7}


def test_societies_in_words(office: Robot) -> None:
    words = office.command("society", "explain", "yokokou").stdout
    for fact in ("touroku@yokokou.example", "3時間", "「仮パスワード」", "7文字目と8文字目", "045-000-0000"):
        assert fact in words
    rules = {one["rule"] for one in office.json("society", "lint", "yokokou")}
    assert {"password.require", "reissue", "temporary.password"} <= rules
    assert "password.expires_days" in {one["rule"] for one in office.json("society", "lint", "shochiku")}


async def test_mail_is_answered_while_a_large_roster_goes_in(tmp_path: Path, smtp_sink: Sink) -> None:
    file = tmp_path / "large.csv"
    with file.open("w", encoding="cp932") as stream:
        stream.write(HEAD)
        for n in range(ROWS):
            kana = "".join(KANA[int(digit)] for digit in str(n))
            stream.write(f"{n // 1000},{n},{n}番,{kana},1980-01-02,m{n}@mail.example\n")
    async with robot(tmp_path, smtp_sink.port, overrides=BUDGETS) as made:
        done = asyncio.Event()
        slowest, sent = 0.0, 0

        async def phone(number: int) -> None:
            nonlocal slowest, sent
            while not done.is_set():
                sent += 1
                sender, begun = f"p{sent}@phone{number}.example", time.monotonic()
                code, text = await asyncio.to_thread(made.send_blank_mail, sender, "touroku@yokokou.example")
                assert code == 250, text
                slowest = max(slowest, time.monotonic() - begun)
                await asyncio.sleep(0.02)

        async def import_() -> None:
            try:
                for expected in ("joined 5000", "Nothing has changed"):
                    out = await asyncio.to_thread(made.command, "roster", "import", "yokokou", str(file))
                    assert expected in out.stdout
                undone = await asyncio.to_thread(made.command, "roster", "undo", "yokokou")
                assert "5000 removed" in undone.stdout
            finally:
                done.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(import_())
            for number in range(SENDERS):
                group.create_task(phone(number))
        assert sent > SENDERS
        print(f"{sent} mails, the slowest answered after {slowest:.2f} s")
        await smtp_sink.wait(sent, seconds=60)
