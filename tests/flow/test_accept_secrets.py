"""What a thief of the disk finds while the queue is full: no link, no password, no name, no birth date.

The secrets are looked for after the fact, with their real values: the relay takes the mails only after the files were
copied.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path

import pytest

from tests.support.member import Member, Page, log_in, register
from tests.support.robot import HANAKO, JIRO, TARO, Person, Robot, body, invitation, link_in, robot
from tests.support.sink import Sink

TO = "touroku@yokokou.example"
HERS, HIS, THIRD = "hanako@phone.example", "taro@phone.example", "jiro@phone.example"
PASSWORD = "umi-no-mieru9machi"
LATER = "450 4.2.1 the box is asleep"
SECRET_FILES = {"keys.json", "dkim-mailbot1.pem", "ops.token"}  # open the rest; mode 0600, kept apart from backups


def files(made: Robot) -> dict[str, bytes]:
    """Everything the robot has written, as it is on the disk now."""
    found = {path.name: path.read_bytes() for path in (made.folder / "var").rglob("*") if path.is_file()}
    log = re.sub(r"\.\d{6}Z", "Z", made.log)  # six digits by chance are no number of anybody's
    return {name: data for name, data in found.items() if name not in SECRET_FILES} | {"log": log.encode()}


def spellings(secret: str) -> dict[str, bytes]:
    """The ways in which a text could lie in a file."""
    raw = secret.encode()
    found = {
        "utf-8": raw,
        "utf-16-le": secret.encode("utf-16-le"),
        "utf-16-be": secret.encode("utf-16-be"),
        "cp932": secret.encode("cp932"),
        "json": json.dumps(secret)[1:-1].encode(),
        "escaped": secret.encode("unicode_escape"),
        "hex": raw.hex().encode(),
    }
    for shift in range(3):  # base64 has three alignments; the characters at the edges depend on the neighbours
        text = base64.b64encode(b"\0" * shift + raw).decode()
        whole = text[-(-shift * 4 // 3) + (shift > 0) :].rstrip("=")[:-2]
        if len(whole) >= 6:
            found[f"base64+{shift}"] = whole.encode()
    return found


def leaks(where: dict[str, bytes], secrets: dict[str, str]) -> list[str]:
    return [
        f"{what} as {spelling} in {name}"
        for what, secret in secrets.items()
        for spelling, data in spellings(secret).items()
        for name, content in where.items()
        if len(data) >= 6 and data in content  # shorter ones turn up in sealed values by chance
    ]


def facts(who: str, person: Person) -> dict[str, str]:
    """What the roster says of somebody, in every usual way of writing it."""
    year, month, day = person.birth_date.split("-")
    return {
        f"{who}'s name": person.name,
        f"{who}'s family name": person.name[:2],
        f"{who}'s given name": person.name[2:],
        f"{who}'s kana": person.kana,
        f"{who}'s nickname": person.nickname,
        f"{who}'s birth date": person.birth_date,
        f"{who}'s birth date, compact": f"{year}{month}{day}",
        f"{who}'s birth date, slashes": f"{year}/{month}/{day}",
        f"{who}'s birth date, Japanese": f"{year}年{int(month)}月{int(day)}日",
        f"{who}'s number": person.number,
        f"{who}'s symbol and number": f"{person.symbol}{person.number}",
        f"{who}'s printed ID": person.printed_id,
        f"{who}'s printed password": person.printed_password,
    }


async def tried(made: Robot, count: int) -> list[str]:
    """Ids of this many queued mails, once the relay has refused each of them."""
    for _ in range(600):
        rows = await asyncio.to_thread(made.json, "queue", "list", "--state", "queued")
        if len(rows) == count and all(row["attempts"] for row in rows):
            return [row["id"] for row in rows]
        await asyncio.sleep(0.2)
    raise AssertionError(f"{len(rows)} of {count} mails wait: {rows}")


async def proved(member: Member, link: str, person: Person) -> Page:
    form = await member.get(link)
    step = await member.submit(form, {"login_id": person.printed_id, "password": person.printed_password})
    assert step.heading == "利用者情報入力", step.text
    return step


def token(link: str) -> str:
    return link.rsplit("/", 1)[1]


@pytest.mark.timeout(300)
async def test_a_full_queue_holds_no_secret_and_no_person(tmp_path: Path, smtp_sink: Sink) -> None:
    secrets: dict[str, str] = {}
    async with robot(tmp_path, smtp_sink.port, overrides={"LOG_LEVEL": '"debug"'}) as made, Member(made.web) as hers:
        for who, person in (("Hanako", HANAKO), ("Taro", TARO), ("Jiro", JIRO)):
            await asyncio.to_thread(made.import_roster, "yokokou", person.row)
            secrets |= facts(who, person)

        # Hanako is a member already; Taro stands before his last step
        link = await invitation(made, smtp_sink, HERS, TO)
        secrets["Hanako's token"] = token(link)
        done = await register(hers, link, HANAKO.printed_id, HANAKO.printed_password, "hanako-n", PASSWORD)
        assert done.heading == "利用者情報登録完了", done.text
        await smtp_sink.wait(2, to=HERS, seconds=60)
        assert HANAKO.nickname in (await log_in(hers, "yokokou", "hanako-n", PASSWORD)).text
        secrets |= {f"Hanako's cookie {c.name}": str(c.value) for c in hers.client.cookies.jar if c.value}
        link = await invitation(made, smtp_sink, HIS, TO)
        secrets["Taro's token"] = token(link)

        # from now on the relay refuses everything, and the queue fills: completion, reissue, invitation, address proof
        smtp_sink.rule = lambda stage, _: LATER if stage == "rcpt" else None
        async with Member(made.web) as his:
            step = await proved(his, link, TARO)
            fields = {
                "login_id": "taro-na",
                "password": PASSWORD,
                "password_again": PASSWORD,
                "address": "taro2@pc.example",
            }
            assert (await his.submit(step, fields)).heading == "利用者情報登録完了"
            secrets |= {f"Taro's cookie {c.name}": str(c.value) for c in his.client.cookies.jar if c.value}
        secrets["the chosen password"] = PASSWORD
        async with Member(made.web) as anybody:
            page = await anybody.submit(await anybody.get("/yokokou/reissue"), {"address": HERS})
            assert page.status == 200
        assert (await asyncio.to_thread(made.send_blank_mail, THIRD, TO))[0] == 250
        waiting = await tried(made, 4)
        copied = files(made)
        assert {"mailbot.sqlite3", "mailbot.sqlite3-wal", "mailbot.sqlite3-shm", "log"} <= set(copied)

        # the relay recovers: now the real secrets come out
        smtp_sink.rule = None
        for mail in waiting:
            await asyncio.to_thread(made.command, "queue", "retry", mail)
        reissue = (await smtp_sink.wait(3, to=HERS, seconds=60))[2]
        third = (await smtp_sink.wait(to=THIRD, seconds=60))[0]
        proof = (await smtp_sink.wait(to="taro2@pc.example", seconds=60))[0]
        await smtp_sink.wait(2, to=HIS, seconds=60)
        secrets["Jiro's token"] = token(link_in(third))
        secrets["the reissue's token"] = token(link_in(reissue))
        secrets["the proof's token"] = token(link_in(proof))
        (temporary,) = re.findall(r"^仮パスワード：(\S+)$", body(reissue), re.MULTILINE)
        secrets["the temporary password of the reissue"] = temporary

        # they are the real ones: the reissue opens with them
        async with Member(made.web) as member:
            form = await member.get(link_in(reissue))
            change = await member.submit(form, {"login_id": "hanako-n", "temporary_password": temporary})
            assert change.value("password_again") == "", change.text
            assert (await member.get(link_in(third))).heading == "新規利用登録"
        after = files(made)

    assert all(len(secret) >= 2 for secret in secrets.values())
    assert leaks(copied, secrets) == []
    assert leaks(after, secrets) == []
    assert leaks({"at rest": b"".join(files(made).values())}, secrets) == []
    # the search itself works: an address is no secret of ours, the database has to know where to write to
    assert leaks(copied, {"an address": THIRD})


KENPOS_ROW = {
    "記号": "91",
    "番号": "204567",
    "続柄": "本人",
    "氏名": "武田進一",
    "カナ氏名": "タケダ シンイチ",
    "生年月日": "1964-11-03",
}


@pytest.mark.timeout(300)
async def test_a_login_id_made_of_symbol_and_number_lies_nowhere_in_clear(tmp_path: Path, smtp_sink: Sink) -> None:
    login_id, address = "7132-091204567", "shinichi@phone.example"
    async with robot(tmp_path, smtp_sink.port, overrides={"LOG_LEVEL": '"debug"'}) as made, Member(made.web) as his:
        row = {**KENPOS_ROW, "仮ニックネーム": "", "メールアドレス": ""}
        await asyncio.to_thread(made.import_roster, "kenpos", row)

        async def give(password: str) -> Page:
            page = await his.submit(await his.get("/kenpos/login"), {"login_id": login_id})
            return await his.submit(page, {"password": password})

        assert (await give("19641104")).status == 422
        page = await his.submit(await give("19641103"), button="最後まで読みました")
        page = await his.submit(page, {"agree": "yes"}, button="基本設定ステップに進む")
        typed = {"address": address, "password": PASSWORD, "password_again": PASSWORD}
        page = await his.submit(page, typed, button="確認ステップに進む")
        await his.submit(page, button="メールを送信する")
        (confirm,) = await smtp_sink.wait(to=address, seconds=60)
        during = files(made)
        done = await his.submit(await his.get(link_in(confirm)), {"password": PASSWORD})
        assert login_id in done.text  # shown, though it is kept nowhere
        assert (await give("wrong-" + PASSWORD)).status == 422
        home = await give(PASSWORD)
        assert home.url.endswith("/home"), home.text
        assert login_id in (await his.follow(home, "プロフィール設定")).text
        await smtp_sink.wait(2, to=address, seconds=60)
        after = files(made)

    secrets = {
        "the login ID": login_id,
        "the login ID, folded": "7132-o912o4567",
        "the login ID without its hyphen": login_id.replace("-", ""),
        "symbol and number": "91204567",
        "symbol, hyphen, number": "91-204567",
    }
    at_rest = files(made)
    for found in (during, after, at_rest):
        assert leaks(found, secrets) == []
        assert [name for name, data in found.items() if re.search(rb"(?<!\d)204567(?!\d)", data)] == []
    assert {"mailbot.sqlite3", "mailbot.sqlite3-wal"} <= set(during)
    assert leaks(after, {"an address": address})


def test_the_search_finds_each_spelling() -> None:
    for before in (b"", b"x", b"xy", b"xyz"):
        for secret in (HANAKO.name, HANAKO.kana, HANAKO.birth_date, "mfrggzdfmztwq2lknnwg23tpobyhe43uov"):
            for encoded in (
                before + secret.encode() + b"!",
                before + secret.encode("utf-16-le") + b"!",
                before + secret.encode("cp932") + b"!",
                base64.b64encode(before + secret.encode() + b"!"),
                json.dumps({before.decode(): secret}).encode(),
            ):
                assert leaks({"file": encoded}, {"it": secret}), (before, secret, encoded)
    assert leaks({"file": b"nothing at all"}, facts("she", HANAKO)) == []
