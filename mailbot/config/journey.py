"""Shape of what a society's file says about registering and logging in: journeys, their steps, PIN, captcha, notice."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, field_validator

from mailbot.config.site import Int, PositiveInt, Section

_FORMULA = re.compile(r"[A-Za-z0-9-]{0,12}\{symbol:[1-9]\}[-]?\{number:[1-9]\}")


class Start(StrEnum):
    """How a journey begins."""

    BLANK_MAIL = "blank-mail"
    WEB_FORM = "web-form"
    PAGE = "page"
    STAFF = "staff"


class Details(Section):
    """What the step `insurance-details` asks; all of it must fit one member, and one only."""

    fields: tuple[Literal["address", "symbol", "number", "kana", "birth-date"], ...] = (
        "symbol",
        "number",
        "birth-date",
    )
    """The fields, in order. `address` must be the one that was invited."""
    symbol_max: PositiveInt = 10
    """Most characters of a symbol."""
    number_max: PositiveInt = 10
    """Most characters of a number."""
    birth_date: Literal["inputs", "lists"] = "inputs"
    """Year, month and day typed (easier with a phone and a screen reader), or chosen from lists."""
    hints: dict[Literal["address", "symbol", "number", "kana", "birth-date"], str] = Field(default_factory=dict)
    """A sentence above a field: where to find it on card or paper."""
    help: tuple[str, ...] = ()
    """Sentences of help below the form."""
    terms: tuple[str, ...] = ()
    """Sentences right above the button: what the details are used for."""


class Journey(Section):
    starts: tuple[Start, ...]
    """How it may begin: a blank mail, the form that asks for an address, a page without any mail first, or staff."""
    steps: tuple[str, ...]
    """Names of steps, in order."""
    requires_address_on_file: bool = False
    """Only for roster rows that hold a mail address; guessing limits are stricter."""
    label: str | None = None
    """What the page says where several journeys share a start: which letter the person holds."""
    login_id: Literal["chosen", "formula", "address"] = "chosen"
    """Where the login ID comes from: the member chooses it, the formula makes it (it stays fixed), or it is the mail
    address (it follows a later change of address)."""
    details: Details = Details()
    """The form of the step `insurance-details`."""
    settings: tuple[Literal["address", "password", "nickname", "wanted"], ...] = ("address", "password")
    """What the step `settings` asks; address and password always."""
    shows: tuple[Literal["name", "kana", "birth-date"], ...] = ()
    """What the step `settings` shows of the person."""
    captcha: bool = False
    """The proof step asks for a sign that no program fills in the form."""

    @field_validator("settings")
    @classmethod
    def _needed(cls, fields: tuple[str, ...]) -> tuple[str, ...]:
        if not {"address", "password"} <= set(fields):
            raise ValueError("address and password are always asked")
        return fields


class Formula(Section):
    """First credentials nobody prints: the login ID follows from symbol and number, the password is the birth date.

    Both are guessable, so the limits are strict, and `society lint` warns. Only insured persons (本人) have them."""

    login_id: str
    """Such as `7132-{symbol:3}{number:6}`: symbol and number, padded with zeros to so many digits."""
    ask_kana: bool = False
    """Ask for the name in kana as well: much harder to guess."""
    tries_a_day: PositiveInt = 5
    """Wrong tries at one account in a day; then it pauses until the next."""
    network_an_hour: PositiveInt = 20
    """Wrong tries from one network in an hour."""
    close_per_mille: PositiveInt = 1
    """When more of a thousand accounts see failures in a day, an alarm is raised and the way in closes for the day."""

    @field_validator("login_id")
    @classmethod
    def _pattern(cls, text: str) -> str:
        if not _FORMULA.fullmatch(text):
            raise ValueError("expected something like 7132-{symbol:3}{number:6}, each with 1 to 9 digits")
        return text


class Pin(Section):
    """A number mailed at login to every address that is ticked for it."""

    digits: Annotated[Int, Field(ge=4, le=8)] = 6
    """Digits of a PIN; fewer than 6 are easier to guess, and `society lint` warns."""
    minutes: Annotated[Int, Field(ge=1, le=10)] = 10
    """Life of a PIN. ASVS 6.5.5 allows ten minutes at most."""


class Login(Section):
    two_pages: bool = False
    """Ask for the ID on one page and the password on the next."""
    opens: Literal["at-once", "completion-delivered"] = "at-once"
    """Whether a new member may log in at once, or when the relay has taken the completion mail."""
    pin: Pin | None = None
    """Ask for a mailed PIN after the password; no PIN when absent."""


class CredentialsStep(Section):
    """The step `credentials`."""

    address: Literal["editable", "fixed", "hidden"] = "editable"
    """The mail address may be changed there, is only shown, or does not appear."""
    nickname_from: Literal["roster", "name"] = "roster"
    """What fills the nickname at first: the roster's temporary nickname, or the insured person's full name."""


class CredentialsMail(Section):
    """First credentials by mail instead of paper, from the help desk's address to the address on file."""

    after_days: PositiveInt | None = 30
    """Days after the roster first named the member; only by staff when absent (`mailbot member renotify`)."""


class ConsentText(Section):
    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    """Key in the database; with the version it names the template `pages/consents/<id>-<version>.html`."""
    title: str
    """Its heading."""
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,20}$")]
    """Changes whenever the text does: what a member agreed to can then be told."""
    read_to_end: bool = False
    """The tick box opens only when this text was read to its end."""


class Captcha(Section):
    kind: Literal["proof", "picture"] = "proof"
    """`proof`: the browser computes for a moment, nobody has to read anything, and people without JavaScript answer a
    plain question. `picture`: digits in a picture, and spoken."""


class Notice(Section):
    """The printed notice."""

    per: Literal["household", "person"] = "household"
    """One sheet for a household or one for each person. Protected persons always get their own."""
    paper: Literal["a4", "postcard"] = "a4"
    """A4, or a postcard of 100 mm by 148 mm."""
    qr: Literal["registration", "login"] = "registration"
    """What the QR code opens: a mail to the registration address, or the login page."""
    letter_tag: bool = False
    """Put a tag of its own into each registration address (name+tag@…), so that staff see which letter a mail came
    from. The mail server must deliver such addresses."""
    sender: tuple[str, ...] = ()
    """The society's postal address, line by line."""
    texts: tuple[str, ...] = ()
    """Sentences to stand below the credentials, one paragraph each."""
