"""Short codes as text, and whose carrier an address is."""

import tomllib
from typing import Any

import pytest

from mailbot import app
from mailbot.config import ConfigError, carriers, load
from mailbot.credentials import ALPHABETS, KeyRefused, KeyRing, LinkPurpose, is_code, read_code, short_code

NOW = 1_795_157_420_000
RING = KeyRing.create(NOW)
KID = RING.active(NOW).kid
SHIPPED = tomllib.loads(carriers.shipped_file().read_text("utf-8"))


def code(purpose: LinkPurpose = LinkPurpose.REGISTRATION, society: str = "a", row: int = 7, generation: int = 0) -> str:
    return short_code(RING, purpose, society, row, KID, generation)


def test_two_groups_of_four_of_the_letters_that_cannot_be_misread() -> None:
    for row in range(1, 50):
        first, gap, second = code(row=row).partition(" ")
        assert (len(first), gap, len(second)) == (4, " ", 4)
        assert set(first + second) <= set(ALPHABETS["easy"])
    assert len(ALPHABETS["easy"]) == 31


def test_every_fact_of_the_row_makes_another_code_and_the_same_facts_the_same() -> None:
    others = {
        code(),
        code(row=8),
        code(society="b"),
        code(generation=1),
        *(code(purpose) for purpose in LinkPurpose),
    }
    assert len(others) == 3 + len(LinkPurpose)
    assert code() == code()
    assert short_code(KeyRing.create(NOW), LinkPurpose.REGISTRATION, "a", 7, KID, 0) != code()


def test_a_compromised_key_makes_no_codes() -> None:
    with pytest.raises(KeyRefused):
        short_code(RING.rotate_compromised(NOW), LinkPurpose.REGISTRATION, "a", 7, KID, 0)


@pytest.mark.parametrize(
    "typed",
    ["k7mp 3wxq", "k7mp3wxq", "K7MP 3WXQ", " k7mp　3wxq ", "ｋ７ｍｐ３ｗｘｑ", "Ｋ７ＭＰ－３ＷＸＱ",
     "k7mp-3wxq", "k7mpー3wxq", "k 7 m p 3 w x q", "k7mp\u200b3wxq", "k7mp\t3wxq\r\n", "k7\u00admp3wxq"],
)  # fmt: skip
def test_typing_is_forgiven(typed: str) -> None:
    assert read_code(typed) == "k7mp3wxq"
    assert is_code(typed, "k7mp 3wxq")


@pytest.mark.parametrize("copied", ["コード：k7mp 3wxq", "コード:k7mp 3wxq\r\n", "「k7mp 3wxq」", "k7mp 3wxq。"])
def test_what_stands_around_it_may_be_copied_with_it(copied: str) -> None:
    assert read_code(copied) == "k7mp3wxq"


@pytest.mark.parametrize(
    "typed",
    ["", " ", "k7mp", "k7mp3wxqq", "k7mp3wx0", "k7mp3wx1", "l7mp3wxq", "コード", "k7mp3wx⑦", "k7mp3wx²", "\0", "\ud800",
     "k" * 5000, "<script>", "%", "k7mp'3wx"],
)  # fmt: skip
def test_what_cannot_be_a_code(typed: str) -> None:
    assert read_code(typed) == ""
    assert not is_code(typed, "k7mp 3wxq")


def test_another_code_is_not_this_one() -> None:
    assert not is_code("k7mp3wxr", "k7mp 3wxq")
    assert not is_code("", "")


# -- carriers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "carrier"),
    [
        ("docomo.ne.jp", "docomo"),
        ("DOCOMO.ne.jp", "docomo"),
        ("ezweb.ne.jp", "au"),
        ("au.com", "au"),
        ("uqmobile.jp", "au"),
        ("ido.ezweb.ne.jp", "au"),
        ("softbank.ne.jp", "softbank"),
        ("i.softbank.jp", "softbank"),
        ("t.vodafone.ne.jp", "softbank"),
        ("ymobile.ne.jp", "softbank"),
        ("rakuten.jp", "rakuten"),
        ("icloud.com", "icloud"),
        ("gmail.com", "gmail"),
        ("yahoo.co.jp", "yahoo"),
        ("yahoo.ne.jp", "yahoo"),
        ("outlook.jp", "outlook"),
        ("hotmail.com", "outlook"),
        ("notdocomo.ne.jp", "default"),
        ("docomo.ne.jp.evil.example", "default"),
        ("ne.jp", "default"),
        ("private.example", "default"),
        ("", "default"),
        ("[192.0.2.1]", "default"),
    ],
)
def test_a_carrier_is_found_by_the_domain(domain: str, carrier: str) -> None:
    assert carriers.shipped().of(domain).id == carrier


