"""The letters there are, and the facts each may tell. `docs/letters.md` says the same; a test compares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mailbot.config import HelpCase, Society, Start
from mailbot.config.carriers import MAX_ALL, MAX_NAME, MAX_STEPS
from mailbot.config.labels import DEFAULT_LABELS

MAX_TEXT = 40
MAX_CODE = 64
# What no letter carries, even to the right person: mail is read over shoulders and forwarded.
FORBIDDEN_FACTS = frozenset({"name", "kana", "symbol", "number", "birth_date", "password", "address"})


class FactKind(Enum):
    """How a fact of a member is checked and printed."""

    URL = "url"
    TEXT = "text"
    CODE = "code"
    TIME = "time"
    DATE = "date"
    LINES = "lines"  # of the configuration, never of a member


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact of a member: a string, or milliseconds since the epoch for TIME and DATE.

    `sample` renders at the start; of a URL it is what follows the society's path. `default` serves rows queued before
    the fact existed; without one the fact is needed. `when`: only societies that want it. `must`: useless without it.
    """

    kind: FactKind
    meaning: str
    sample: str | int
    default: str | None = None
    when: Callable[[Society], bool] = lambda society: True
    must: bool = True


@dataclass(frozen=True, slots=True)
class LetterKind:
    """What a letter is for and what it may say. `lane` is a name of `delivery.outbox.Lane`, in lower case.

    `secret`: who reads it can act as the member. `answer`: may be the reply to a mail, and is auto-replied then; all
    others are auto-generated (RFC 3834 section 5). `help`: which help channels stand at its foot. `help_desk`: comes
    from the help desk's address and may be answered; all others from the robot's. `links`: False for mail to
    who lets no mail with a link in. `when`: only societies that use it.
    """

    title: str
    lane: str
    facts: Mapping[str, Fact]
    secret: bool = False
    answer: bool = False
    help: HelpCase = HelpCase.LOGIN
    help_desk: bool = False
    links: bool = True
    when: Callable[[Society], bool] = lambda society: True


_LINK_TOKEN = "aaaabbbbccccddddeeeeffffgggghhhh22"  # noqa: S105  length and alphabet of a link's token
_MOMENT = 1_795_156_920_000
_NICKNAME = Fact(FactKind.TEXT, "what the member wants to be called", "港" * MAX_TEXT, "ご登録者", must=False)
_EXPIRES_AT = Fact(FactKind.TIME, "when the link dies", _MOMENT)
_CHANGED_AT = Fact(FactKind.TIME, "when it was changed", _MOMENT)
_CODE = "wmwm wmwm"


def _link(path: str, meaning: str) -> dict[str, Fact]:
    """The facts of a letter with a link."""
    return {
        "url": Fact(FactKind.URL, meaning, f"{path}/{_LINK_TOKEN}"),
        "expires_at": _EXPIRES_AT,
        "code": Fact(FactKind.CODE, "the link's short code, for who cannot open the URL", _CODE, must=False),
    }


def _uses(step: str) -> Callable[[Society], bool]:
    return lambda society: any(step in journey.steps for journey in society.journeys.values())


