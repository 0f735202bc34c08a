"""The printed notice, from outside: `mailbot notice` on an imported roster, the PDF read by poppler and zbar."""

from __future__ import annotations

import asyncio
import csv
import re
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from mailbot.credentials import reading
from tests.support.member import Member
from tests.support.robot import Robot, invitation, robot
from tests.support.sink import Sink, sink

HEAD = ("記号", "番号", "続柄", "氏名", "カナ氏名", "生年月日", "世帯", "郵便番号", "住所", "仮ニックネーム", "保護")


def row(who: str, kana: str, relation: str, born: str, household: str = "H1", **more: str) -> dict[str, str]:
    facts = dict(zip(HEAD, ("12", "3456", relation, who, kana, born, household, "231-0001"), strict=False))
    return {**facts, "住所": "横浜市中区新港一丁目2番3号", "仮ニックネーム": f"{who[-1]}ちゃん", **more}


FAMILY = (
    row("髙橋　蓮", "タカハシ　レン", "長男", "2001-05-06"),
    row("髙橋　𠮷子", "タカハシ　ヨシコ", "妻", "1950-03-04"),
    row("髙橋　﨑太", "タカハシ　サキタ", "本人", "1952-01-02"),
)
SECRET = row(
    "髙橋　隠",
    "タカハシ　イン",
    "長女",
    "1999-07-08",
    郵便番号="060-0001",
    住所="札幌市中央区北一条西0丁目",
    保護="はい",
)


@pytest.fixture
def office(tmp_path: Path) -> Robot:
    """A configuration with an empty database; nothing runs."""
    return Robot(tmp_path, 1)


def configure(office: Robot, society: str, old: str, new: str) -> None:
    file = office.folder / "config" / "societies" / f"{society}.toml"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def pages(file: Path) -> list[str]:
    """Text of each page, blanks folded away."""
    return ["".join(page.split()) for page in run("pdftotext", "-raw", str(file), "-").split("\f")[:-1]]


def scanned(file: Path, page: int = 1) -> str:
    """What a phone reads off the page."""
    picture = file.with_suffix("")
    run("pdftoppm", "-r", "150", "-f", str(page), "-l", str(page), "-png", "-singlefile", str(file), str(picture))
    return run("zbarimg", "--quiet", "--raw", f"{picture}.png").strip()


def letters(office: Robot, society: str) -> dict[str, dict[str, str]]:
    """What the letters say, by name, as the roster's own export tells."""
    out = office.folder / f"letters-{society}.csv"
    out.unlink(missing_ok=True)
    office.command("roster", "letters", society, "--out", str(out))
    with out.open(encoding="utf-8-sig") as stream:
        return {line["氏名"]: line for line in csv.DictReader(stream)}


def printed(office: Robot, society: str, *options: str, name: str = "notices.pdf") -> Path:
    out = office.folder / name
    office.command("notice", "print", society, "--out", str(out), *options)
    return out


def japanese(ms: int, days: int = 0) -> str:
    """The day in Japan, so many days later."""
    day = datetime.fromtimestamp(ms / 1000, timezone(timedelta(hours=9))) + timedelta(days=days)
    return f"{day.year}年{day.month}月{day.day}日"


@pytest.mark.row("YK-13")
def test_a_household_s_sheet(office: Robot) -> None:
    office.import_roster("yokokou", *FAMILY)
    file = printed(office, "yokokou")
    assert file.stat().st_mode & 0o777 == 0o600
    front, back = pages(file)
    assert front.startswith("〒231-0001横浜市中区新港一丁目2番3号髙橋﨑太様")
    # the insured person first, then by age
    assert [front.rindex(f"髙橋{name}様") for name in ("﨑太", "𠮷子", "蓮")] == sorted(
        front.rindex(f"髙橋{name}様") for name in ("﨑太", "𠮷子", "蓮")
    )
    for line in letters(office, "yokokou").values():
        for secret in (line["仮ログインID"], line["仮パスワード"]):
            assert re.fullmatch("[0-9]{8}", secret)
            assert secret in front
            assert reading(secret) in front
        assert f"仮ニックネーム：{line['仮ニックネーム']}" in front
    assert "メールアドレスが必要です" in front
    assert "カメラを向けて" in front
    assert "045-000-0000" in front
    assert "touroku@yokokou.example" in front
    assert scanned(file) == "mailto:touroku@yokokou.example"
    for words in ("ご登録の手順", "3時間以内", "新ログインID", "info@yokokou.example", "045-000-0000"):
        assert words in back
    listed = office.json("notice", "list", "yokokou")
    assert [(one["sheets"], one["letters"], one["live"]) for one in listed] == [(1, 3, 3)]
    assert run("pdfinfo", str(file)).count("A4") == 1


