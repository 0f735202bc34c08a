"""What `config.load` makes of good files: paths, overrides, routes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from mailbot.config import ConfigError, Directory, Route, Settings, load, split_endpoint
from mailbot.mail.envelope import Purpose

GOOD = Path(__file__).parents[1] / "config" / "good"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOOD, tmp_path / "config"))


def loaded(folder: Path, environment: Mapping[str, str] | None = None) -> Settings:
    return load(folder, environment or {})


def test_societies_are_named_by_their_files(folder: Path) -> None:
    settings = loaded(folder)
    assert list(settings.societies) == ["kaede", "sakura"]
    assert settings.societies["kaede"].id == "kaede"


def test_what_is_not_toml_in_the_folder_is_left_alone(folder: Path) -> None:
    (folder / "societies" / "kaede.toml~").write_text("an editor's copy")
    assert list(loaded(folder).societies) == ["kaede", "sakura"]


def test_paths_start_at_the_folder_and_default_into_the_data_folder(folder: Path) -> None:
    site = loaded(folder).site
    data = folder.parent / "var"
    assert (site.site.data, site.site.keys) == (data, data / "keys.json")
    assert (site.dkim.folder, site.ops.token_file) == (data, data / "ops.token")
    assert (site.site.templates, site.smtp.tls_key) == (Path(), Path())


def test_paths_of_ones_own(folder: Path) -> None:
    environment = {
        "MAILBOT_SITE_DATA": "/srv/mailbot",
        "MAILBOT_SITE_KEYS": "ring.json",
        "MAILBOT_SMTP_TLS_KEY": "tls.pem",
    }
    settings = loaded(folder, environment)
    assert settings.site.site.keys == folder / "ring.json"
    assert settings.site.smtp.tls_key == folder / "tls.pem"
    assert settings.database_url == "sqlite+aiosqlite:////srv/mailbot/mailbot.sqlite3"


def test_a_database_of_ones_own(folder: Path) -> None:
    url = "postgresql+psycopg://mailbot@db.example/mailbot"
    assert loaded(folder, {"MAILBOT_SITE_DATABASE": url}).database_url == url


@pytest.mark.parametrize(
    ("text", "value"),
    [('["0.0.0.0:25", "[::]:25"]', ("0.0.0.0:25", "[::]:25")), ("[]", ())],
)
def test_a_variable_is_a_toml_value(folder: Path, text: str, value: tuple[str, ...]) -> None:
    assert loaded(folder, {"MAILBOT_SMTP_LISTEN": text}).site.smtp.listen == value


def test_a_variable_is_plain_text_where_that_is_no_toml(folder: Path) -> None:
    environment = {"MAILBOT_AUTHENTICATION_MODE": "enforce", "MAILBOT_COURIER_BATCH": "7"}
    environment["MAILBOT_RELAY_URL"] = "smtp://relay.example:25"
    site = loaded(folder, environment).site
    assert (site.relay.url, site.courier.batch) == ("smtp://relay.example:25", 7)
    assert site.authentication.mode == "enforce"


def test_a_variable_wins_over_the_file(folder: Path) -> None:
    assert loaded(folder).site.site.host == "mail.kenpo.example"
    assert loaded(folder, {"MAILBOT_SITE_HOST": "mx.kenpo.example"}).site.site.host == "mx.kenpo.example"


def test_variables_of_others_and_the_folder_s_own_are_no_settings(folder: Path) -> None:
    loaded(folder, {"MAILBOT_CONFIG": str(folder), "MAILBOX": "x", "LANG": "C"})


def test_an_error_tells_all_its_problems_in_its_text(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, {"MAILBOT_A": "1", "MAILBOT_B": "2"})
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost", "https://kenpo.example"]
)
def test_plain_http_stays_on_loopback(folder: Path, url: str) -> None:
    assert loaded(folder, {"MAILBOT_SITE_WEB_URL": url}).site.site.web_url == url


# Directory


def route(directory: Directory, address: str) -> Route | None:
    local, _, domain = address.rpartition("@")
    return directory.route(local, domain)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("touroku@kaede.example", Route("kaede", Purpose.REGISTRATION)),
        ("Touroku@KAEDE.example", Route("kaede", Purpose.REGISTRATION)),
        ("touroku+2026@kaede.example", Route("kaede", Purpose.REGISTRATION)),
        ("touroku@sakura.example", Route("sakura", Purpose.REGISTRATION)),
        ("bounce@kaede.example", Route("kaede", Purpose.BOUNCE)),
        ("info@kaede.example", Route("kaede", Purpose.NO_REPLY)),
        ("postmaster@kaede.example", Route("", Purpose.POSTMASTER)),
        ("abuse@sakura.example", Route("", Purpose.ABUSE)),
        ("somebody@kaede.example", None),
        ("touroku@elsewhere.example", None),
        ("+touroku@kaede.example", None),
    ],
)
def test_an_address_leads_to_its_society_and_purpose(folder: Path, address: str, expected: Route | None) -> None:
    assert route(loaded(folder).directory, address) == expected


def test_a_tag_of_its_own_wins_over_the_address_without_it(folder: Path) -> None:
    file = folder / "societies" / "sakura.toml"
    file.write_text(file.read_text().replace("touroku@sakura.example", "touroku+sakura@kaede.example"))
    directory = loaded(folder).directory
    assert route(directory, "touroku+sakura@kaede.example") == Route("sakura", Purpose.REGISTRATION)
    assert route(directory, "touroku+other@kaede.example") == Route("kaede", Purpose.REGISTRATION)


def test_a_society_s_postmaster_may_be_its_own(folder: Path) -> None:
    file = folder / "societies" / "kaede.toml"
    file.write_text(file.read_text().replace("info@kaede.example", "postmaster@kaede.example"))
    assert route(loaded(folder).directory, "postmaster@kaede.example") == Route("kaede", Purpose.NO_REPLY)


@pytest.mark.parametrize(
    ("text", "expected"), [("127.0.0.1:25", ("127.0.0.1", 25)), ("[::1]:25", ("::1", 25)), ("relay:0", ("relay", 0))]
)
def test_an_endpoint(text: str, expected: tuple[str, int]) -> None:
    assert split_endpoint(text) == expected


@pytest.mark.parametrize("text", ["", "25", ":25", "host", "host:", "host:65536", "host:٢٥", "host:-1"])
def test_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        split_endpoint(text)
