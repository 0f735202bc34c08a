"""A society's file in words: everything follows from the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mailbot.config import Society, load
from mailbot.config.site import Site
from mailbot.office import explain, policy, sheet
from mailbot.registration.steps import STEPS

SETTINGS = load(Path(__file__).parents[2] / "config", {})
SITE = Site()


def sixth(**more: Any) -> Society:
    """A society that ships with nothing."""
    base: dict[str, Any] = {
        "id": "sixth",
        "name": "第六健康保険組合",
        "addresses": {"robot": "r@sixth.example", "bounce": "b@sixth.example", "registration": "t+a%b@sixth.example"},
        "help": [{"kind": "phone", "name": "窓口", "value": "06-0000-0000", "hours": "9–12", "cases": ["paper-lost"]}],
        "journeys": {"paper": {"starts": ["blank-mail"], "steps": ["temporary-login", "credentials"]}},
        "temporary": {"lifetime_days": 60},
    }
    return Society.model_validate(base | more)


def rules(society: Society) -> set[str]:
    return {warning.rule for warning in policy.warnings(society)}


def test_every_step_has_words() -> None:
    assert set(STEPS) <= explain.EXPLAINED_STEPS


def test_explain_tells_of_every_step_and_the_pin() -> None:
    data = {
        "journeys": {
            "card": {
                "starts": ["blank-mail"],
                "steps": ["insurance-details", "consent", "show-key", "mailed-link", "enter-key", "credentials"],
                "captcha": True,
            }
        },
        "consents": [{"id": "privacy", "title": "個人情報の取扱い", "version": "1"}],
        "login": {"pin": {"digits": 8, "minutes": 5}, "opens": "completion-delivered"},
    }
    words = explain.explain(sixth(**data), SITE)
    for fact in ("「記号」、「番号」、「生年月日」", "機械", "「個人情報の取扱い」", "4けた", "8けた", "5分"):
        assert fact in words
    assert "お知らせに印刷するもの" not in words


def test_explain_follows_the_file() -> None:
    changed = sixth(links={"registration_minutes": 95}, left_closes_login=False, purge_left_days=90)
    words = explain.explain(changed, SITE)
    assert words.startswith("第六健康保険組合")
    for fact in ("t+a%b@sixth.example へ空メール", "1時間35分", "60日で使えなくなります", "06-0000-0000"):
        assert fact in words
    assert "お知らせをなくしたとき: 窓口" in words
    assert "そのまま使い続けられます。90日たつと" in words
    assert "12文字以上" in words


def test_explain_of_several_journeys() -> None:
    words = explain.explain(SETTINGS.societies["shochiku"], SITE)
    assert "利用登録 その1" in words
    assert "利用登録 その2" in words
    assert "名簿にメールアドレスがある方だけ" in words
    assert "365日で期限が切れ" in words
    assert "ログインID、仮パスワード（英字8文字）" in words


def test_a_careful_society_has_no_warnings() -> None:
    assert rules(sixth()) == set()


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"password": {"require": ["upper"]}}, "password.require"),
        ({"password": {"min_length": 8}}, "password.min_length"),
        ({"password": {"allowed_characters": "_-"}}, "password.allowed_characters"),
        ({"password": {"expires_days": 90}}, "password.expires_days"),
        ({"temporary": {"password": "digits:8"}}, "temporary.password"),
        ({"reissue": {"login_id": True, "temporary_password": "letters:8"}}, "reissue"),
        (
            {"journeys": {"open": {"starts": ["page"], "steps": ["temporary-login", "credentials"]}}},
            "journeys.open.starts",
        ),
        ({"login_id": {"keep_printed": True, "digit_free": {"length": 8, "positions": [7]}}}, "login_id.keep_printed"),
        (
            {"profile": {"disclosure": [{"id": "iryouhi", "label": "医療費", "default": True}]}},
            "profile.disclosure.iryouhi",
        ),
        ({"left_closes_login": False}, "left_closes_login"),
        ({"login": {"pin": {"digits": 5}}}, "login.pin.digits"),
        ({"formula": {"login_id": "7-{symbol:3}{number:6}"}}, "formula"),
        ({"help": [{"kind": "mail", "name": "窓口", "value": "h@sixth.example"}]}, "help"),
    ],
)
def test_weak_rules_are_warned_of(more: dict[str, Any], rule: str) -> None:
    assert rules(sixth(**more)) == {rule}


def test_the_qr_code_holds_a_mailto_uri_or_the_login_page() -> None:
    assert policy.qr_content(sixth(), SITE) == "mailto:t+a%25b@sixth.example"
    assert policy.qr_content(SETTINGS.societies["yokokou"], SITE) == "mailto:touroku@yokokou.example"
    assert policy.qr_content(SETTINGS.societies["shochiku"], SITE, login=True) == "http://127.0.0.1:8080/shochiku/login"
    with pytest.raises(ValueError, match=r"addresses\.registration"):
        policy.qr_content(SETTINGS.societies["shochiku"], SITE)


@pytest.mark.parametrize("text", ["=1+1", "+81", "-1", "@x", "\tx", "\rx"])
def test_87_cells_that_a_spreadsheet_would_run(text: str) -> None:
    assert sheet.safe(text) == f"'{text}"


def test_other_cells_stay() -> None:
    assert [sheet.safe(text) for text in ("", "a=b", "髙﨑", "00123")] == ["", "a=b", "髙﨑", "00123"]