def test_the_reading_is_the_manual_s() -> None:
    assert reading("12345678") == "イチ、ニ、サン、シ、ゴ、ロク、ナナ、ハチ"
    assert reading("90") == "キュウ、ゼロ"


@pytest.mark.row("SC-11")
def test_the_postcard_opens_the_login_page(office: Robot) -> None:
    mine = {**FAMILY[2], "メールアドレス": "otowaya@company.example"}
    office.import_roster("shochiku", mine)
    file = printed(office, "shochiku")
    address, secret = pages(file)
    assert scanned(file, 2) == f"{office.web}/shochiku/login"
    assert address.startswith("〒231-0001横浜市中区新港一丁目2番3号髙橋﨑太様")
    line = letters(office, "shochiku")["髙橋　﨑太"]
    assert line["仮パスワード"] in secret
    assert line["仮パスワード"] not in address
    assert "otowaya@company.example" in secret  # SC-6: it begins a registration without a mail
    width, height = re.search(r"Page size: +([0-9.]+) x ([0-9.]+)", run("pdfinfo", str(file))).groups()  # type: ignore[union-attr]  # no match fails here
    assert (round(float(width) / 72 * 25.4), round(float(height) / 72 * 25.4)) == (100, 148)


@pytest.mark.row("OM-14")
def test_a_sheet_with_the_login_page(office: Robot) -> None:
    office.import_roster("omron", FAMILY[2])
    assert scanned(printed(office, "omron")) == f"{office.web}/omron/login"


def test_fonts_are_embedded_and_the_file_says_pdf_a(office: Robot) -> None:
    office.import_roster("yokokou", *FAMILY)
    file = printed(office, "yokokou")
    fonts = run("pdffonts", str(file)).splitlines()[2:]
    assert {line.split("+")[1].split()[0] for line in fonts} >= {"BIZUDGothic-Regular", "BIZUDGothic-Bold"}
    assert all(line.split()[-5:-2] == ["yes", "yes", "yes"] for line in fonts), fonts
    meta = run("pdfinfo", "-meta", str(file))
    assert re.search(r'pdfaid:part(>|=")2', meta)
    assert re.search(r'pdfaid:conformance(>|=")B', meta)
    trailer: Any = PdfReader(file).trailer
    assert trailer["/Root"]["/OutputIntents"][0]["/S"] == "/GTS_PDFA1"
    assert len(trailer["/ID"]) == 2


def test_protected_persons_have_their_own_sheet_and_address(office: Robot) -> None:
    office.import_roster("yokokou", *FAMILY, SECRET)
    front = [page for page in pages(printed(office, "yokokou")) if page.startswith("〒")]
    assert len(front) == 2
    (own,) = [page for page in front if "髙橋隠様" in page]
    (shared,) = [page for page in front if "髙橋隠様" not in page]
    assert own.startswith("〒060-0001札幌市中央区北一条西0丁目髙橋隠様")
    assert "新港" not in own
    assert "﨑太" not in own
    assert "札幌" not in shared


def test_what_was_printed_is_not_printed_again(office: Robot) -> None:
    office.import_roster("yokokou", *FAMILY)
    printed(office, "yokokou")
    again = office.folder / "again.pdf"
    assert "Nothing to print" in office.command("notice", "print", "yokokou", "--out", str(again)).stdout
    assert not again.exists()
    printed(office, "yokokou", "--all", "--per", "person", name="all.pdf")
    assert len(pages(office.folder / "all.pdf")) == 6
    refused = office.command("notice", "print", "yokokou", "--all", "--out", str(again.parent / "all.pdf"), check=False)
    assert (refused.returncode, "File exists" in refused.stderr) == (1, True)
    one = office.json("member", "find", "yokokou", "高橋蓮")[0]["member"]
    printed(office, "yokokou", "--member", one, name="one.pdf")
    assert "髙橋𠮷子様" not in "".join(pages(office.folder / "one.pdf"))
    printed(office, "yokokou", "--member", one, "--household", name="three.pdf")
    assert "髙橋𠮷子様" in "".join(pages(office.folder / "three.pdf"))


CP932_NAMES = ("髙橋　﨑子", "㈱　①～")


@pytest.mark.parametrize(("encoding", "names"), [("cp932", CP932_NAMES), ("utf-8", (*CP932_NAMES, "𠮷野　葛"))])
def test_names_of_both_encodings_come_out_as_written(office: Robot, encoding: str, names: tuple[str, ...]) -> None:
    people = [
        row(name, f"タナカ　{kana}", "本人", "1970-01-02", f"H{kana}", 番号=kana)
        for name, kana in zip(names, "アイウ", strict=False)
    ]
    lines = [",".join(HEAD), *(",".join(one.get(name, "") for name in HEAD) for one in people)]
    file = office.folder / "roster.csv"
    file.write_bytes("".join(f"{line}\r\n" for line in lines).encode(encoding))
    office.command("roster", "import", "yokokou", str(file), "--partial")
    text = "".join(pages(printed(office, "yokokou")))
    assert all(f"{''.join(name.split())}様" in text for name in names)
    assert len(office.json("member", "find", "yokokou", "高橋崎子")) == 1


