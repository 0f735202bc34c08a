"""Shape of `societies/<id>.toml`: everything in which one society differs from another, as data.

The society's id is the file's name. Code never compares it: a sixth society with another mix of these rules works from
a new file alone.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from mailbot.config.journey import (
    Captcha,
    ConsentText,
    CredentialsMail,
    CredentialsStep,
    Formula,
    Journey,
    Login,
    Notice,
    Start,
)
from mailbot.config.labels import DEFAULT_LABELS
from mailbot.config.site import Int, PositiveInt, Section

ASCII_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@(?:[a-z0-9-]{1,63}\.)+[a-z0-9-]{2,63}")
_FORMAT = re.compile(r"(digits|easy|letters):([4-9]|1[0-9]|2[0-4])")


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError("expected a mail address such as touroku@example.jp, its domain in lower case")
    return text


def _label(text: str) -> str:
    if text not in DEFAULT_LABELS:
        raise ValueError("not a label; docs/configuration.md lists them")
    return text


def _format(text: str) -> str:
    if not _FORMAT.fullmatch(text):
        raise ValueError("expected digits:N, easy:N or letters:N with N from 4 to 24, such as digits:8")
    return text


MAX_BOUNCE = 37
"""RFC 5321 section 4.5.3.1.1 gives a local part 64 octets; + and the tag take 27."""


class HelpCase(StrEnum):
    """What a member may need help with; a channel says which it serves."""

    ANY = "any"
    REGISTRATION = "registration"
    LOGIN = "login"
    NO_MAIL = "no-mail"
    ADDRESS_LOST = "address-lost"
    PAPER_LOST = "paper-lost"


class Addresses(Section):
    robot: str
    """From of every mail the robot writes; printed on notices so that members can allow it. Mail to it is dropped."""
    registration: str | None = None
    """Where blank mails come in; needed when a journey starts with one."""
    bounce: str
    """Envelope sender of every mail, with a tag behind a + that tells reports which mail they are about: deliver
    `bounce+…@` like `bounce@`. At most 37 characters before the @, and no + of its own."""
    help: str | None = None
    """The help desk's address, if the robot receives it: mail to it is acknowledged once and stands in `help list`. It
    is also the sender of credentials and acknowledgements, which may be answered."""
    sender_name: str | None = None
    """Display name of the robot; the society's name when absent."""
    help_name: str | None = None
    """Display name of the help desk; the society's name when absent."""

    @field_validator("bounce")
    @classmethod
    def _tag_fits(cls, value: str) -> str:
        local = value.rpartition("@")[0]
        if len(local) > MAX_BOUNCE or "+" in local:
            raise ValueError(f"expected at most {MAX_BOUNCE} characters and no + before the @: a tag is put behind")
        return value

    _check = field_validator("robot", "registration", "bounce", "help")(lambda cls, v: v if v is None else _address(v))

    @property
    def sender_domains(self) -> tuple[str, ...]:
        """Domains of the From addresses, each once: the robot's, and the help desk's where it has an address."""
        return tuple(dict.fromkeys(a.rpartition("@")[2] for a in (self.robot, self.help) if a))


class HelpChannel(Section):
    kind: Literal["phone", "form", "mail"]
    """How it is reached."""
    name: str
    """Who answers."""
    value: str
    """Phone number, URL or mail address."""
    hours: str | None = None
    """When somebody answers."""
    cases: tuple[HelpCase, ...] = (HelpCase.ANY,)
    """Which trouble it serves; a channel that names the case stands before those for any."""
    state: str | None = None
    """What the member should say or write, such as the symbol and number of the insurance card."""
    note: str | None = None
    """A sentence of its own, such as which questions are answered there."""


class Links(Section):
    registration_minutes: Annotated[Int, Field(ge=10, le=1440)] = 180
    """Life of the link that answers a blank mail or a web entry."""
    reissue_minutes: Annotated[Int, Field(ge=10, le=1440)] = 180
    """Life of the link for a forgotten password."""
    address_proof_minutes: Annotated[Int, Field(ge=10, le=1440)] = 180
    """Life of the link that proves a new address."""
    journey_minutes: Annotated[Int, Field(ge=10, le=1440)] = 180
    """Life of the second link of a journey (the steps `mailed-link` and `confirm-by-mail`)."""


