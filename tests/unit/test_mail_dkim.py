"""DKIM: what we sign verifies with dkimpy, and nothing listed can be added, changed or removed afterwards."""

import base64

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from dkim.canonicalization import Relaxed
from dkim.crypto import RSASSA_PKCS1_v1_5_sign
from hypothesis import given
from hypothesis import strategies as st

from mailbot.mail.dkim import (
    SIGNED_HEADERS,
    Signer,
    _Relaxed,
    dns_record,
    generate_key,
    load_key,
    next_selector,
)

PEM = generate_key()
KEY = load_key(PEM)
ED25519 = load_key(generate_key(ed25519=True))
SIGNER = Signer([(b"s1", KEY)])
BOTH = Signer([(b"s1", KEY), (b"e1", ED25519)])
HEADERS = (
    b"From: =?utf-8?b?5YGl5L+d?=\r\n <robot@robot.example.jp>\r\n"
    b"To: a..b.@docomo.ne.jp\r\n"
    b"Subject: =?utf-8?b?5YGl5L+d?=\r\n"
    b"Date: Fri, 20 Nov 2026 10:00:00 +0900\r\n"
    b"Message-ID: <abc@robot.example.jp>\r\n"
    b"Auto-Submitted: auto-replied\r\n"
    b"X-Auto-Response-Suppress: All\r\n"
    b"MIME-Version:  1.0\r\n"
    b"Content-Type: text/plain;\r\n\tcharset=utf-8\r\n"
    b"Content-Transfer-Encoding: base64\r\n"
)
BODY = base64.encodebytes("こんにちは。".encode() * 40).replace(b"\n", b"\r\n")
MESSAGE = HEADERS + b"\r\n" + BODY


def verifies(message: bytes, signature: int = 0, domain: bytes = b"robot.example.jp") -> bool:
    """Whether a signature holds, counted from the top."""
    records = {b"s1": dns_record(KEY), b"e1": dns_record(ED25519)}
    asked: list[bytes] = []

    def txt(name: bytes, timeout: int = 5) -> bytes:
        asked.append(name)
        return records[name.partition(b".")[0]].encode()

    try:
        valid = bool(dkim.DKIM(message).verify(signature, dnsfunc=txt))
    except dkim.ValidationError:  # how dkimpy reports a body that does not match
        valid = False
    assert asked == [(b"s1", b"e1")[signature] + b"._domainkey." + domain + b"."]
    return valid


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE,
        HEADERS + b"\r\n" + b"two  spaces \tand tabs \r\n\r\nend\r\n\r\n\r\n",
        HEADERS + b"\r\n",
        HEADERS + b"\r\nno line end",
        HEADERS.replace(b"X-Auto", b"Cc: x@e.jp\r\nReply-To: y@e.jp\r\nList-Unsubscribe: <mailto:z@e.jp>\r\nX-Auto")
        + b"\r\n"
        + BODY,
    ],
)
def test_signature_verifies(message: bytes) -> None:
    signed = SIGNER.sign(message)
    assert signed.startswith(b"DKIM-Signature: ")
    assert signed.endswith(b"\r\n" + message)
    assert verifies(signed)


def tags(signed: bytes) -> dict[str, str]:
    header = signed[: signed.index(b"\r\nFrom:")].decode().partition(":")[2]
    pairs = (tag.strip().partition("=") for tag in header.split(";"))
    return {name: "".join(value.split()) for name, _, value in pairs}


def test_tags() -> None:
    found = tags(SIGNER.sign(MESSAGE))
    assert found["a"] == "rsa-sha256"
    assert found["c"] == "relaxed/relaxed"
    assert (found["d"], found["s"]) == ("robot.example.jp", "s1")
    assert found.keys().isdisjoint({"l", "x", "t"})
    listed = found["h"].split(":")
    for name in SIGNED_HEADERS:
        occurs = MESSAGE.lower().count(b"\r\n" + name + b":") + (name == b"from")
        assert listed.count(name.decode()) == occurs + 1


def test_time_is_an_argument() -> None:
    signed = SIGNER.sign(MESSAGE, now=1_790_000_000_999)
    assert tags(signed)["t"] == "1790000000"
    assert verifies(signed)
    assert SIGNER.sign(MESSAGE) == SIGNER.sign(MESSAGE)


PROTECTED = (
    b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Reply-To", b"Cc", b"Auto-Submitted", b"MIME-Version",
    b"Content-Type", b"Content-Transfer-Encoding", b"List-Unsubscribe", b"In-Reply-To", b"References",
)  # fmt: skip
"""What nobody may add on the way, written out: the program's own list must not decide what is tested."""


@pytest.mark.parametrize("name", PROTECTED)
def test_no_header_that_matters_can_be_added(name: bytes) -> None:
    added = name + b": x@attacker.example\r\n"
    assert not verifies(added + SIGNER.sign(MESSAGE))
    assert not verifies(SIGNER.sign(MESSAGE).replace(b"\r\n\r\n", b"\r\n" + added + b"\r\n", 1))


@pytest.mark.parametrize("line", [line for line in HEADERS.split(b"\r\n") if line[:1].isalpha() and line[:2] != b"X-"])
def test_no_listed_header_can_be_changed(line: bytes) -> None:
    signed = SIGNER.sign(MESSAGE)
    assert not verifies(signed.replace(line, line + b"x", 1))


