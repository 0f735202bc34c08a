"""日本ヒューレット・パッカード: what comes and goes by mail (docs/features.md), seen from outside.

Credentials from the help desk, mails to it and to the no-reply address, and addresses in any letter case.
"""

from __future__ import annotations

import asyncio
import base64
import re
import smtplib
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.policy import SMTP

import pytest
import pytest_asyncio

from tests.support.member import Member
from tests.support.robot import Robot, body, link_in
from tests.support.rows import DAY, HOUR, Stage, person, stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
ME = "hpe"
NAME = "日本ヒューレット・パッカード健康保険組合"
DESK, DESK_NAME = "helpdesk@hpe.example", "日本HP健保 ヘルプデスク"
NO_REPLY = "no-reply@hpe.example"
CREDENTIALS, RECEIVED = "ログインIDと仮パスワードのご案内", "お問い合わせを受け付けました"
STAFF = {
    name: person(name, number, メールアドレス=f"{number}@company.example")
    for name, number in (("葛飾一", "901"), ("葛飾二", "902"), ("葛飾三", "903"), ("葛飾四", "904"))
}
HOME = "katsushika@home.example"
SHARED = [person("葛飾五", "905", "五郎", メールアドレス=HOME), person("葛飾六", "905", "六花", メールアドレス=HOME)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with stage(tmp_path_factory.mktemp("hpe-mail"), {ME: [*STAFF.values(), *SHARED]}) as running:
        yield running


def write(
    made: Robot,
    sender: str,
    text: str,
    *,
    to: str = DESK,
    subject: str = "user id",
    message_id: str = "",
    charset: str = "utf-8",
    **headers: str,
) -> list[int]:
    """Sends a mail as a mail program does -> the codes of MAIL, RCPT and the end of DATA."""
    message = EmailMessage()
    message["From"] = f"葛飾 <{sender}>"
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = "Fri, 20 Nov 2026 12:00:00 +0900"
    message["Message-ID"] = message_id or f"<{abs(hash((sender, text, subject)))}@company.example>"
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content(text, charset=charset)
    with smtplib.SMTP("127.0.0.1", made.smtp_port, timeout=90) as client:
        client.ehlo("mx.company.example")
        codes = [client.docmd("MAIL", f"FROM:<{sender}>")[0], client.docmd("RCPT", f"TO:<{to}>")[0]]
        return [*codes, client.data(message.as_bytes(policy=SMTP))[0]] if codes == [250, 250] else codes


async def mailed(at: Stage, sender: str, text: str, **more: str) -> None:
    assert await asyncio.to_thread(lambda: write(at.robot, sender, text, **more)) == [250, 250, 250]


async def requests(at: Stage, *options: str) -> dict[str, dict[str, object]]:
    """Subject -> line of `mailbot help list`."""
    rows = await asyncio.to_thread(at.robot.json, "help", "list", ME, *options)
    return {str(row["subject"]): row for row in rows}


async def minute(at: Stage, turns: int = 1) -> None:
    """The minute's work is due again, and done."""
    for _ in range(turns):
        await at.sql("UPDATE lease SET until = 0 WHERE name = 'timetable.minute'")
        await asyncio.sleep(1.2)


def printed(text: str, label: str) -> str:
    found = re.search(rf"(?m)^　{re.escape(label)}：(\S+)$", text)
    assert found, text
    return found[1]


@pytest.mark.row("HP-1")
@pytest.mark.row("ALL-1")
async def test_credentials_come_by_mail_a_month_after_joining_from_the_help_desk(at: Stage) -> None:
    to = STAFF["葛飾一"]["メールアドレス"]
    await at.sql("UPDATE member SET created_at = created_at - ?", 29 * DAY)
    await minute(at, 2)
    assert at.sink.mails == []
    await at.sql("UPDATE member SET created_at = created_at - ?", DAY)
    await minute(at)
    (mail,) = await at.mails(to, CREDENTIALS)
    (sender,) = mail.message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (DESK_NAME, DESK)
    assert mail.message["Reply-To"] is None
    text = body(mail)
    letter = at.letters[ME]["葛飾一"]
    login_id, password = printed(text, "User ID（ユーザーID）"), printed(text, "Temp password（仮パスワード）")
    assert (login_id, password) == (letter.printed_id, letter.printed_password)
    assert link_in(mail) == f"{at.robot.web}/{ME}/login"
    assert "このメールにご返信ください" in text
    assert "返信はお受けできません" not in text
    assert NAME in text
    # what the mail says opens the registration
    async with Member(at.robot.web) as member:
        login = await member.get(link_in(mail))
        entry = await member.follow(login, at.societies[ME].label("login.register"))
        sent = await member.submit(entry, {"address": "one@phone.example"})
        assert sent.status == 200, sent.text
        invited = (await at.mails("one@phone.example"))[-1]
        assert "返信はお受けできません" in body(invited)
        assert "メールでお送りしたUser ID（ユーザーID）とTemp password（仮パスワード）" in body(invited)
        step = await member.submit(await member.get(link_in(invited)), {"login_id": login_id, "password": password})
        assert step.status == 200, step.errors
        assert at.societies[ME].label("credentials.login-id") in step.text
    # one for everybody with an address on file, and once, however often the minute comes round
    await at.mails(HOME, CREDENTIALS, 2)
    await minute(at, 2)
    got = Counter(taken.rcpt_tos[0] for taken in at.sink.mails if taken.message["Subject"] == CREDENTIALS)
    assert got == {**{one["メールアドレス"]: 1 for one in STAFF.values()}, HOME: 2}


@pytest.mark.row("HP-1")
async def test_members_who_share_an_address_get_one_mail_each(at: Stage) -> None:
    mails = await at.mails(HOME, CREDENTIALS, 2)
    texts = [body(mail) for mail in mails]
    told = {re.findall(r"(?m)^(\S+) 様$", text)[0]: printed(text, "User ID（ユーザーID）") for text in texts}
    letters = at.letters[ME]
    assert told == {"五郎": letters["葛飾五"].printed_id, "六花": letters["葛飾六"].printed_id}


@pytest.mark.row("HP-1")
@pytest.mark.row("HP-9")
async def test_a_reply_to_the_credentials_is_a_help_request(at: Stage) -> None:
    to = STAFF["葛飾二"]["メールアドレス"]
    (mail,) = await at.mails(to, CREDENTIALS)
    its_id = str(mail.message["Message-ID"])
    text = f"ログインできません。\n\n> {body(mail)}"
    subject = f"Re: {CREDENTIALS}"
    await mailed(at, to, text, subject=subject, In_Reply_To=its_id, References=its_id)
    (answer,) = await at.mails(to, RECEIVED)
    assert answer.message["In-Reply-To"]
    one = (await requests(at))[subject]
    assert (one["from"], one["address is"]) == (to, "on file")
    # and the answer to the acknowledgement is one more, without one more acknowledgement
    ids = f"{answer.message['References']} {answer.message['Message-ID']}"
    headers = {"In_Reply_To": str(answer.message["Message-ID"]), "References": ids}
    await mailed(at, to, "社員番号は902です。", subject=f"Re: {RECEIVED}", **headers)
    assert f"Re: {RECEIVED}" in await requests(at)
    assert len(await at.mails(to, RECEIVED)) == 1


@pytest.mark.row("HP-9")
@pytest.mark.row("ALL-1")
async def test_who_lost_the_credentials_writes_to_the_help_desk_and_gets_them_again(at: Stage) -> None:
    to = STAFF["葛飾三"]["メールアドレス"]
    async with Member(at.robot.web) as member:
        login = await member.get(f"/{ME}/login")
        assert DESK in login.text
        assert "ログインについてのご質問だけ" in login.text
        assert "会社名、社員番号" in login.text
    asks = "会社名：日本HP\n社員番号：903\nお名前：葛飾三\nユーザーIDがわかりません。\x1b[31m"
    first = "<first@company.example>"
    for _ in range(3):  # its server was not sure that it had arrived
        await mailed(at, to, asks, subject="ユーザーIDの件", message_id=first)
    (answer,) = await at.mails(to, RECEIVED)
    (sender,) = answer.message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (DESK_NAME, DESK)
    assert answer.message["In-Reply-To"] == first
    assert answer.message["Auto-Submitted"] == "auto-replied"
    assert answer.rcpt_tos == (to,)
    for note in ("ログインについてのご質問だけ", "このメールにご返信ください", "社員番号", NAME):
        assert note in body(answer)
    assert "返信はお受けできません" not in body(answer)
    await mailed(at, to, "まだでしょうか。", subject="再度", charset="iso-2022-jp")
    found = await requests(at)
    assert list(found).index("ユーザーIDの件") < list(found).index("再度")
    one = found["ユーザーIDの件"]
    (member_,) = await asyncio.to_thread(at.robot.json, "member", "find", ME, "葛飾三")
    assert (one["from"], one["address is"], one["member"]) == (to, "on file", member_["member"])
    assert f"Help requests of {ME}: {len(found)} open" in await ops(at, "/")
    # staff read it, check the person, send the credentials again to the address on file, and are done with it
    shown = await asyncio.to_thread(at.robot.command, "help", "show", ME, str(one["request"]))
    assert "社員番号：903\nお名前：葛飾三" in shown.stdout
    assert "\x1b" not in shown.stdout
    again = await asyncio.to_thread(at.robot.json, "help", "show", ME, str(found["再度"]["request"]))
    assert (again["text"], again["acknowledged"]) == ("まだでしょうか。", False)
    await at.sql("UPDATE member SET credentials_mailed_at = credentials_mailed_at - ?", HOUR)
    await asyncio.to_thread(at.robot.command, "member", "renotify", ME, str(one["member"]))
    mail = (await at.mails(to, CREDENTIALS, 2))[-1]
    assert printed(body(mail), "User ID（ユーザーID）") == at.letters[ME]["葛飾三"].printed_id
    for name in ("ユーザーIDの件", "再度"):
        await asyncio.to_thread(at.robot.command, "help", "done", ME, str(found[name]["request"]))
    assert not {"ユーザーIDの件", "再度"} & (await requests(at)).keys()
    assert (await requests(at, "--all"))["再度"]["state"] == "done"
    gone = await asyncio.to_thread(lambda: at.robot.command("help", "done", ME, str(one["request"]), check=False))
    assert (gone.returncode, "mailbot help list hpe" in gone.stderr) == (1, True)
    record = (await asyncio.to_thread(at.robot.command, "audit", "export", "--society", ME)).stdout
    assert record.count("help-done") == 2
    assert "help-shown" in record
    assert len(await at.mails(to, RECEIVED)) == 1


@pytest.mark.row("HP-9")
async def test_staff_see_whether_the_sender_is_known(at: Stage) -> None:
    await mailed(at, HOME, "どちらのIDですか。", subject="shared")
    await mailed(at, "stranger@home.example", "教えてください。", subject="stranger")
    found = await requests(at)
    assert [(found[name]["address is"], found[name]["member"]) for name in ("shared", "stranger")] == [
        ("shared by 2 members", None),
        ("unknown", None),
    ]


@pytest.mark.row("HP-9")
async def test_programs_are_never_acknowledged_and_stand_in_no_list(at: Stage) -> None:
    out = "out@company.example"
    await mailed(at, out, "ただいま不在です。", subject="out of office", Auto_Submitted="auto-replied")
    await mailed(at, "list@company.example", "お知らせ", subject="news", List_Id="<news.company.example>")
    await mailed(at, DESK, "自分から自分へ", subject="myself")
    await mailed(at, NO_REPLY, "自分から", subject="robot")
    await mailed(at, "last@company.example", "これは人です。", subject="person")
    await at.mails("last@company.example", RECEIVED)  # what came before is out, if anything was
    for address in (out, "list@company.example", DESK, NO_REPLY):
        assert at.sink.to(address) == []
    assert not {"out of office", "news", "myself", "robot"} & (await requests(at)).keys()
    assert "person" in await requests(at)


async def ops(at: Stage, path: str) -> str:
    """A page of the ops port."""
    token = (at.robot.folder / "var" / "ops.token").read_text().strip()
    request = urllib.request.Request(f"http://127.0.0.1:{at.robot.ops_port}{path}")
    request.add_header("Authorization", "Basic " + base64.b64encode(f"x:{token}".encode()).decode())
    return str(await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=30).read()), "utf-8")


