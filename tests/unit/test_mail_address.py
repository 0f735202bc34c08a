"""Addresses: the strict path, the typed field, keys, the carrier dialect."""

import re
import string
from email.utils import parseaddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbot.mail.address import (
    LEGACY_DOMAINS,
    Address,
    AddressError,
    is_bare_postmaster,
    never_answer,
    parse_mailbox,
    parse_path,
    parse_typed,
    split_argument,
)

ATEXT = string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~"
labels = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20)
domains = st.one_of(
    st.sampled_from(sorted(LEGACY_DOMAINS)),
    st.builds(lambda parts, last: ".".join([*parts, last]), st.lists(labels, min_size=1, max_size=4), st.just("jp")),
)
locals_ = st.text(ATEXT + ".", min_size=1, max_size=64).filter(lambda local: "=?" not in local)
addresses = st.builds(Address, locals_, domains)


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (b"<taro@docomo.ne.jp>", "taro@docomo.ne.jp"),
        (b"<Taro@DOCOMO.NE.JP>", "Taro@docomo.ne.jp"),
        (b"<a..b.@docomo.ne.jp>", "a..b.@docomo.ne.jp"),
        (b"<.abc@ezweb.ne.jp>", ".abc@ezweb.ne.jp"),
        (b'<"a..b."@docomo.ne.jp>', "a..b.@docomo.ne.jp"),
        (b'<"a\\.\\.b"@docomo.ne.jp>', "a..b@docomo.ne.jp"),
        (b'<"plain"@e.jp>', "plain@e.jp"),
        (b"<@relay.jp:a@e.jp>", "a@e.jp"),
        (b"<@relay.jp,@b.jp:a@e.jp>", "a@e.jp"),
        (b"<" + b"a" * 64 + b"@e.jp>", "a" * 64 + "@e.jp"),
        (b"<o'brien+x=y/z{1}@e-mail.xn--r8jz45g.jp>", "o'brien+x=y/z{1}@e-mail.xn--r8jz45g.jp"),
        ("<a@e.jp>", "a@e.jp"),
    ],
)
def test_path(argument: bytes | str, text: str) -> None:
    assert str(parse_path(argument)) == text


