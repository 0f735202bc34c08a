"""Key files by selector: made where it is asked for, kept, rotated beside those that sign."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mailbot import app, dkimkeys
from mailbot.cli import build
from mailbot.config import Settings
from mailbot.config.site import DkimSection, Site, SiteSection
from mailbot.mail.dkim import generate_key
from mailbot.private import StartProblem, write_private
from tests.support.robot import REPOSITORY


def settings(folder: Path, selector: str = "mailbot1", ed25519: str = "") -> Settings:
    site = Site(dkim=DkimSection(selector=selector, ed25519_selector=ed25519, folder=folder))
    return Settings(Path(), site, {}, None)  # type: ignore[arg-type]  # no addresses are looked up


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_missing_is_made_when_asked_for_and_kept(tmp_path: Path) -> None:
    dkimkeys.make_keys(settings(tmp_path))
    first = files(tmp_path)
    assert list(first) == ["dkim-mailbot1.pem"]
    dkimkeys.make_keys(settings(tmp_path, ed25519="ed1"))
    both = files(tmp_path)
    assert both.keys() == {"dkim-mailbot1.pem", "dkim-ed1.pem"}
    assert both["dkim-mailbot1.pem"] == first["dkim-mailbot1.pem"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    dkimkeys.make_keys(settings(tmp_path, ed25519="ed1"))
    assert files(tmp_path) == both


def test_a_missing_key_is_a_problem_and_none_is_made_by_the_way(tmp_path: Path) -> None:
    write_private(tmp_path / "dkim-old.pem", generate_key())
    with pytest.raises(StartProblem, match=r"dkim-mailbot1\.pem: this DKIM key is missing: copy it") as caught:
        dkimkeys.open_signer(settings(tmp_path, ed25519="ed1"))
    assert len(caught.value.problems) == 2
    assert dkimkeys.dkim_keys(settings(tmp_path)).keys() == {"old"}
    assert list(files(tmp_path)) == ["dkim-old.pem"]


def test_one_signature_for_each_key(tmp_path: Path) -> None:
    mail = b"From: a@b.example\r\nTo: c@d.example\r\n\r\nx\r\n"
    dkimkeys.make_keys(settings(tmp_path, ed25519="ed1"))
    assert dkimkeys.open_signer(settings(tmp_path)).sign(mail).count(b"DKIM-Signature:") == 1
    signed = dkimkeys.open_signer(settings(tmp_path, ed25519="ed1")).sign(mail)
    assert (signed.count(b"a=rsa-sha256"), signed.count(b"a=ed25519-sha256")) == (1, 1)
    assert signed.index(b"a=rsa-sha256") < signed.index(b"a=ed25519-sha256")


@pytest.mark.parametrize(("option", "ed25519"), [("selector", True), ("ed25519", False)])
def test_a_key_of_the_other_kind_is_refused(tmp_path: Path, option: str, ed25519: bool) -> None:
    write_private(tmp_path / "dkim-good.pem", generate_key())
    write_private(tmp_path / "dkim-k.pem", generate_key(ed25519=ed25519))
    with pytest.raises(StartProblem, match=r"dkim-k\.pem: not the kind of key"):
        dkimkeys.open_signer(settings(tmp_path, **{"selector": "good", option: "k"}))


def test_a_file_that_others_can_read_or_that_is_no_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "dkim-mailbot1.pem"
    write_private(file, b"no key")
    with pytest.raises(StartProblem, match="not a private key in PEM form"):
        dkimkeys.open_signer(settings(tmp_path))
    file.chmod(0o644)
    with pytest.raises(StartProblem, match="chmod 600"):
        dkimkeys.open_signer(settings(tmp_path))


def test_what_the_system_refuses_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "dkim-mailbot1.pem").mkdir(0o700)  # a folder: not even root reads it as a file
    with pytest.raises(StartProblem, match=r"dkim-mailbot1\.pem: cannot be read by \w+ .*chown"):
        dkimkeys.open_signer(settings(tmp_path))
    with pytest.raises(StartProblem, match=r"cannot be written by \w+ .*chown"):
        write_private(Path("/proc/none/dkim-k.pem"), b"key")


async def test_a_database_that_cannot_be_opened_is_said_in_words() -> None:
    given = Settings(Path(), Site(site=SiteSection(database="sqlite:////proc/none/x")), {}, None)  # type: ignore[arg-type]  # as above
    with pytest.raises(StartProblem, match=r"cannot be opened: .* \(/proc/none/x, as \w+\): .*chown"):
        await app.open_database(given)


@pytest.fixture
def mailbot(tmp_path: Path) -> Callable[..., str]:
    variables = {
        "MAILBOT_SITE_DATA": f'"{tmp_path}"',
        "MAILBOT_SITE_WEB_URL": '"http://127.0.0.1:8080"',
        "MAILBOT_DKIM_ED25519_SELECTOR": '"ed1"',
    }

    def run(*words: str, status: int = 0, **more: str) -> str:
        arguments = ["--config", str(REPOSITORY / "config"), *words]
        done = CliRunner().invoke(build(), arguments, env={**variables, **more})
        assert done.exit_code == status, done.output
        return done.output

    return run


def test_looking_makes_no_key(tmp_path: Path, mailbot: Callable[..., str]) -> None:
    """A second machine without the key folder must not print a key of its own."""
    missing = mailbot("keys", "dkim", status=1)
    assert missing.count("this DKIM key is missing") == 2
    assert "keys dkim --make" in missing
    write_private(tmp_path / "dkim-mailbot1.pem", generate_key())
    assert "dkim-ed1.pem: this DKIM key is missing" in mailbot("keys", "dkim", status=1)
    assert list(files(tmp_path)) == ["dkim-mailbot1.pem"]
    assert "ed1._domainkey" in mailbot("keys", "dkim", "--make")


def test_a_lost_key_gets_no_other_under_its_name(tmp_path: Path, mailbot: Callable[..., str]) -> None:
    said = mailbot("keys", "dkim-rotate")
    assert 'selector = "mailbot2"' in said
    assert files(tmp_path).keys() == {"dkim-mailbot2.pem", "dkim-ed2.pem"}


def test_names_of_the_two_kinds_do_not_meet(tmp_path: Path, mailbot: Callable[..., str]) -> None:
    names = {"MAILBOT_DKIM_SELECTOR": '"mailbot1"', "MAILBOT_DKIM_ED25519_SELECTOR": '"mailbot2"'}
    mailbot("keys", "dkim", "--make", **names)
    for _ in range(2):
        said = mailbot("keys", "dkim-rotate", **names)
        assert ';   selector = "mailbot3"\n;   ed25519_selector = "mailbot4"' in said
    assert len(files(tmp_path)) == 4
    after = {"MAILBOT_DKIM_SELECTOR": '"mailbot3"', "MAILBOT_DKIM_ED25519_SELECTOR": '"mailbot4"'}
    assert "mailbot4._domainkey" in mailbot("keys", "dkim", **after)


def test_rotation(tmp_path: Path, mailbot: Callable[..., str]) -> None:
    def signing(**more: str) -> dict[str, bool]:
        rows = json.loads(mailbot("keys", "dkim", "--json", **more))
        return {row["name"].partition(".")[0]: row["signs"] for row in rows}

    mailbot("keys", "dkim", "--make")
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
