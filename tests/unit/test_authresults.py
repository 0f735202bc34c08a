"""Authentication-Results: whose word is believed, where it must stand, and what it says."""

from __future__ import annotations

import pytest

from mailbot.mail.authentication import Result
from mailbot.mail.authresults import Profile, Stated, believed, result_of

ID = "mx.provider.example"
PASSES = f"Authentication-Results: {ID}; spf=pass smtp.mailfrom=phone.example; dmarc=pass header.from=phone.example"
OURS = "Received: from a.phone.example (a.phone.example [192.0.2.1]) by mx.provider.example (Postfix) with ESMTPS id 1"
INSIDE = "Received: from mx.provider.example by store3.provider.example with LMTP; Fri, 20 Nov 2026 12:00:00 +0900"
THEIRS = "Received: from phone (unknown [10.0.0.1]) by a.phone.example with ESMTPSA id 2"
GENUINE = (Stated("spf", "pass", "phone.example"), Stated("dmarc", "pass", "phone.example"))


def read(
    *fields: str, authserv_id: str = ID, profile: Profile = "rfc8601", several: bool = False
) -> tuple[Stated, ...] | None:
    content = "\r\n".join([*fields, "From: hanako@phone.example", "", "body", PASSES, ""])
    return believed(content.encode("latin-1"), authserv_id, profile, several=several)


PLACES: dict[str, tuple[list[str], tuple[Stated, ...] | None]] = {
    "above-the-hand-over": ([PASSES, OURS, THEIRS], GENUINE),
    "below-the-hand-over": ([OURS, PASSES, THEIRS], GENUINE),  # where Postfix puts what its milters add
    "inside-hops-above": ([INSIDE, OURS, PASSES, THEIRS], GENUINE),
    "no-received-at-all": ([PASSES], GENUINE),
    "below-the-sender's-own": ([OURS, THEIRS, PASSES], None),
    "in-the-body": ([OURS, THEIRS], None),
    "nothing": ([], None),
}


@pytest.mark.parametrize("name", PLACES)
def test_where_it_must_stand(name: str) -> None:
    fields, expected = PLACES[name]
    assert read(*fields) == expected


FAILS = PASSES.replace("=pass", "=fail")