def test_body_cannot_be_changed_or_extended() -> None:
    signed = SIGNER.sign(MESSAGE)
    assert not verifies(signed + b"more\r\n")
    assert not verifies(signed.replace(BODY[:20], b"A" * 20))


def test_dkimpy_itself_is_left_alone() -> None:
    assert dkim.RSASSA_PKCS1_v1_5_sign is RSASSA_PKCS1_v1_5_sign
    pkcs1 = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert verifies(dkim.sign(MESSAGE, b"s1", b"robot.example.jp", pkcs1) + MESSAGE)


def test_signature_is_the_one_dkimpy_would_make() -> None:
    pkcs1 = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    ours = SIGNER.sign(MESSAGE, now=1_790_000_000_000)
    frame = dkim.DKIM(MESSAGE)
    names = tags(ours)["h"].encode().split(b":")
    theirs = frame.sign(b"s1", b"robot.example.jp", pkcs1, canonicalize=(b"relaxed", b"relaxed"), include_headers=names)
    assert tags(theirs + MESSAGE).keys() - {"t"} == tags(SIGNER.sign(MESSAGE)).keys()
    assert tags(theirs + MESSAGE)["bh"] == tags(ours)["bh"]


def test_a_malformed_header_is_refused() -> None:
    with pytest.raises(dkim.MessageFormatError):
        SIGNER.sign(b"From: x@e.jp\r\nno field\r\n\r\n")


@pytest.mark.parametrize(
    "head", [b"To: x@e.jp", b"From: x@e.jp\r\nFROM: y@e.jp", b"From: x", b"From:", b"From: Robot <x@e.jp> (two)"]
)
def test_without_one_sender_there_is_no_signature(head: bytes) -> None:
    with pytest.raises(ValueError, match="one From field"):
        SIGNER.sign(head + b"\r\n\r\n")


@pytest.mark.parametrize(
    "sender", [b"help@desk.example.jp", b'=?utf-8?b?44GC?=\r\n <"@robot.example.jp"@Desk.Example.jp>']
)
def test_each_sender_s_domain_signs_for_itself(sender: bytes) -> None:
    _, _, rest = MESSAGE.partition(b"\r\nTo:")
    signed = BOTH.sign(b"From: " + sender + b"\r\nTo:" + rest)
    assert verifies(signed, 0, b"desk.example.jp")
    assert verifies(signed, 1, b"desk.example.jp")


def test_two_signatures_the_one_everybody_knows_on_top() -> None:
    signed = BOTH.sign(MESSAGE, now=1_790_000_000_000)
    assert signed.startswith(SIGNER.sign(MESSAGE, now=1_790_000_000_000).removesuffix(MESSAGE))
    assert signed.count(b"DKIM-Signature: ") == 2
    assert verifies(signed, 0)
    assert verifies(signed, 1)
    below = tags(signed[signed.index(b"DKIM-Signature: ", 1) :])
    assert (below["a"], below["s"], below["c"], below["t"]) == ("ed25519-sha256", "e1", "relaxed/relaxed", "1790000000")
    assert below.keys().isdisjoint({"l", "x"})
    for broken in (signed + b"x\r\n", signed.replace(b"\r\nTo: a", b"\r\nTo: b"), b"Subject: x\r\n" + signed):
        assert not verifies(broken, 0)
        assert not verifies(broken, 1)


def test_the_example_of_rfc_8463() -> None:
    seed = base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    assert dns_record(key) == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


@pytest.mark.parametrize(
    ("selector", "following"),
    [("mailbot1", "mailbot2"), ("mailbot9", "mailbot10"), ("s2026", "s2027"), ("mail", "mail2"), ("7", "8")],
)
def test_the_next_selector(selector: str, following: str) -> None:
    assert next_selector(selector) == following


parts = st.lists(
    st.sampled_from([b" ", b"\t", b"\r\n", b"\n", b"\r", b"a", b"bc", b"  ", b".", b"="]), max_size=12
).map(b"".join)


@given(st.lists(st.tuples(st.sampled_from([b"From", b"X-A ", b"to"]), parts.map(lambda value: value + b"\r\n"))))
def test_relaxed_headers_equal_dkimpys(headers: list[tuple[bytes, bytes]]) -> None:
    assert _Relaxed.canonicalize_headers(headers) == Relaxed.canonicalize_headers(headers)


@given(parts)
def test_relaxed_body_equals_dkimpys(body: bytes) -> None:
    assert _Relaxed.canonicalize_body(body) == Relaxed.canonicalize_body(body)


def test_keys() -> None:
    assert isinstance(KEY, rsa.RSAPrivateKey)
    assert KEY.key_size == 2048
    record = dns_record(KEY)
    assert record.startswith("v=DKIM1; k=rsa; p=")
    assert dkim.evaluate_pk(b"s1", record)[1] == 2048
    with pytest.raises(ValueError, match="1024"):
        load_key(_pem(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(ValueError, match="encrypted"):
        load_key(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    with pytest.raises(ValueError):
        load_key(b"no key")


def test_the_kind_of_a_key_stays_with_it() -> None:
    assert isinstance(load_key(generate_key()), rsa.RSAPrivateKey)
    assert isinstance(ED25519, ed25519.Ed25519PrivateKey)


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