class Temporary(Section):
    """The credentials on paper."""

    login_id: str = "digits:8"
    """Form of the printed login ID: `digits:N`, `easy:N` (no letters that look alike) or `letters:N`."""
    password: str = "easy:10"  # noqa: S105  # a format, not a password
    """Form of the printed temporary password."""
    lifetime_days: PositiveInt | None = None
    """No end unless set; they die at registration, on reprint or by staff."""

    _check = field_validator("login_id", "password")(lambda cls, v: _format(v))


class DigitFree(Section):
    length: PositiveInt
    """Length of the IDs this is about."""
    positions: tuple[PositiveInt, ...]
    """Places without a digit, counted from 1."""


class LoginIdRule(Section):
    min_length: PositiveInt = 4
    """Shortest login ID a member may choose."""
    max_length: Annotated[Int, Field(ge=4, le=64)] = 40
    """Longest login ID a member may choose."""
    allowed_characters: str | None = None
    """Punctuation allowed beside a-z A-Z 0-9; all printable ASCII when absent."""
    digit_free: DigitFree | None = None
    """An ID of exactly `length` characters may have no digit in these positions (counted from 1)."""
    keep_printed: bool = False
    """The ID on paper may be kept (and fills the field at first)."""


class PasswordRule(Section):
    min_length: Annotated[Int, Field(ge=8, le=64)] = 12
    """Shortest password a member may choose."""
    max_length: Annotated[Int, Field(ge=16, le=256)] = 128
    """Longest password a member may choose."""
    require: tuple[Literal["lower", "upper", "digit", "symbol"], ...] = ()
    """Classes that must occur. Off by default: NIST SP 800-63B advises against such rules."""
    allowed_characters: str | None = None
    """Punctuation allowed beside a-z A-Z 0-9; when absent, everything printable, Japanese included."""
    expires_days: PositiveInt | None = None
    """Days a password lives; for ever when absent."""
    remind_days: tuple[PositiveInt, ...] = (30, 14)
    """Days before the end at which a reminder mail goes out."""

    @property
    def shown_rules(self) -> bool:
        return bool(self.require or self.allowed_characters is not None)


class Choice(Section):
    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    """Key in the database and the form."""
    label: str
    """What the page says."""
    default: bool = False
    """Chosen until the member says otherwise."""


class Profile(Section):
    addresses: Annotated[Int, Field(ge=1, le=3)] = 3
    """Mail addresses a member may have."""
    nickname_required: bool = True
    """A nickname must be given."""
    wanted: tuple[Choice, ...] = ()
    """Mails a member may want."""
    disclosure: tuple[Choice, ...] = ()
    """What a member may show to the household; default False = 公開しない."""
    household: bool = False
    """List the household's members by nickname beside the profile."""
    advice: tuple[str, ...] = ()
    """Sentences of advice beside the profile."""
    shows: tuple[Literal["name", "kana", "birth-date"], ...] = ()
    """What the roster says about the member, shown above the form."""


class Reissue(Section):
    login_id: bool = False
    """The mail carries the login ID."""
    temporary_password: str | None = None
    """The mail carries a temporary password of this format. With `login_id` this puts mailbox access on a par with a
    password (OWASP advises against it): `society lint` warns."""
    mails_an_hour: PositiveInt = 1
    """Mails to one member in an hour."""
    separate_login_id: bool = False
    """A way of its own for a forgotten login ID: a mail that carries the ID and nothing else."""
    shared_address: Literal["mail", "paper-only"] = "mail"
    """An address several members share: one mail for each of them, or none and a new letter by staff."""
    stale_days: PositiveInt | None = 180
    """Days without login or proof after which the mailbox alone is not enough (carriers give old addresses to new
    people)."""
    stale_asks: Literal["birth-date", "staff"] = "birth-date"
    """What is asked then: the birth date beside the link, or staff."""

    _check = field_validator("temporary_password")(lambda cls, v: v if v is None else _format(v))


class Entry(Section):
    domains: tuple[Annotated[str, Field(pattern=r"^(?:[a-z0-9-]{1,63}\.)+[a-z0-9-]{2,63}$")], ...] = ()
    """Only addresses of these domains (or below them) may be typed at the web entry; any when empty."""


class Question(Section):
    question: str
    """What members ask."""
    answer: str
    """What they are told."""