FORGED: dict[str, str] = {
    "wrong-id": PASSES.replace(ID, "mx.evil.example"),
    "longer-id": PASSES.replace(ID, f"{ID}.evil.example"),
    "id-below": PASSES.replace(ID, f"a.{ID}"),
    "no-id": PASSES.replace(f"{ID};", ""),
    "id-in-a-comment": PASSES.replace(ID, f"evil.example ({ID})"),
    "id-as-a-result": PASSES.replace(ID, f"evil.example; {ID}"),
    "unclosed-comment": PASSES.replace(ID, "evil.example ("),
    "another-version": PASSES.replace(f"{ID};", f"{ID} 2;"),
    "another-field": PASSES.replace("Authentication-Results", "X-Authentication-Results"),
    "arc": PASSES.replace("Authentication-Results", "ARC-Authentication-Results").replace(f" {ID}", f" i=1; {ID}"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_is_passed_over(name: str) -> None:
    assert read(FORGED[name], OURS) is None
    assert read(OURS, FORGED[name]) is None
    stated = read(FORGED[name], FAILS, OURS)  # the genuine one still counts
    assert stated is not None
    assert {one.result for one in stated} == {"fail"}


# A MAIL FROM or a selector that the server wrote down as it came
SPOILT: dict[str, tuple[Profile, str]] = {
    "comment": ("rfc8601", f'Authentication-Results: {ID}; spf=pass (for "a(b"@evil.example) smtp.helo=evil'),
    "comment-before": ("rfc8601", f"Authentication-Results: {ID} (a(b); spf=pass"),
    "quotes": ("rfc8601", f'Authentication-Results: {ID}; spf=pass smtp.mailfrom=a"b@evil.example'),
    "gmail": ("gmail", f'Authentication-Results: {ID}; spf=pass (for "a(b"@evil.example) smtp.mailfrom=evil.example'),
    "m365": ("m365", 'Authentication-Results: spf=pass (sender "a(b) smtp.mailfrom=evil.example'),
}


@pytest.mark.parametrize("name", SPOILT)
def test_behind_a_field_that_cannot_be_read_nobody_is_believed(name: str) -> None:
    profile, spoilt = SPOILT[name]
    forged = PASSES.replace(f"{ID};", "") if profile == "m365" else PASSES
    assert read(spoilt, OURS, forged, OURS, profile=profile) is None


@pytest.mark.parametrize("spelt", [PASSES.replace(ID, ID.upper()), PASSES.replace(f"{ID};", f"{ID} 1;")])
def test_the_id_in_other_letters_and_with_its_version(spelt: str) -> None:
    assert read(spelt, OURS) == GENUINE


def test_of_two_the_topmost_counts() -> None:
    stated = read(FAILS, OURS, PASSES, THEIRS)
    assert stated is not None
    assert [one.result for one in stated] == ["fail", "fail"]
    assert [one.result for one in read(PASSES, FAILS, OURS) or ()] == ["pass", "pass"]


def part(text: str, authserv_id: str = ID) -> str:
    return f"Authentication-Results: {authserv_id}; {text}"


SPF, DMARC = part("spf=pass smtp.mailfrom=a.example"), part("dmarc=none header.from=a.example")
# fields -> methods and results, where each milter writes a field of its own
MERGED: dict[str, tuple[list[str], str]] = {
    "together": ([OURS, DMARC, SPF, part("dkim=none"), THEIRS], "dmarc=none spf=pass dkim=none"),
    "others-between": ([OURS, DMARC, "X-Filter: x", PASSES.replace(ID, "evil.example"), SPF], "dmarc=none spf=pass"),
    "about-the-hand-over": ([SPF, OURS, DMARC, THEIRS], "spf=pass dmarc=none"),
    "below-the-sender's-own": ([OURS, DMARC, THEIRS, SPF], "dmarc=none"),
    "same-method-again": ([OURS, DMARC, part("dmarc=pass header.from=a.example"), SPF], "dmarc=none spf=pass"),
    "one-field-of-two-signatures": ([OURS, part("dkim=fail header.d=a.example; dkim=pass header.d=b.example"), SPF],
                                    "dkim=fail dkim=pass spf=pass"),
    "behind-an-open-comment": ([OURS, DMARC, PASSES.replace(ID, "x ("), SPF], "dmarc=none"),
}  # fmt: skip


@pytest.mark.parametrize("name", MERGED)
def test_several_fields_of_a_server_of_ours(name: str) -> None:
    fields, expected = MERGED[name]
    assert " ".join(f"{one.method}={one.result}" for one in read(*fields, several=True) or ()) == expected
    alone = " ".join(f"{one.method}={one.result}" for one in read(*fields) or ())
    assert expected.startswith(alone)
    assert "spf" not in alone or "dmarc" not in alone


@pytest.mark.parametrize("authserv_id", ["kenpo.or.jp", "kenpo.example"])
def test_whose_house_it_is(authserv_id: str) -> None:
    """A society's neighbours under or.jp have no say in its mail."""
    said = part("dmarc=pass header.from=a.example", authserv_id)
    suffix = authserv_id.partition(".")[2]
    assert read(f"Received: from x by evil.{suffix} with ESMTP", said, authserv_id=authserv_id) is None
    inside = f"Received: from x by mx.{authserv_id} with ESMTP"
    assert read(inside, said, authserv_id=authserv_id) is not None
    beside = part("dmarc=pass header.from=a.example", f"mx1.{authserv_id}")
    assert read(inside, beside, authserv_id=f"mx1.{authserv_id}") is not None


READINGS: dict[str, list[Stated]] = {
    "none": [],
    "spf=pass smtp.mailfrom=phone.example": [Stated("spf", "pass", "phone.example")],
    "spf=pass smtp.mailfrom=<a..b.@docomo.ne.jp>": [Stated("spf", "pass", "docomo.ne.jp")],
    'spf=pass smtp.mailfrom="a..b."@docomo.ne.jp': [Stated("spf", "pass", "docomo.ne.jp")],
    "SPF = Pass (it is) SMTP.MailFrom=A@Phone.Example": [Stated("spf", "pass", "phone.example")],
    "spf=pass smtp.helo=phone.example": [Stated("spf", "pass", "")],
    "dkim=pass header.d=a.example header.i=@b.a.example": [Stated("dkim", "pass", "a.example")],
    "dkim=pass header.i=@b.a.example header.s=s1 header.b=Ab+/c=": [Stated("dkim", "pass", "b.a.example")],
    "dkim=pass (2048-bit key; secure) header.d=a.example": [Stated("dkim", "pass", "a.example")],
    'dkim=pass reason="good header.d=victim.example" header.d=a.example': [Stated("dkim", "pass", "a.example")],
    r'dkim=pass header.i="x\" header.d=victim.example \""@evil.example': [Stated("dkim", "pass", "evil.example")],
    'spf=pass smtp.mailfrom="a; dmarc=pass header.from=v.example b"@evil.example; dmarc=fail header.from=v.example': [
        Stated("spf", "pass", "evil.example"), Stated("dmarc", "fail", "v.example"),
    ],
    r'spf=pass smtp.mailfrom="\";dmarc=pass header.from=v.example b"@evil.example': [
        Stated("spf", "pass", "evil.example"),
    ],
    "spf=pass smtp.mailfrom=x+header.d=v.example@evil.example": [Stated("spf", "pass", "evil.example")],
    "spf=pass smtp.mailfrom=a@evil.example smtp.mailfrom=a@v.example": [Stated("spf", "pass", "evil.example")],
    "dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=gmail.com": [Stated("dmarc", "pass", "gmail.com")],
    "spf=passed smtp.mailfrom=a@b.example": [Stated("spf", "passed", "b.example")],
    "dkim/1=pass header.d=a.example": [Stated("dkim", "pass", "a.example")],
    "; ;; =; spf; spf=; =pass": [],
}  # fmt: skip


@pytest.mark.parametrize("text", READINGS)
def test_what_it_says(text: str) -> None:
    stated = read(f"Authentication-Results: {ID}; {text}", OURS)
    assert stated is not None
    assert [one for one in stated if one.method in ("spf", "dkim", "dmarc")] == READINGS[text]


def test_folded() -> None:
    assert read(PASSES.replace("; ", ";\r\n\t"), OURS) == GENUINE


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("pass", Result.PASS),
        ("fail", Result.FAIL),
        ("hardfail", Result.FAIL),
        ("softfail", Result.SOFTFAIL),
        ("neutral", Result.NEUTRAL),
        ("none", Result.NONE),
        ("permerror", Result.PERMERROR),
        ("temperror", Result.NONE),
        ("bestguesspass", Result.NONE),
        ("passed", Result.NONE),
    ],
)
def test_words_of_results(word: str, result: Result) -> None:
    assert result_of(Stated("dmarc", word, "a.example")) is result


