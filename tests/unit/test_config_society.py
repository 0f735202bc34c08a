"""Rules inside a society's file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mailbot.config import HelpCase, Society, Start
from mailbot.config.labels import DEFAULT_LABELS
from mailbot.config.society import contrast_on_white

FILE = Path(__file__).parents[1] / "config" / "good" / "societies" / "kaede.toml"


def society(**changes: Any) -> Society:
    return Society.model_validate({**tomllib.loads(FILE.read_text("utf-8")), "id": "kaede", **changes})


def channel(name: str, *cases: str) -> dict[str, Any]:
    return {"kind": "phone", "name": name, "value": "03-0000-0000", **({"cases": cases} if cases else {})}


def test_a_society_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(society(), "name", "別の組合")  # noqa: B010  # the type checker knows it too


def test_a_label_is_the_society_s_own_or_the_default() -> None:
    own = society(labels={"login.title": "会員ログイン"})
    assert own.label("login.title") == "会員ログイン"
    assert own.label("login.id") == DEFAULT_LABELS["login.id"]
    with pytest.raises(KeyError):
        own.label("login.titel")


def test_the_channel_that_names_the_case_answers_it() -> None:
    own = society(help=[channel("代表"), channel("登録窓口", "registration", "no-mail")])
    assert [c.name for c in own.help_for(HelpCase.REGISTRATION)] == ["登録窓口"]
    assert [c.name for c in own.help_for(HelpCase.LOGIN)] == ["代表"]


def test_somebody_always_helps() -> None:
    own = society(help=[channel("登録窓口", "registration")])
    assert [c.name for c in own.help_for(HelpCase.PAPER_LOST)] == ["登録窓口"]


def test_journeys_are_chosen_by_their_start_in_the_file_s_order() -> None:
    steps = ["temporary-login", "credentials"]
    own = society(
        journeys={"b": {"starts": ["web-form"], "steps": steps}, "a": {"starts": ["page", "web-form"], "steps": steps}}
    )
    assert list(own.journeys_for(Start.WEB_FORM)) == ["b", "a"]
    assert list(own.journeys_for(Start.PAGE)) == ["a"]
    assert own.journeys_for(Start.STAFF) == {}


@pytest.mark.parametrize(
    ("colour", "ratio"), [("#000000", 21.0), ("#ffffff", 1.0), ("#767676", 4.54), ("#777777", 4.48)]
)
def test_contrast_as_wcag_computes_it(colour: str, ratio: float) -> None:
    assert contrast_on_white(colour) == pytest.approx(ratio, abs=0.005)


@pytest.mark.parametrize("text", ["digits:3", "digits:25", "digits", "kana:8", "digits:8 ", "digits:08", "letters:４"])
def test_a_format_that_is_none(text: str) -> None:
    with pytest.raises(ValidationError, match="such as digits:8"):
        society(temporary={"password": text})


@pytest.mark.parametrize("text", ["digits:4", "easy:10", "letters:24"])
def test_a_format(text: str) -> None:
    assert society(temporary={"password": text}).temporary.password == text


def test_a_short_id_with_as_short_a_password_is_refused() -> None:
    with pytest.raises(ValidationError, match="too short beside"):
        society(temporary={"login_id": "digits:5", "password": "digits:5"})


@pytest.mark.parametrize("name", ["K", "Kaede", "kaede_1", "1kaede", "kaede ", "k" * 32, "kaede\n"])
def test_an_id_stands_in_urls_and_keys(name: str) -> None:
    with pytest.raises(ValidationError, match="id"):
        society(id=name)


def test_the_domains_that_sign_are_those_of_the_senders() -> None:
    assert society().addresses.sender_domains == ("kaede.example",)