class Pages(Section):
    text_sizes: bool = False
    """Offer larger text (文字サイズ 中・大) on every page."""
    step_count: bool = True
    """Say above each step how many there are; off where the pages' own names carry numbers."""
    key_colours: tuple[str, str, str] = ("#0017c1", "#00118f", "#000060")
    """Button, hover and pressed; white text on them must keep a contrast of 4.5."""
    entry_text: str | None = None
    """Words above the form that asks for an address."""
    questions: tuple[Question, ...] = ()
    """Frequent questions of the help page."""
    direct_login_text: str | None = None
    """Words of the link to a journey that starts with a page."""
    direct_hint: str | None = None
    """A sentence above those links: who they are for."""
    home_name: bool = False
    """The home page shows the member's own name, with the advice to report a wrong one."""
    family: bool = True
    """The completion page offers the next member of the household a mail of their own."""
    bookmark: bool = False
    """The completion page and mail advise to bookmark the login page."""

    @field_validator("key_colours")
    @classmethod
    def _colours(cls, colours: tuple[str, str, str]) -> tuple[str, str, str]:
        for colour in colours:
            if not re.fullmatch(r"#[0-9a-f]{6}", colour):
                raise ValueError("expected three colours such as #0017c1")
            if contrast_on_white(colour) < 4.5:
                raise ValueError(f"white text on {colour} has a contrast under 4.5")
        return colours


def contrast_on_white(colour: str) -> float:
    """WCAG 2.2 contrast ratio of `#rrggbb` against white."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


class Society(Section):
    """One society. `id` comes from the file's name."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
    """The file's name: 2 to 31 of a-z, 0-9 and '-', a letter first. It stands in every URL and every key."""
    name: str
    """The society's full name, as members know it."""
    service: str = "健保マイポータル"
    """Name of the service the members register for."""
    addresses: Addresses
    """The society's own mail addresses; a domain may be shared, an address not."""
    help: Annotated[tuple[HelpChannel, ...], Field(min_length=1)]
    """Who helps members: at least one channel."""
    journeys: Annotated[dict[str, Journey], Field(min_length=1)]
    """The ways to register, by a name of your own: at least one."""
    links: Links = Links()
    temporary: Temporary = Temporary()
    login_id: LoginIdRule = LoginIdRule()
    password: PasswordRule = PasswordRule()
    profile: Profile = Profile()
    reissue: Reissue = Reissue()
    entry: Entry = Entry()
    login: Login = Login()
    formula: Formula | None = None
    """First credentials from a formula and the birth date (the step `formula-login`); none when absent."""
    credentials: CredentialsStep = CredentialsStep()
    credentials_mail: CredentialsMail | None = None
    """First credentials by mail; on paper only when absent."""
    consents: tuple[ConsentText, ...] = ()
    """The texts of the step `consent`, in order."""
    captcha: Captcha = Captcha()
    notice: Notice = Notice()
    pages: Pages = Pages()
    left_closes_login: bool = True
    """Login ends on the day the roster says the member left."""
    purge_left_days: PositiveInt | None = None
    """Days after which members who left are deleted; never when absent."""
    labels: dict[Annotated[str, AfterValidator(_label)], str] = Field(default_factory=dict)
    """Words of field labels and buttons, where they differ from the default."""

    @model_validator(mode="after")
    def _consistent(self) -> Society:
        mail_starts = [name for name, j in self.journeys.items() if Start.BLANK_MAIL in j.starts]
        if mail_starts and not self.addresses.registration:
            facts = {"key": "addresses.registration", "journey": mail_starts[0]}
            raise PydanticCustomError("address_needed", "needed: journeys.{journey} starts with a blank mail", facts)
        if self.credentials_mail is not None and not self.addresses.help:
            raise PydanticCustomError(
                "address_needed", "needed: credentials_mail is sent from it", {"key": "addresses.help"}
            )
        if self.temporary.password == self.temporary.login_id and self.temporary.password.endswith((":4", ":5")):
            raise PydanticCustomError(
                "guessable", "too short beside so short a login ID", {"key": "temporary.password"}
            )
        return self

    def label(self, key: str) -> str:
        """Text of a label or button: the society's own, or the default."""
        return self.labels.get(key) or DEFAULT_LABELS[key]

    @property
    def help_sender(self) -> str:
        """Display name of the help desk."""
        return self.addresses.help_name or self.name

    def journeys_for(self, start: Start) -> dict[str, Journey]:
        """Journeys that may begin this way, in the file's order."""
        return {name: j for name, j in self.journeys.items() if start in j.starts}

    def help_for(self, case: HelpCase) -> tuple[HelpChannel, ...]:
        """Channels that serve a case: those that name it first, then those for any case."""
        named = tuple(c for c in self.help if case in c.cases)
        return named or tuple(c for c in self.help if HelpCase.ANY in c.cases) or self.help