GMAIL = """\
Delivered-To: touroku@gmail.com
Received: by 2002:a05:6402:2b88:b0:5c0:1234:5678 with SMTP id fj8csp1234567edb;
        Fri, 20 Nov 2026 03:00:01 -0800 (PST)
X-Received: by 2002:a17:902:d4c2:b0:20c:1234:5678 with SMTP id o2mr1;
        Fri, 20 Nov 2026 03:00:00 -0800 (PST)
ARC-Authentication-Results: i=1; mx.google.com;
       spf=pass smtp.mailfrom=a..b.@docomo.ne.jp
Return-Path: <a..b.@docomo.ne.jp>
Received: from mfsmax.docomo.ne.jp (mfsmax.docomo.ne.jp. [203.0.113.5])
        by mx.google.com with ESMTPS id d2e1a72fcca58
        for <touroku@gmail.com>
        (version=TLS1_2 cipher=ECDHE-ECDSA-AES128-GCM-SHA256 bits=128/128);
        Fri, 20 Nov 2026 03:00:00 -0800 (PST)
Received-SPF: pass (google.com: domain of a..b.@docomo.ne.jp designates 203.0.113.5 as permitted sender)
Authentication-Results: mx.google.com;
       dkim=pass header.i=@docomo.ne.jp header.s=s1 header.b=AbCdEfGh;
       spf=pass (google.com: domain of a..b.@docomo.ne.jp designates 203.0.113.5 as permitted sender)
        smtp.mailfrom=a..b.@docomo.ne.jp;
       dmarc=pass (p=NONE sp=NONE dis=NONE) header.from=docomo.ne.jp
Received: from phone (10.1.2.3) by mfsmax.docomo.ne.jp with ESMTP""".replace("\n", "\r\n")