async def counted(at: Stage, reason: str) -> float:
    """Mails that ended with this reason, as the metrics say."""
    text = await ops(at, "/metrics")
    lines = [
        line
        for line in text.splitlines()
        if line.startswith("mailbot_events_total{") and 'event="mail.received"' in line and f'reason="{reason}"' in line
    ]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.row("HP-10")
async def test_mail_to_the_no_reply_address_is_dropped_and_counted(at: Stage) -> None:
    before, listed = await counted(at, "not-for-answer"), await requests(at, "--all")
    writer = STAFF["葛飾四"]["メールアドレス"]
    for number in range(3):
        await mailed(at, writer, "パスワードを忘れました。", to=NO_REPLY, subject=f"Re: {number}")
    await mailed(at, writer, "ログインできません。", subject="to the desk")
    mails = await at.mails(writer, RECEIVED)  # what came later is out
    assert {str(mail.message["Subject"]) for mail in at.sink.to(writer)} == {CREDENTIALS, RECEIVED}
    assert len(mails) == 1
    assert await counted(at, "not-for-answer") == before + 3
    assert (await requests(at, "--all")).keys() - listed.keys() == {"to the desk"}


@pytest.mark.row("HP-11")
async def test_our_own_addresses_match_in_any_letter_case(at: Stage) -> None:
    spellings = ("HELPDESK@HPE.EXAMPLE", "Helpdesk@hpe.example", "hElPdEsK@Hpe.eXaMpLe")
    for number, to in enumerate(spellings):
        writer = f"case{number}@company.example"
        await mailed(at, writer, "届きません。", to=to, subject=to)
        await at.mails(writer, RECEIVED)
    assert set(spellings) <= (await requests(at)).keys()
    for to in ("NO-REPLY@HPE.EXAMPLE", "No-Reply@Hpe.Example", "BOUNCE@hpe.EXAMPLE"):
        await mailed(at, "upper@company.example", "届きません。", to=to, subject=to)
    assert await asyncio.to_thread(lambda: write(at.robot, "a@company.example", "x", to="HELP@HPE.EXAMPLE")) == [
        250,
        550,
    ]
    # as senders too: the robot never answers itself
    for sender in ("HELPDESK@HPE.EXAMPLE", "No-Reply@hpe.example"):
        await mailed(at, sender, "自分から", subject=f"from {sender}")
    await mailed(at, "end@company.example", "これは人です。", subject="end")
    await at.mails("end@company.example", RECEIVED)
    assert not {taken.rcpt_tos[0].lower() for taken in at.sink.mails} & {DESK, NO_REPLY, "upper@company.example"}
    assert not [subject for subject in await requests(at) if subject.startswith("from ")]