def test_a_character_without_a_glyph_is_told_before_anything_is_printed(office: Robot) -> None:
    office.import_roster("yokokou", *FAMILY, row("渡辺　𪚥", "ワタナベ　ビャン", "本人", "1960-01-02", "H2", 番号="9"))
    out = office.folder / "notices.pdf"
    refused = office.command("notice", "print", "yokokou", "--out", str(out), check=False)
    member = office.json("member", "find", "yokokou", "ワタナベビャン")
    assert refused.returncode == 1
    assert f"{member[0]['member']}: 「氏名」の 𪚥（U+2A6A5）" in refused.stderr
    assert "渡辺" not in refused.stderr
    assert not out.exists()
    assert office.json("notice", "list", "yokokou") == []
    assert list(office.folder.glob(".notices*")) == []


@pytest.mark.parametrize(
    "name", ['#panic("x")', "$x$ *y* _z_", '"\\u{1f4a9}" \\', "[#{1+1}] @a <b>", "= 見出し // x", "`a` ~b"]
)
def test_names_are_never_markup(office: Robot, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    office.import_roster("yokokou", row(quoted, "カナ", "本人", "1970-01-02", 仮ニックネーム="#x"))
    shown = "".join(name.split()) + "様"
    assert shown in "".join(pages(printed(office, "yokokou")))
    assert shown in "".join(pages(printed(office, "yokokou", "--all", "--paper", "postcard", name="c.pdf")))


def test_a_household_of_two_hundred(office: Robot) -> None:
    names = [f"山田　{number}番" for number in range(200)]
    born = "2001-01-{:02}"
    people = (row(one, "ヤマダ", "子", born.format(n % 28 + 1), 記号=f"{n}") for n, one in enumerate(names))
    office.import_roster("yokokou", *people)
    file = printed(office, "yokokou")
    found = pages(file)
    assert len(found) % 2 == 0
    assert "ご登録の手順" in found[1]
    text = "".join(found)
    assert all("".join(one.split()) + "様" in text for one in names)
    assert all(line["仮パスワード"] in text for line in letters(office, "yokokou").values())
    cards = printed(office, "yokokou", "--all", "--paper", "postcard", name="cards.pdf")
    assert len(pages(cards)) == 200


def test_the_address_may_carry_a_tag(office: Robot) -> None:
    configure(office, "yokokou", "[notice]\n", "[notice]\nletter_tag = true\n")
    office.import_roster("yokokou", *FAMILY)
    uri = scanned(printed(office, "yokokou"))
    (batch,) = office.json("notice", "list", "yokokou")
    tags = {line["tag"] for line in office.json("notice", "list", "yokokou", "--batch", batch["batch"])}
    assert {uri} == {f"mailto:touroku+{tag}@yokokou.example" for tag in tags}


def test_a_further_page_says_whose_it_is(office: Robot) -> None:
    home = {"住所": "神奈川県横浜市中区新港一丁目2番34-1205号　シーサイドレジデンス横浜1205号室"}
    children = (row(f"髙橋　{one}", "タカハシ　コ", "子", f"2001-01-{n:02}") for n, one in enumerate("翔海空陸葵", 1))
    office.import_roster("yokokou", *({**one, **home} for one in (*FAMILY, *children)))
    file = printed(office, "yokokou")
    first, _, second, _ = pages(file)
    (batch,) = office.json("notice", "list", "yokokou")
    assert (f"{batch['batch']}-1(1/2)" in first, f"{batch['batch']}-1(2/2)" in second) == (True, True)
    assert ("様方続き" in first, second.startswith("髙橋﨑太様方続き")) == (False, True)
    lines = run("pdftotext", "-raw", "-l", "1", str(file), "-").splitlines()
    assert lines[1:4] == ["神奈川県横浜市中区新港", "一丁目2番34-1205号", "シーサイドレジデンス横浜1205号室"]
    cards = pages(printed(office, "yokokou", "--all", "--paper", "postcard", name="cards.pdf"))[1::2]
    assert [one.startswith("髙橋﨑太様方続き") for one in cards] == [False, True, True, True]
    assert [f"-{n}({n}/4)" in one for n, one in enumerate(cards, 1)] == [True] * 4
    foot = f"{batch['batch']}-1 (2/2)"
    assert len(office.json("notice", "list", "yokokou", "--batch", foot)) == 8


def test_a_sheet_is_dated_and_says_until_when_and_what_it_replaces(office: Robot) -> None:
    configure(office, "yokokou", "[temporary]\n", "[temporary]\nlifetime_days = 60\n")
    office.import_roster("yokokou", FAMILY[2])
    front, over = pages(printed(office, "yokokou"))[0], "前にお届けした紙の仮パスワードは使えません。"
    (batch,) = office.json("notice", "list", "yokokou")
    assert japanese(batch["printed_at"]) in front
    assert re.search("仮パスワードは、(.*?)まで使えます。", front)[1] == japanese(batch["printed_at"], 59)  # type: ignore[index]  # no match fails here
    assert over not in front
    again = office.folder / "again.pdf"
    office.command("notice", "reprint", "yokokou", batch["batch"], "--out", str(again), "--yes")
    assert over in pages(again)[0]


def test_revoked_letters_are_over(office: Robot) -> None:
    office.import_roster("yokokou", *FAMILY)
    printed(office, "yokokou", "--per", "person")
    (batch,) = office.json("notice", "list", "yokokou")
    no = office.command("notice", "revoke", "yokokou", batch["batch"], check=False, stdin="n\n")
    assert no.returncode == 1
    done = office.command("notice", "revoke", "yokokou", batch["batch"], "--sheets", "1,3", "--yes")
    assert done.stdout == "2 letters revoked.\n"
    (batch,) = office.json("notice", "list", "yokokou")
    assert (batch["live"], batch["ended"]) == (1, 2)
    wrong = office.command("notice", "revoke", "yokokou", batch["batch"], "--sheets", "9", "--yes", check=False)
    assert (wrong.returncode, "no sheet 9" in wrong.stderr) == (1, True)
    again = office.command("notice", "revoke", "yokokou", f"{batch['batch']}-3", stdin="")
    assert again.stdout == "Nothing to revoke: none of these letters is live.\n"
    out = office.folder / "new.pdf"
    foot = f"{batch['batch']}-1"  # as it stands on the sheet: that sheet alone
    assert {one["sheet"] for one in office.json("notice", "list", "yokokou", "--batch", foot)} == {1}
    office.command("notice", "reprint", "yokokou", foot, "--out", str(out), "--yes")
    assert len(letters(office, "yokokou")) == 2
    events = [one["event"] for one in office.json("audit", "export")]
    assert {"notices-printed", "notices-revoked", "notices-reprinted"} <= set(events)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list", "yokokou", "--sheets", "3"), "--sheets needs the batch"),
        (("list", "yokokou", "--batch", "dm2hcljptgj4a-3", "--sheets", "4"), "names one sheet already"),
        (("list", "yokokou", "--batch", "dm2hcljptgj4a-x"), "expected numbers"),
        (("print", "yokokou", "--household", "--out", "x.pdf"), "--household needs --member"),
        (("revoke", "yokokou", ""), "name the batch"),
    ],
)
def test_what_would_do_more_than_was_meant_is_wrong_use(office: Robot, words: tuple[str, ...], said: str) -> None:
    done = office.command("notice", *words, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.row("YK-13")
async def test_a_reprint_kills_the_old_letter_and_a_tagged_mail_is_answered(tmp_path: Path) -> None:
    async with sink() as taken, robot(tmp_path / "robot", taken.port) as made:
        await _reprint(made, taken)


async def _reprint(made: Robot, taken: Sink) -> None:
    made.import_roster("yokokou", *FAMILY)
    first = await asyncio.to_thread(printed, made, "yokokou")
    old = letters(made, "yokokou")["髙橋　蓮"]
    member = made.json("member", "find", "yokokou", "髙橋蓮")[0]["member"]
    out = made.folder / "again.pdf"
    said = made.command("notice", "reprint", "yokokou", "--member", member, "--out", str(out), stdin="y\n").stdout
    assert "1 letters get a new temporary password" in said
    new = letters(made, "yokokou")["髙橋　蓮"]
    assert new["仮ログインID"] == old["仮ログインID"]
    assert new["仮パスワード"] != old["仮パスワード"]
    assert new["仮パスワード"] in "".join(pages(out))
    assert old["仮パスワード"] in "".join(pages(first))
    url = await invitation(made, taken, "ren@phone.example", "touroku+abcdefgh@yokokou.example")
    async with Member(made.web) as browser:
        page = await browser.get(url)
        ids = {"login_id": old["仮ログインID"]}
        refused = await browser.submit(page, {**ids, "password": old["仮パスワード"]})
        assert refused.errors
        passed = await browser.submit(refused, {**ids, "password": new["仮パスワード"]})
        assert not passed.errors
        assert "利用者情報入力" in passed.text