def test_the_shipped_file_is_sound_and_its_words_are_harmless_in_a_mail() -> None:
    known, problems = carriers.read(SHIPPED)
    assert problems == []
    assert list(known.all)[-1] == "default"
    for one in known.all.values():
        text = one.name + "".join(one.steps)
        assert "://" not in text
        assert "www" not in text
        assert "." not in text
        assert "。" in text
        assert "迷惑メール" in text


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"docomo": 5}, "docomo"),
        ({"docomo": {"name": "", "domains": ["a.b"], "steps": ["x"]}}, "docomo.name"),
        ({"docomo": {"domains": ["a.b"], "steps": ["x"]}}, "docomo.name"),
        ({"docomo": {"name": "長" * 21, "domains": ["a.b"], "steps": ["x"]}}, "docomo.name"),
        ({"docomo": {"name": "x", "domains": [], "steps": ["x"]}}, "docomo.domains"),
        ({"docomo": {"name": "x", "domains": "a.b", "steps": ["x"]}}, "docomo.domains"),
        ({"docomo": {"name": "x", "domains": ["A.b"], "steps": ["x"]}}, "docomo.domains"),
        ({"docomo": {"name": "x", "domains": ["a@b.c"], "steps": ["x"]}}, "docomo.domains"),
        ({"docomo": {"name": "x", "domains": ["gmail.com"], "steps": ["x"]}}, "gmail.domains"),
        ({"docomo": {"name": "x", "domains": ["a.b"], "steps": []}}, "docomo.steps"),
        ({"docomo": {"name": "x", "domains": ["a.b"], "steps": ["x"] * 6}}, "docomo.steps"),
        ({"docomo": {"name": "x", "domains": ["a.b"], "steps": ["x\ny"]}}, "docomo.steps"),
        ({"docomo": {"name": "x", "domains": ["a.b"], "steps": ["長" * 33]}}, "docomo.steps"),
        ({"docomo": {"name": "x", "domains": ["a.b"], "steps": ["長" * 30] * 5}}, "docomo.steps"),
        ({"docomo": {"name": "x", "domains": ["a.b"], "steps": ["x"], "url": "x"}}, "docomo.url"),
        ({"default": {"name": "x", "domains": ["a.b"], "steps": ["x"]}}, "default.domains"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(change: dict[str, Any], key: str) -> None:
    _, problems = carriers.read({**SHIPPED, **change})
    assert key in [where for where, _, _ in problems]


@pytest.mark.parametrize(
    ("name", "step", "words"),
    [
        ("ドコモ", "https://kenpo.example/ を開きます。", "https://kenpo.example/ is a URL"),
        ("ドコモ", "mailto:a@kenpo.example へ", "is a URL"),
        ("ドコモ", "kenpo.example を加えます。", "phones link a bare host name"),
        ("<b>ドコモ</b>", "加えます。", "<b> is HTML"),
        ("kenpo.example", "加えます。", "phones link a bare host name"),
        ("ドコモ", "お得なご案内です。", "is advertising"),
    ],
)
def test_an_own_file_brings_nothing_into_the_letter_that_its_template_could_not(
    tmp_path: Any, name: str, step: str, words: str
) -> None:
    from tests.support.factory import settings

    loaded = settings(tmp_path)
    assert app.problems(loaded, app.build_letters(loaded)) == []
    (tmp_path / "config" / "carriers.toml").write_text(f'[default]\nname = "{name}"\nsteps = ["{step}"]\n', "utf-8")
    loaded = settings(tmp_path)
    (found,) = app.problems(loaded, app.build_letters(loaded))
    assert found.startswith("carriers.toml: [default]: ")
    assert words in found


def test_a_default_is_needed() -> None:
    assert carriers.read({})[1][0][0] == "default"


def test_an_installation_may_have_its_own_file(tmp_path: Any) -> None:
    from tests.support.factory import settings

    assert settings(tmp_path).carriers is carriers.shipped()
    own = tmp_path / "config" / "carriers.toml"
    own.write_text('[default]\nname = "メール"\nsteps = ["窓口へお電話ください。"]\n', "utf-8")
    assert settings(tmp_path).carriers.of("docomo.ne.jp").steps == ("窓口へお電話ください。",)
    own.write_text("[default]\nname = 5\n", "utf-8")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "config", {})
    assert [problem.key for problem in caught.value.problems] == ["default.name", "default.steps"]
