"""Key files by selector: made at the first start, kept, rotated beside those that sign."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mailbot import app
from mailbot.cli import build
from mailbot.config import Settings
from mailbot.config.site import DkimSection, Site
from mailbot.mail.dkim import generate_key
from tests.support.robot import REPOSITORY


def settings(folder: Path, selector: str = "mailbot1", ed25519: str = "") -> Settings:
    site = Site(dkim=DkimSection(selector=selector, ed25519_selector=ed25519, folder=folder))
    return Settings(Path(), site, {}, None)  # type: ignore[arg-type]  # no addresses are looked up


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_first_start_makes_what_is_missing_and_the_next_keeps_it(tmp_path: Path) -> None:
    app.open_signer(settings(tmp_path))
    first = files(tmp_path)
    assert list(first) == ["dkim-mailbot1.pem"]
    app.open_signer(settings(tmp_path, ed25519="ed1"))
    both = files(tmp_path)
    assert both.keys() == {"dkim-mailbot1.pem", "dkim-ed1.pem"}
    assert both["dkim-mailbot1.pem"] == first["dkim-mailbot1.pem"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    app.open_signer(settings(tmp_path, ed25519="ed1"))
    assert files(tmp_path) == both


def test_one_signature_for_each_key(tmp_path: Path) -> None:
    mail = b"From: a@b.example\r\nTo: c@d.example\r\n\r\nx\r\n"
    assert app.open_signer(settings(tmp_path)).sign(mail).count(b"DKIM-Signature:") == 1
    signed = app.open_signer(settings(tmp_path, ed25519="ed1")).sign(mail)
    assert (signed.count(b"a=rsa-sha256"), signed.count(b"a=ed25519-sha256")) == (1, 1)
    assert signed.index(b"a=rsa-sha256") < signed.index(b"a=ed25519-sha256")


@pytest.mark.parametrize(("option", "ed25519"), [("selector", True), ("ed25519", False)])
def test_a_key_of_the_other_kind_is_refused(tmp_path: Path, option: str, ed25519: bool) -> None:
    app.write_private(tmp_path / "dkim-k.pem", generate_key(ed25519=ed25519))
    with pytest.raises(app.StartProblem, match=r"dkim-k\.pem: not the kind of key"):
        app.open_signer(settings(tmp_path, **{option: "k"}))


def test_a_file_that_others_can_read_or_that_is_no_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "dkim-mailbot1.pem"
    app.write_private(file, b"no key")
    with pytest.raises(app.StartProblem, match="not a private key in PEM form"):
        app.open_signer(settings(tmp_path))
    file.chmod(0o644)
    with pytest.raises(app.StartProblem, match="chmod 600"):
        app.open_signer(settings(tmp_path))


def test_rotation(tmp_path: Path) -> None:
    variables = {
        "MAILBOT_SITE_DATA": f'"{tmp_path}"',
        "MAILBOT_SITE_WEB_URL": '"http://127.0.0.1:8080"',
        "MAILBOT_DKIM_ED25519_SELECTOR": '"ed1"',
    }

    def mailbot(*words: str, **more: str) -> str:
        arguments = ["--config", str(REPOSITORY / "config"), *words]
        done = CliRunner().invoke(build(), arguments, env={**variables, **more})
        assert done.exit_code == 0, done.output
        return done.stdout

    def signing(**more: str) -> dict[str, bool]:
        rows = json.loads(mailbot("keys", "dkim", "--json", **more))
        return {row["name"].partition(".")[0]: row["signs"] for row in rows}

    assert signing() == {"mailbot1": True, "ed1": True}
    before = files(tmp_path)
    said = mailbot("keys", "dkim-rotate")
    assert 'selector = "mailbot2"' in said
    assert 'ed25519_selector = "ed2"' in said
    assert signing() == {"mailbot1": True, "ed1": True, "mailbot2": False, "ed2": False}
    made = files(tmp_path)
    assert {name: made[name] for name in before} == before
    assert (tmp_path / "dkim-mailbot2.pem").stat().st_mode & 0o777 == 0o600
    assert mailbot("keys", "dkim-rotate") == said  # asked twice, the next key is still the next
    assert files(tmp_path) == made
    assert signing(MAILBOT_DKIM_SELECTOR='"mailbot2"') == {
        "mailbot2": True,
        "ed1": True,
        "mailbot1": False,
        "ed2": False,
    }
