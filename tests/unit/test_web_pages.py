"""Every page template of every society, held against the rules for pages: rendered without a server or a database."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from lxml import html
from markupsafe import Markup

from mailbot.config import Journey, Society, load
from mailbot.config.carriers import shipped
from mailbot.config.society import contrast_on_white
from mailbot.credentials import describe, describe_login_id
from mailbot.registration.consents import Agreed, Text
from mailbot.registration.outcomes import (
    Complaint,
    End,
    JourneyEnd,
    MemberView,
    PendingAddress,
    PinPage,
    PinState,
    ProfileAddress,
    ProfileView,
    StepPage,
)
from mailbot.registration.steps import STEPS, WaitingStep
from mailbot.web.assets import Assets
from mailbot.web.render import Pages, by_field
from mailbot.web.visit import FAILURES, ways_in

REPOSITORY = Path(__file__).parents[2]
NOON = 1_795_143_600_000
LATER = NOON + 3_600_000


def _societies(folder: Path) -> dict[str, Society]:
    (folder / "societies").symlink_to(REPOSITORY / "config" / "societies")
    (folder / "mailbot.toml").touch()
    return dict(load(folder, {}).societies)


@pytest.fixture(scope="module")
def societies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Society]:
    return _societies(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def pages(societies: dict[str, Society]) -> Pages:
    return Pages(societies, [REPOSITORY / "templates"], Assets(societies.values()))


TEXTS = (
    Text("privacy", "個人情報の取扱いについて", "2026-04", Markup("<p>一</p>"), "00", True),
    Text("terms", "会員利用規約について", "2026-04", Markup("<p>二</p>"), "01"),
)
STEP_FACTS: dict[str, dict[str, Any]] = {
    "mailed-link": {"key": "1234"},
    "consent": {"texts": TEXTS, "unread": None, "read": ("privacy",), "stamp": "ab"},
    "settings": {"shows": (("login.id", "7-1"), ("settings.kana", "カナ")), "wanted": (), "typed": True, "free": True},
    "review": {"rows": (("settings.address", "hanako@example.jp"), ("settings.password", "（表示しません）"))},
}
"""What the steps add to their pages."""


def _facts(society: Society, name: str) -> dict[str, Any]:
    """Facts for any page of the house."""
    member = MemberView(1, "member", "はなこ", "hanako", NOON, NOON)
    kind = STEPS.get(Path(name).stem, STEPS["temporary-login"])
    journey = next((one for one in society.journeys.values() if kind.name in one.steps), None) or Journey(
        starts=(), steps=(kind.name, "credentials")
    )
    facts = {"journey": journey, "address": "hanako@example.jp", **STEP_FACTS.get(kind.name, {})}
    fields = kind.fields(society, journey)
    waits = isinstance(kind, WaitingStep)
    step = StepPage(1, "paper", kind.name, 2, 4, fields, {}, facts, LATER, waits)
    view = ProfileView(
        "hanako",
        "はなこ",
        (ProfileAddress(1, "hanako@example.jp"),),
        (PendingAddress(2, "new@example.jp", LATER),),
        {},
        {},
        ("はなこ", "たろう"),
        None,
    )
    return {
        "now": NOON,
        "form_key": lambda: "key",
        "channels": society.help,
        "journeys": society.journeys,
        "own_name": "夏目　花子",
        "member": member if name in {"consents.html", "home.html", "profile.html", "password.html"} else None,
        "step": step,
        "end": JourneyEnd(End.DONE, "はなこ", "hanako"),
        "again": False,
        "family": "",
        "journey_name": "x",
        "address": "hanako@example.jp",
        "carriers": shipped().all.values(),
        "carrier": shipped().all["au"],
        "note": "",
        "changed": False,
        "expired": False,
        "saved": False,
        "rules": describe(society.password, "パスワード"),
        "id_rules": describe_login_id(society.login_id, "ログインID"),
        "view": view,
        "slots": range(1, 4),
        "pending": {2: view.pending[0]},
        "unreachable": {1: "hanako@example.jp"},
        "ticked": set(),
        "expires_at": LATER,
        "steps": True,
        "login_id": "hanako",
        "closed": "お休みです。",
        "formula_hint": ("例：7-000001", "例：20000121"),
        "agreed": (Agreed("規約", "1", NOON, TEXTS[0], True), Agreed("規約", "0", NOON, None, False)),
        "again_at": LATER,
        "pin": PinPage(PinState.LIVE, ("ha****@example.jp",), 6, NOON, LATER, None, True, LATER),
        "sent": True,
        **ways_in(society),
    }


PARTS = {f"{name}.html" for name in ("base", "captcha", "parts", "again", "login-notes", "ways")} | {
    f"{name}.html" for name in ("show-key", "step", "waiting")
}
PAGES = sorted(
    str(path.relative_to(REPOSITORY / "templates" / "pages"))
    for path in (REPOSITORY / "templates" / "pages").rglob("*.html")
    if path.name not in PARTS
)
SOCIETIES = sorted(path.stem for path in (REPOSITORY / "config" / "societies").glob("*.toml"))


@pytest.mark.parametrize("society", SOCIETIES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_keeps_the_rules(pages: Pages, societies: dict[str, Society], society: str, name: str) -> None:
    text = pages.html(societies[society], name, _facts(societies[society], name))
    tree = html.document_fromstring(text)
    assert tree.get("lang") == "ja"
    (heading,) = tree.xpath("//h1")
    levels = [int(node.tag[1]) for node in tree.xpath("//h1|//h2|//h3|//h4")]
    assert all(level <= 2 for level in levels)
    title = tree.xpath("string(//title)")
    assert title.endswith(f"｜{societies[society].name}")
    # the society and its help channel on every page
    assert societies[society].name in tree.xpath("string(//header)")
    for channel in societies[society].help:
        assert channel.value in [*tree.xpath("//footer//a/@href"), *tree.xpath("//footer//a/text()")]
    for attribute in ("placeholder", "required", "maxlength", "disabled", "readonly", "pattern", "style", "onclick"):
        assert not tree.xpath(f"//*[@{attribute}]"), attribute
    assert not tree.xpath("//script|//style|//iframe|//img[not(@alt)]|//meta[@http-equiv]")
    # lists are slow with a phone and a screen reader: only where a society's file asks for them
    lists = any(one.details.birth_date == "lists" for one in societies[society].journeys.values())
    assert not tree.xpath("//select") or (lists and name == "steps/insurance-details.html")
    assert all(count == 1 for count in Counter(tree.xpath("//@id")).values())
    _fields_are_labelled(tree)
    for form in tree.xpath("//form"):
        assert form.get("method") == "post"
        assert form.xpath(".//input[@name='form-key']")
        assert form.xpath(".//button")
    for link in tree.xpath("//a/@href"):
        assert link.startswith(("/", "#", "tel:", "mailto:", "https://")), link
    assert len(text.encode()) < 30_000
    assert heading.text_content().strip()


def _fields_are_labelled(tree: Any) -> None:
    for field in tree.xpath("//input[not(@type='hidden')]"):
        assert len(tree.xpath(f"//label[@for='{field.get('id')}']")) == 1, field.get("name")
        for name in (field.get("aria-describedby") or "").split():
            assert tree.xpath(f"//*[@id='{name}']"), name
        if field.get("type") in {"text", "password", "email"}:
            assert field.get("autocomplete")
            label = tree.xpath(f"string(//label[@for='{field.get('id')}'])")
            assert "※" in label + field.xpath("string(ancestor::fieldset/legend)")


def test_titles_are_distinct(pages: Pages, societies: dict[str, Society]) -> None:
    society = societies[SOCIETIES[0]]
    titles = Counter(
        html.document_fromstring(pages.html(society, name, _facts(society, name))).xpath("string(//title)")
        for name in PAGES
        if not name.endswith("-sent.html") and name not in {"front.html", "broken.html"}
    )
    assert [title for title, count in titles.items() if count > 1] == []


@pytest.mark.parametrize("name", ["login.html", "entry.html", "steps/credentials.html", "profile.html"])
def test_an_error_stands_on_top_and_beside_its_field_in_the_same_words(
    pages: Pages, societies: dict[str, Society], name: str
) -> None:
    society = societies[SOCIETIES[0]]
    field = "address" if name == "entry.html" else "login_id"
    complaints = [Complaint(field, "これを入力してください。"), Complaint("", "全体のことです。")]
    facts = {**_facts(society, name), "complaints": complaints, "errors": by_field(complaints), "values": {field: "花"}}
    tree = html.document_fromstring(pages.html(society, name, facts))
    assert tree.xpath("string(//title)").startswith("エラー：")
    (summary,) = tree.xpath("//*[@role='alert']")
    assert summary.get("tabindex") == "-1"
    assert "autofocus" in summary.attrib
    assert summary.getparent().tag == "main"
    (link,) = summary.xpath(".//a")
    assert link.get("href") == f"#f-{field}"
    (box,) = tree.xpath(f"//input[@id='f-{field}']")
    assert box.get("aria-invalid") == "true"
    assert box.get("value") == "花"
    first = box.get("aria-describedby").split()[0]
    assert tree.xpath(f"string(//*[@id='{first}'])").strip() == "＊" + link.text_content()


def test_a_password_is_never_written_back_unless_it_is_to_be_shown(pages: Pages, societies: dict[str, Society]) -> None:
    society = societies[SOCIETIES[0]]
    facts = {**_facts(society, "password.html"), "values": {"new": "himitsu-2026"}}
    assert "himitsu" not in pages.html(society, "password.html", facts)
    shown = html.document_fromstring(pages.html(society, "password.html", {**facts, "shown": True}))
    (box,) = shown.xpath("//input[@name='new']")
    assert (box.get("type"), box.get("value")) == ("text", "himitsu-2026")
    assert not shown.xpath("//button[@name='show']")


@pytest.mark.parametrize("text", ["' OR 1=1--", "{{7*7}}", "<script>alert(1)</script>", "\r\nBcc: x", '&amp;"'])
def test_what_members_type_is_shown_literally(pages: Pages, societies: dict[str, Society], text: str) -> None:
    society = societies[SOCIETIES[0]]
    facts = _facts(society, "done.html")
    facts["end"] = JourneyEnd(End.DONE, text, text)
    tree = html.document_fromstring(pages.html(society, "done.html", facts))
    assert text.strip() in tree.text_content().replace("\n", "\r\n") + tree.text_content()
    assert not tree.xpath("//script")


def test_every_failure_has_its_page() -> None:
    files = {path.stem for path in (REPOSITORY / "templates" / "pages" / "failures").glob("*.html")}
    assert files == set(FAILURES)


def test_labels_are_the_society_s(pages: Pages, societies: dict[str, Society]) -> None:
    society = societies[SOCIETIES[0]].model_copy(update={"labels": {"login.submit": "入る", "login.id": "会員番号"}})
    text = pages.html(society, "login.html", _facts(society, "login.html"))
    assert "入る</button>" in text
    assert "会員番号" in text


def test_a_society_overrides_a_page_by_its_path(tmp_path: Path, societies: dict[str, Society]) -> None:
    own = tmp_path / "societies" / SOCIETIES[0] / "pages"
    own.mkdir(parents=True)
    (own / "help.html").write_text(
        '{% extends "base.html" %}{% block main %}<h1>{{ society.name }}だけの</h1>{% endblock %}'
    )
    pages = Pages(societies, [tmp_path, REPOSITORY / "templates"], Assets(societies.values()))
    for name in SOCIETIES[:2]:
        text = pages.html(societies[name], "help.html", _facts(societies[name], "help.html"))
        assert ("だけの" in text) is (name == SOCIETIES[0])


@pytest.mark.parametrize("text", ["{{ nobody.knows }}", "{{ ''.__class__ }}"])
def test_a_page_that_names_what_it_may_not_fails(tmp_path: Path, societies: dict[str, Society], text: str) -> None:
    own = tmp_path / "societies" / SOCIETIES[0] / "pages"
    own.mkdir(parents=True)
    (own / "help.html").write_text(text)
    pages = Pages(societies, [tmp_path, REPOSITORY / "templates"], Assets(societies.values()))
    with pytest.raises(TemplateError):
        pages.html(societies[SOCIETIES[0]], "help.html", {})


def test_a_broken_page_refuses_to_start(tmp_path: Path, societies: dict[str, Society]) -> None:
    own = tmp_path / "societies" / SOCIETIES[0] / "pages"
    own.mkdir(parents=True)
    (own / "help.html").write_text("{% if %}")
    with pytest.raises(TemplateError):
        Pages(societies, [tmp_path, REPOSITORY / "templates"], Assets(societies.values()))


def test_the_style_sheet_is_small_and_stands_alone(societies: dict[str, Society]) -> None:
    text = (REPOSITORY / "mailbot" / "web" / "static" / "site.css").read_text("utf-8")
    assert len(text.encode()) < 20_000
    for word in ("@import", "url(", "http:", "https:", "px Noto"):
        assert word not in text
    themes = Assets(societies.values()).themes
    assert sorted(themes) == SOCIETIES
    for society in societies.values():
        assert all(contrast_on_white(colour) >= 4.5 for colour in society.pages.key_colours)