LETTERS: Mapping[str, LetterKind] = {
    "invitation": LetterKind(
        "利用登録手続きのご案内",
        "link",
        _link("r", "one-time link to the registration"),
        secret=True,
        answer=True,
        help=HelpCase.REGISTRATION,
    ),
    "invitation-plain": LetterKind(
        "利用登録手続きのご案内",
        "link",
        {
            "code": Fact(FactKind.CODE, "the link's short code, instead of the link", _CODE),
            "expires_at": _EXPIRES_AT,
            "carrier": Fact(FactKind.TEXT, "whose mail it is, such as ドコモ", "港" * MAX_NAME, must=False),
            "steps": Fact(
                FactKind.LINES,
                "how to let our mail through there (config/carriers.toml)",
                "\n".join(["港" * (MAX_ALL // MAX_STEPS)] * MAX_STEPS),
            ),
        },
        secret=True,
        answer=True,
        help=HelpCase.REGISTRATION,
        links=False,
    ),
    "completion": LetterKind("利用登録完了のご案内", "completion", {}),
    "reissue": LetterKind(
        "パスワード再発行のご案内",
        "reissue",
        {
            **_link("p", "one-time link to the reissue"),
            "nickname": _NICKNAME,
            "login_id": Fact(FactKind.CODE, "the login ID", "W" * MAX_CODE, when=lambda s: s.reissue.login_id),
            "temporary_password": Fact(
                FactKind.CODE,
                "a temporary password that dies with the link",
                "QwErTyUi",
                when=lambda s: s.reissue.temporary_password is not None,
            ),
        },
        secret=True,
    ),
    "reissue-stale": LetterKind(
        "ご本人の確認のお願い",
        "reissue",
        _link("p", "one-time link that asks the birth date"),
        secret=True,
        when=lambda society: society.reissue.stale_days is not None and society.reissue.stale_asks == "birth-date",
    ),
    "reissue-staff": LetterKind(
        "窓口へのご連絡のお願い",
        "reissue",
        {},
        when=lambda society: society.reissue.stale_days is not None,
    ),
    "reissue-paper": LetterKind(
        "パスワード再発行についてのお知らせ",
        "reissue",
        {},
        when=lambda society: society.reissue.shared_address == "paper-only",
    ),
    "reissue-told": LetterKind(
        "再発行のお申し込みのお知らせ",
        "completion",
        {
            "requested_at": Fact(FactKind.TIME, "when somebody asked for it", _MOMENT),
            "nickname": _NICKNAME,
        },
    ),
    "address-proof": LetterKind(
        "メールアドレスの確認のお願い",
        "link",
        {**_link("a", "one-time link that proves the address"), "nickname": _NICKNAME},
        secret=True,
    ),
    "address-changed": LetterKind(
        "メールアドレス変更のお知らせ", "completion", {"changed_at": _CHANGED_AT, "nickname": _NICKNAME}
    ),
    "password-changed": LetterKind(
        "パスワード変更のお知らせ", "completion", {"changed_at": _CHANGED_AT, "nickname": _NICKNAME}
    ),
    "password-expiry": LetterKind(
        "パスワードの有効期限のお知らせ",
        "bulk",
        {"expires_on": Fact(FactKind.DATE, "the day the password ends", _MOMENT), "nickname": _NICKNAME},
    ),
    "registration-reset": LetterKind(
        "利用登録の取り消しのお知らせ", "completion", {"changed_at": Fact(FactKind.TIME, "when staff did it", _MOMENT)}
    ),
    "mailed-link": LetterKind(
        "本人確認完了のご案内",
        "link",
        _link("c", "one-time link that goes on with the registration"),
        secret=True,
        help=HelpCase.REGISTRATION,
        when=_uses("mailed-link"),
    ),
    "confirm-by-mail": LetterKind(
        "利用登録の確認のお願い",
        "link",
        _link("c", "one-time link that finishes the registration"),
        secret=True,
        help=HelpCase.REGISTRATION,
        when=_uses("confirm-by-mail"),
    ),
    "pin": LetterKind(
        "暗証キーのお知らせ",
        "pin",
        {
            "pin": Fact(FactKind.CODE, "the PIN, its digits in two groups", "1234 5678"),
            "expires_at": Fact(FactKind.TIME, "when the PIN dies", _MOMENT),
            "nickname": _NICKNAME,
        },
        secret=True,
        when=lambda society: society.login.pin is not None,
    ),
    "login-id": LetterKind(
        "ログインIDのご案内",
        "reissue",
        {"login_id": Fact(FactKind.CODE, "the login ID", "W" * MAX_CODE), "nickname": _NICKNAME},
        when=lambda society: society.reissue.separate_login_id,
    ),
    "credentials": LetterKind(
        "ログインIDと仮パスワードのご案内",
        "bulk",
        {
            "login_id": Fact(FactKind.CODE, "the temporary login ID", "12345678"),
            "temporary_password": Fact(FactKind.CODE, "the temporary password", "QwErTyUi"),
            # members who share a mailbox get one mail each, and have to tell them apart
            "nickname": Fact(FactKind.TEXT, "the nickname on the roster", "港" * MAX_TEXT, "ご加入者", must=False),
        },
        secret=True,
        help=HelpCase.REGISTRATION,
        help_desk=True,
        when=lambda society: society.credentials_mail is not None,
    ),
    "help-received": LetterKind(
        "お問い合わせを受け付けました",
        "completion",
        {},
        answer=True,
        help=HelpCase.LOGIN,
        help_desk=True,
        when=lambda society: society.addresses.help is not None,
    ),
}


def letters_of(society: Society) -> dict[str, LetterKind]:
    """The letters this society uses."""
    return {name: kind for name, kind in LETTERS.items() if kind.when(society)}


def society_facts(society: Society, web_url: str, help_case: HelpCase) -> dict[str, Any]:
    """What every template may insert and branch on."""
    mailed = [one for one in society.journeys.values() if {Start.BLANK_MAIL, Start.WEB_FORM} & set(one.starts)]
    return {
        "society": society.name,
        "service": society.service,
        "robot": society.addresses.robot,
        "help_address": society.addresses.help,
        "registration": society.addresses.registration,
        "login_url": f"{web_url}/{society.id}/login",
        "reissue_url": f"{web_url}/{society.id}/reissue",
        "entry_url": f"{web_url}/{society.id}/entry",
        "help": [channel.model_dump() for channel in society.help_for(help_case)],
        "label": {key: society.label(key) for key in DEFAULT_LABELS},
        "blank_mail": bool(society.journeys_for(Start.BLANK_MAIL)),
        "web_form": bool(society.journeys_for(Start.WEB_FORM)),
        "credentials_mail": society.credentials_mail is not None,
        "details": any("insurance-details" in journey.steps for journey in mailed),
        "address_login": any(journey.login_id == "address" for journey in society.journeys.values()),
        "paper": any("temporary-login" in journey.steps for journey in mailed),
        "registration_lifetime": lifetime(society.links.registration_minutes),
        "reissue_lifetime": lifetime(society.links.reissue_minutes),
        "address_proof_lifetime": lifetime(society.links.address_proof_minutes),
        "journey_lifetime": lifetime(society.links.journey_minutes),
        "pin_minutes": society.login.pin.minutes if society.login.pin else None,
        "temporary_days": society.temporary.lifetime_days,
        "bookmark": society.pages.bookmark,
        "reissue_login_id": society.reissue.login_id,
        "separate_login_id": society.reissue.separate_login_id,
        "reissue_temporary_password": society.reissue.temporary_password is not None,
        "password_days": society.password.expires_days,
    }


def lifetime(minutes: int) -> str:
    """180 -> 3時間, 90 -> 1時間30分, 45 -> 45分."""
    hours, rest = divmod(minutes, 60)
    return (f"{hours}時間" if hours else "") + (f"{rest}分" if rest else "")
