"""What the pages are made of: forms, marks, networks, cookies, times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response

from mailbot.config import Site
from mailbot.config.site import SiteSection, WebSection
from mailbot.credentials import KeyRing
from mailbot.web import japan
from mailbot.web.cookies import Cookies
from mailbot.web.forms import MAX_FIELDS, BadForm, parse
from mailbot.web.marks import Marks
from mailbot.web.network import Clients, Guesses, hosts, origins

NOON = 1_795_143_600_000


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", {}),
        (b"a=1&b=%E8%8A%B1&a=2", {"a": "2", "b": "花"}),
        (b"nickname=%0D%0ABcc%3A+x", {"nickname": "\r\nBcc: x"}),
        ("a=花".encode(), {"a": "花"}),
        (b"empty=", {"empty": ""}),
    ],
)
def test_a_form_is_read(body: bytes, fields: dict[str, str]) -> None:
    assert parse(body) == fields


@pytest.mark.parametrize(
    "body",
    [
        b"a=%FF",
        b"\xff=1",
        b"a=%ED%A0%80",  # a lone surrogate
        b"a=%00",
        "&".join(f"f{i}=1" for i in range(10_000)).encode(),
        "&".join(f"f{i}=1" for i in range(MAX_FIELDS + 1)).encode(),
        b"password=" + b"x" * 1025,
        b"password=" + "あ".encode() * 342,
    ],
)
def test_a_form_that_cannot_be_right_is_refused_whole(body: bytes) -> None:
    assert parse(body) is BadForm.NOT_A_FORM


@given(st.binary(max_size=300))
def test_no_bytes_break_the_form_reader(body: bytes) -> None:
    found = parse(body)
    assert isinstance(found, BadForm) or all("\0" not in value for value in found.values())


def test_a_mark_fits_its_own_place_only() -> None:
    ring = KeyRing.create(NOON)
    marks = Marks(ring)
    mark = marks.make(NOON, "form", "a-society", 7, "browser:x")
    assert marks.fits(mark, "form", "a-society", 7, "browser:x")
    assert not marks.fits(mark, "form", "b-society", 7, "browser:x")
    assert not marks.fits(mark, "form", "a-society", 8, "browser:x")
    assert not marks.fits(mark, "link-r", "a-society", 7, "browser:x")
    assert not marks.fits(mark, "form", "a-society", 7, "browser:y")
    assert not Marks(KeyRing.create(NOON)).fits(mark, "form", "a-society", 7, "browser:x")
    for other in ("", "a", mark[:-1], mark + "a", mark[:-1] + ("b" if mark[-1] == "a" else "a"), "é" + mark[1:]):
        assert not marks.fits(other, "form", "a-society", 7, "browser:x")


def test_marks_live_through_a_rotation_and_die_with_a_compromised_key() -> None:
    ring = KeyRing.create(NOON)
    mark = Marks(ring).make(NOON, "form", "s", 0, "t")
    assert Marks(ring.rotate(NOON + 1, NOON + 2)).fits(mark, "form", "s", 0, "t")
    assert not Marks(ring.rotate_compromised(NOON + 1)).fits(mark, "form", "s", 0, "t")


@pytest.mark.parametrize(
    ("peer", "forwarded", "network"),
    [
        ("203.0.113.9", None, "203.0.113.0/24"),
        ("2001:db8:1:2::3", None, "2001:db8:1::/48"),
        ("::ffff:203.0.113.9", None, "203.0.113.0/24"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.0/24"),  # not a proxy of ours: its word counts for nothing
        ("10.0.0.1", "198.51.100.1", "198.51.100.0/24"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "198.51.100.0/24"),
        ("10.0.0.1", "6.6.6.6, rubbish", "10.0.0.0/24"),
        ("10.0.0.1", None, "10.0.0.0/24"),
        (None, None, "unknown"),
    ],
)
def test_the_network_of_a_request(peer: str | None, forwarded: str | None, network: str) -> None:
    assert Clients(["10.0.0.0/8"]).network(peer, forwarded) == network


def _site(url: str, listen: str) -> Site:
    return Site(site=SiteSection(web_url=url), web=WebSection(listen=listen))


def test_our_hosts_are_the_public_one_and_the_loopback_we_listen_on() -> None:
    ours = hosts(_site("https://kenpo.example", "127.0.0.1:8080"))
    assert ours == {"kenpo.example", "kenpo.example:443", "127.0.0.1:8080", "localhost:8080", "[::1]:8080"}
    assert hosts(_site("https://kenpo.example", "10.0.0.5:8080")) == {"kenpo.example", "kenpo.example:443"}
    assert "https://kenpo.example" in origins(_site("https://kenpo.example", "127.0.0.1:8080"))
    assert "http://kenpo.example" not in origins(_site("https://kenpo.example", "127.0.0.1:8080"))


def test_guesses_are_counted_by_network_for_ten_minutes() -> None:
    guesses = Guesses(limit=20)
    assert [guesses.count("a", NOON + i) for i in range(20)] == [None] * 20
    assert guesses.count("a", NOON + 20) == NOON + 600_000
    assert guesses.count("b", NOON + 20) is None
    at = (NOON, NOON + 599_999, NOON + 600_000)
    assert [guesses.again_at("a", now) for now in at] == [NOON + 600_000, NOON + 600_000, None]
    assert guesses.again_at("b", NOON) is guesses.again_at("c", NOON) is None
    assert guesses.count("a", NOON + 600_000) is None


def test_the_memory_of_guesses_is_bounded() -> None:
    guesses = Guesses(limit=1, most_networks=2)
    for network in ("a", "b", "c"):
        guesses.count(network, NOON)
    assert guesses.count("c", NOON) is not None
    assert guesses.count("a", NOON) is None


@pytest.mark.parametrize(("secure", "prefix"), [(True, "__Host-"), (False, "")])
def test_cookies_are_bound_to_the_host_where_there_is_https(secure: bool, prefix: str) -> None:
    cookies, response = Cookies(secure), Response()
    cookies.set(response, "mb-session-a", "value", 60)
    header = response.headers["set-cookie"]
    assert header.startswith(f"{prefix}mb-session-a=value;")
    assert "HttpOnly" in header
    assert "SameSite=lax" in header
    assert "Path=/" in header
    assert "Domain" not in header
    assert ("Secure" in header) is secure
    assert cookies.get({f"{prefix}mb-session-a": "value"}, "mb-session-a") == "value"
    assert cookies.get({f"{prefix}mb-session-a": "va lue\r\n"}, "mb-session-a") is None


def test_a_plain_cookie_counts_for_nothing_over_https() -> None:
    assert Cookies(True).get({"mb-form": "planted"}, "mb-form") is None


def test_birth_years_are_named_in_every_era_they_belong_to() -> None:
    years = japan.birth_years(NOON)
    assert [value for value, _ in years] == [str(year) for year in range(2026, 1905, -1)]
    words = dict(years)
    assert [words[year] for year in ("2026", "2019", "1989", "1988", "1926", "1912", "1906")] == [
        "2026（令和8）",
        "2019（平成31／令和元）",
        "1989（昭和64／平成元）",
        "1988（昭和63）",
        "1926（大正15／昭和元）",
        "1912（明治45／大正元）",
        "1906（明治39）",
    ]
    new_year = 1_798_729_200_000  # 2027-01-01 0:00 in Japan
    assert japan.birth_years(new_year - 1)[0][0] == "2026"
    assert japan.birth_years(new_year)[0][0] == "2027"


def test_times_in_japan() -> None:
    assert japan.moment(NOON) == "2026年11月20日（金）12時00分"
    assert japan.until(NOON + 3 * 3_600_000, NOON) == "15時00分"
    assert japan.until(NOON + 12 * 3_600_000, NOON) == "2026年11月21日（土）0時00分"
    assert japan.next_minute(NOON) == NOON
    assert japan.next_minute(NOON + 1) == NOON + 60_000