def test_null_reverse_path() -> None:
    assert parse_path(b"<>") is None


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        (b"", "no-brackets"),
        (b"a@b.jp", "no-brackets"),
        (b"<a@b.jp", "no-brackets"),
        (b"<a@b.jp> x", "no-brackets"),
        (b"<a>", "no-at"),
        (b"< >", "no-at"),
        (b"<@e.jp>", "bad-local"),
        (b"<a@>", "bad-domain"),
        (b"<a\0b@e.jp>", "bad-local"),
        (b'<"x\r>', "no-at"),
        (b'<"x\r"@e.jp>', "bad-local"),
        (b"<a b@e.jp>", "bad-local"),
        (b'<"a b"@e.jp>', "bad-local"),
        (b'<"a@b"@e.jp>', "bad-local"),
        (b'<"a>b"@e.jp>', "bad-local"),
        (b'<"a\\"b"@e.jp>', "bad-local"),
        (b'<""@e.jp>', "bad-local"),
        (b'<"@e.jp>', "bad-local"),
        (b"<a..b@gmail.com>", "bad-local"),
        (b"<a.@e.jp>", "bad-local"),
        (b"<a@b@e.jp>", "bad-local"),
        (b"<a<b@e.jp>", "bad-local"),
        (b"<a,b@e.jp>", "bad-local"),
        (b"<" + b"a" * 65 + b"@e.jp>", "too-long"),
        (b"<a@" + b"a." * 126 + b"jp>", "too-long"),
        (b"<" + b"a" * 64 + b"@" + b"abcdefghi." * 19 + b"jp>", "too-long"),
        (b"<a@jp>", "bad-domain"),
        (b"<a@e..jp>", "bad-domain"),
        (b"<a@-e.jp>", "bad-domain"),
        (b"<a@e-.jp>", "bad-domain"),
        (b"<a@e.jp.>", "bad-domain"),
        (b"<a@e_x.jp>", "bad-domain"),
        (b"<a@[192.0.2.1]>", "bad-domain"),
        (b"<a@192.0.2.1>", "bad-domain"),
        (b"<a@" + b"a" * 64 + b".jp>", "bad-domain"),
        (b"<a@e.jp\n>", "bad-domain"),
        ("<あ@例え.jp>".encode(), "not-ascii"),
        (b"<a@e.jp\xe3>", "not-ascii"),
        (b"<=?utf-8?q?a@attacker.jp>", "bad-local"),
        (b"<=?utf-8?q?=61=40x=3e=0d=0aRCPT_TO=3a=3cy=40z.jp?=@attacker.jp>", "bad-local"),
        (
            b"<=?utf-8?q?=61=40victim.example=3e=0d=0aRCPT_TO=3a=3cextra=40victim2.example?=@attacker.jp>",
            "too-long",
        ),
    ],
)
def test_bad_path(argument: bytes, problem: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_path(argument)
    assert caught.value.problem == problem


def test_longest_address_is_254_octets() -> None:
    domain = "abcdefghi." * 18 + "abcdefg.jp"
    assert len(str(parse_path(f"<{'a' * 63}@{domain}>"))) == 254
    with pytest.raises(AddressError, match="too-long"):
        parse_path(f"<{'a' * 64}@{domain}>")


def test_a_configured_carrier_joins_the_dialect() -> None:
    configured = LEGACY_DOMAINS | {"willcom.example"}
    address = parse_path(b"<a..b@willcom.example>", configured)
    assert address is not None
    assert address.wire_for(configured) == "a..b@willcom.example"
    assert address.wire == '"a..b"@willcom.example'


def test_wire_forms() -> None:
    carrier, plain = Address("a..b.", "docomo.ne.jp"), Address("a.b", "e.jp")
    assert (carrier.wire, carrier.rfc_wire) == ("a..b.@docomo.ne.jp", '"a..b."@docomo.ne.jp')
    assert (plain.wire, plain.rfc_wire) == ("a.b@e.jp", "a.b@e.jp")
    assert Address("a..b", "e.jp").wire == '"a..b"@e.jp'


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A.B@DOCOMO.NE.JP", "a.b@docomo.ne.jp", True),
        ("K.Suzuki@au.com", "k.suzuki@AU.com", True),
        ("a.b@gmail.com", "ab@gmail.com", False),
        ("a+x@gmail.com", "a@gmail.com", False),
        ("Taro@company.example", "taro@company.example", False),
        ("a@例え.jp", "a@xn--r8jz45g.jp", True),
    ],
)
def test_key(one: str, other: str, same: bool) -> None:
    assert (parse_typed(one).key == parse_typed(other).key) is same


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("taro@docomo.ne.jp", "taro@docomo.ne.jp"),
        ("　ｔａｒｏ＠ｄｏｃｏｍｏ．ｎｅ．ｊｐ　", "taro@docomo.ne.jp"),
        ("taro @ docomo.ne.jp\r\n", "taro@docomo.ne.jp"),
        ("taro\u200b@docomo.ne.jp", "taro@docomo.ne.jp"),
        ("taroーyamada−1@e‐mail.jp", "taro-yamada-1@e-mail.jp"),
        ("a..b.@docomo.ne.jp", "a..b.@docomo.ne.jp"),
        ('"a..b."@docomo.ne.jp', "a..b.@docomo.ne.jp"),
        ("a@例え。jp", "a@xn--r8jz45g.jp"),
        ("a@メール.jp", "a@xn--4dkua4c.jp"),
    ],
)
def test_typed(typed: str, text: str) -> None:
    assert str(parse_typed(typed)) == text


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("", "empty"),
        (" 　", "empty"),
        ("taro", "no-at"),
        ("taro.docomo.ne.jp", "no-at"),
        ("@docomo.ne.jp", "bad-local"),
        ("太郎@docomo.ne.jp", "bad-local"),
        ("a..b@gmail.com", "bad-local"),
        ("taro,@e.jp", "bad-local"),
        ("<taro@e.jp", "bad-local"),
        ("taro@", "bad-domain"),
        ("taro@docomo", "bad-domain"),
        ("taro@docomo,ne.jp", "bad-domain"),
        ("taro@e.jp>", "bad-domain"),
        ("taro@\u0301.jp", "bad-domain"),
        ("a" * 65 + "@e.jp", "too-long"),
        ("a" * 5000 + "@e.jp", "no-at"),
        ("a@b.jp c@d.jp", "double"),
        ("taro@@e.jp", "double"),
        ("taro＠taro@e.jp", "double"),
    ],
)
def test_bad_typed(typed: str, problem: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_typed(typed)
    assert caught.value.problem == problem


@pytest.mark.parametrize(
    "local",
    [
        "mailer-daemon", "MAILER-DAEMON", "postmaster", "users-request", "owner-users", "users-owner", "listserv",
        "majordomo", "noreply", "no-reply", "donotreply", "do-not-reply", "list-bounces", "root", "abuse", "bounce",
        "bounces", "bounce-7", "bounces+12=e.jp", "bounce.x", "SRS0=ab=cd=e.jp=x", "srs1=x", "prvs=0123=taro",
    ],
)  # fmt: skip
def test_never_answer(local: str) -> None:
    assert never_answer(Address(local, "e.jp"))


@pytest.mark.parametrize(
    "local", ["taro", "request", "owner", "rooter", "bouncer", "abuser", "postmasters", "reply", "srs", "noreplyplease"]
)
def test_people_are_answered(local: str) -> None:
    assert not never_answer(Address(local, "e.jp"))


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"<a@b.jp> SIZE=1 BODY=8BITMIME", (b"<a@b.jp>", b"SIZE=1 BODY=8BITMIME")),
        (b" <a@b.jp> ", (b"<a@b.jp>", b"")),
        (b"<>", (b"<>", b"")),
        (b"a@b.jp SIZE=1", (b"a@b.jp SIZE=1", b"")),
    ],
)
def test_split_argument(argument: bytes, expected: tuple[bytes, bytes]) -> None:
    assert split_argument(argument) == expected