M365 = """\
Received: from TYCPR01MB1.jpnprd01.prod.outlook.com (2603:1096:400:1::1) by
 TYAPR01MB2.jpnprd01.prod.outlook.com with HTTPS; Fri, 20 Nov 2026 03:00:02 +0000
Received: from TYCP286CA0001.JPNP286.PROD.OUTLOOK.COM (2603:1096:400:2::2) by
 TYCPR01MB1.jpnprd01.prod.outlook.com (2603:1096:400:1::1) with Microsoft SMTP Server
Authentication-Results: spf=pass (sender IP is 203.0.113.5)
 smtp.mailfrom=docomo.ne.jp; dkim=none (message not signed)
 header.d=none;dmarc=pass action=none header.from=docomo.ne.jp;compauth=pass
 reason=100
Received-SPF: Pass (protection.outlook.com: domain of docomo.ne.jp designates 203.0.113.5 as permitted sender)
Received: from mfsmax.docomo.ne.jp (203.0.113.5) by
 TY2PEPF0000AB84.mail.protection.outlook.com (10.167.253.10) with Microsoft SMTP Server
Received: from phone (10.1.2.3) by mfsmax.docomo.ne.jp with ESMTP""".replace("\n", "\r\n")
PROTECTION = "protection.outlook.com"


def test_gmail() -> None:
    assert read(GMAIL, authserv_id="mx.google.com", profile="gmail") == (
        Stated("dkim", "pass", "docomo.ne.jp"),
        Stated("spf", "pass", "docomo.ne.jp"),
        Stated("dmarc", "pass", "docomo.ne.jp"),
    )


def test_gmail_forged() -> None:
    """Who writes the field himself, below a Received of his own. Without one it would stand where Google's does, which
    takes out what comes in its name."""
    genuine = GMAIL[GMAIL.index("Authentication-Results: mx.google.com") :].partition("\r\nReceived: from phone")[0]
    assert genuine.endswith("header.from=docomo.ne.jp")
    without = GMAIL.replace(genuine + "\r\n", "")
    assert read(without, authserv_id="mx.google.com", profile="gmail") is None
    assert read(without, genuine, authserv_id="mx.google.com", profile="gmail") is None


def test_microsoft() -> None:
    stated = read(M365, authserv_id=PROTECTION, profile="m365")
    assert stated is not None
    assert [one for one in stated if one.method in ("spf", "dkim", "dmarc")] == [
        Stated("spf", "pass", "docomo.ne.jp"),
        Stated("dkim", "none", "none"),
        Stated("dmarc", "pass", "docomo.ne.jp"),
    ]


def test_microsoft_forged() -> None:
    genuine = M365[M365.index("Authentication-Results:") : M365.index("Received-SPF")]
    without = M365.replace(genuine, "")
    below = [
        without,
        without + "\r\n" + genuine.removesuffix("\r\n"),
        without + "\r\n" + genuine + "Received: from x by y.mail.protection.outlook.com with SMTP",
        # below Microsoft's outer server, with one that calls itself so
        without.partition("\r\nReceived: from phone")[0] + "\r\n" + genuine
        + "Received: from a by b.mail.protection.outlook.com with SMTP",
        without.replace("Received-SPF", "X-Spf") + "\r\nAuthentication-Results: " + PROTECTION + "; dmarc=pass",
    ]
    for content in below:
        assert read(content, authserv_id=PROTECTION, profile="m365") is None
    # one with a name is not Microsoft's; it is passed over where it stands
    named = M365.replace("Authentication-Results: spf", f"Authentication-Results: {PROTECTION}; spf")
    assert read(named, authserv_id=PROTECTION, profile="m365") is None


@pytest.mark.parametrize("profile", ["rfc8601", "gmail", "m365"])
def test_garbage_is_no_statement(profile: Profile) -> None:
    unclosed = ID + '; spf=pass smtp.mailfrom="' + '\\"' * 3000
    for text in ("", ";", "(" * 900, '"' * 99, ID + ";" * 5000, unclosed, "\xff" * 99):
        stated = read(f"Authentication-Results: {text}", OURS, profile=profile)
        assert not [one for one in stated or () if one.domain]