def test_bare_postmaster() -> None:
    assert is_bare_postmaster(b"<PostMaster>")
    assert not is_bare_postmaster(b"<postmaster@e.jp>")


def safe(text: str) -> bool:
    return bool(re.fullmatch(r"[!-~]+", text)) and not re.search(r"[<>()\[\],;:\\]", text) and "=?" not in text


@given(addresses)
def test_every_form_is_safe_and_reads_back(address: Address) -> None:
    for form in (address.text, address.wire, address.rfc_wire):
        assert safe(form)
    assert parse_path(f"<{address.wire}>") == address
    assert parse_path(f"<{address.rfc_wire}>") == address
    assert parse_path(f"<{address.wire}>".encode()) == address
    assert parse_mailbox(address.rfc_wire) == address
    # Mail libraries re-read what they are given: they must read the same mailbox.
    assert parseaddr(address.rfc_wire)[1] == address.rfc_wire


@given(st.one_of(st.binary(max_size=80), st.builds(lambda inner: b"<" + inner + b">", st.binary(max_size=80))))
def test_any_bytes_give_a_safe_address_or_a_problem(argument: bytes) -> None:
    try:
        address = parse_path(argument)
    except AddressError:
        return
    assert address is None or safe(address.wire)


@given(st.text(max_size=80), st.sampled_from(["", "@e.jp", "@docomo.ne.jp"]))
def test_any_typed_text_gives_a_safe_address_or_a_problem(text: str, tail: str) -> None:
    try:
        address = parse_typed(text + tail)
    except AddressError:
        return
    assert safe(address.wire)
    assert parse_typed(address.wire) == address


@given(st.text(max_size=20), st.text(max_size=20))
def test_the_constructor_is_the_last_line_of_defence(local: str, domain: str) -> None:
    try:
        address = Address(local, domain)
    except AddressError:
        return
    assert safe(address.wire)
