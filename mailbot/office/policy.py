"""A society's file in words: what its members go through, which of its rules weaken security, what its QR code says.

Everything here follows from the file; no society is known by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from urllib.parse import quote

from sqlalchemy import case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mailbot import credentials
from mailbot.config import HelpCase, HelpChannel, Journey, Site, Society, Start
from mailbot.credentials import Format
from mailbot.registration import people
from mailbot.store.tables import member

MIN_PRINTED_COMBINATIONS = 10**9
"""Fewer possible passwords than this on paper are called few: 8 digits are 10^8."""
ADVISED_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Warning:
    """A rule of a society's file that is weaker than advised. `rule` is stable, `text` says why it matters."""

    rule: str
    text: str


async def counts(tx: AsyncConnection, now: int | None = None) -> dict[str, tuple[int, int]]:
    """Society -> (members on the roster who have not left, those of them who are registered).

    Without `now`, a leaving date in the future counts as left.
    """
    nobody_left = member.c.left_on.is_(None)
    here = nobody_left if now is None else or_(nobody_left, member.c.left_on > people.today(now))
    registered = func.sum(case((member.c.state == "registered", 1), else_=0))
    rows = await tx.execute(select(member.c.society, func.count(), registered).where(here).group_by(member.c.society))
    return {society: (int(total), int(done)) for society, total, done in rows}


def qr_content(society: Society, site: Site, login: bool = False) -> str:
    """What the QR code on a notice holds: a `mailto:` URI (RFC 6068) for a blank mail, or the login page's URL.

    Raises ValueError, in words, where the society takes no blank mails.
    """
    if login:
        return f"{site.site.web_url}/{society.id}/login"
    if society.addresses.registration is None:
        raise ValueError(
            f"{society.id} has no addresses.registration, so no blank mail can start a registration: use --login"
        )
    local, _, domain = society.addresses.registration.rpartition("@")
    # RFC 6068 section 2: what means something in a URI is percent-encoded; phones read a plain + as it stands
    return f"mailto:{quote(local, safe='!$*+')}@{domain}"


# --- explain --------------------------------------------------------------------------------------------------------

_STARTS: dict[Start, Callable[[Society, Site], str]] = {
    Start.BLANK_MAIL: lambda s, site: (
        f"お知らせのQRコードから {s.addresses.registration} へ空メールを送ります（件名も本文もいりません）。"
        "折り返し、登録用URLを書いたメールが届きます。"
    ),
    Start.WEB_FORM: lambda s, site: (
        f"{site.site.web_url}/{s.id}/entry でメールアドレスを入力します。登録用URLを書いたメールが届きます。"
    ),
    Start.PAGE: lambda s, site: f"メールは使わず、{site.site.web_url}/{s.id}/login のリンクから直接始めます。",
    Start.STAFF: lambda s, site: "健保組合の職員が手続きを始めます。",
}


def _temporary_login(society: Society) -> str:
    what = f"「{society.label('temporary.id')}」と「{society.label('temporary.password')}」"
    return f"お知らせに印刷された{what}で本人であることを確かめます。"


def _credentials(society: Society) -> str:
    names = ("credentials.login-id", "credentials.password", "credentials.address", "credentials.nickname")
    return (
        f"{'、'.join(f'「{society.label(name)}」' for name in names)}を決めて登録します"
        "（ニックネームは空欄でもかまいません）。登録が済むと、完了のメールが届きます。"
    )


_STEPS: dict[str, Callable[[Society], str]] = {"temporary-login": _temporary_login, "credentials": _credentials}
EXPLAINED_STEPS = frozenset(_STEPS)
_SHAPES = {"digits": "数字", "easy": "まちがえにくい英小文字と数字", "letters": "英字"}
_CASES = {
    HelpCase.ANY: "どんなことでも",
    HelpCase.REGISTRATION: "利用登録",
    HelpCase.LOGIN: "ログイン",
    HelpCase.NO_MAIL: "メールが届かないとき",
    HelpCase.ADDRESS_LOST: "登録したアドレスが分からないとき",
    HelpCase.PAPER_LOST: "お知らせをなくしたとき",
}


def explain(society: Society, site: Site) -> str:
    """What a member of this society goes through, in plain Japanese."""
    parts = [f"{society.name}（{society.service}）", *_journeys(society, site), *_rules(society)]
    parts += [*_afterwards(society, site), _help(society)]
    return "\n\n".join(parts)


def _bullets(title: str, lines: list[str]) -> str:
    return "\n".join([f"■ {title}", *(f"・{line}" for line in lines)])


def _journeys(society: Society, site: Site) -> Iterator[str]:
    several = len(society.journeys) > 1
    for number, (name, journey) in enumerate(society.journeys.items(), 1):
        title = f"利用登録{f' その{number}' if several else ''}（{journey.label or name}）"
        yield "\n".join([f"■ {title}", *_steps(society, site, journey)])


def _steps(society: Society, site: Site, journey: Journey) -> Iterator[str]:
    number = count(1)
    if journey.requires_address_on_file:
        yield "・名簿にメールアドレスがある方だけが使えます。まちがえられる回数は、ほかの始め方より少なくなります。"
    starts = [_STARTS[start](society, site) for start in journey.starts]
    if len(starts) > 1:
        yield f"{next(number)}. 次のどれかで始めます。"
        yield from (f"   ・{start}" for start in starts)
    else:
        yield from (f"{next(number)}. {start}" for start in starts)
    if {Start.BLANK_MAIL, Start.WEB_FORM} & set(journey.starts):
        yield (
            f"{next(number)}. メールのURLを開きます。URLは{_minutes(society.links.registration_minutes)}使えます。"
            "過ぎたときは、初めからやり直します。"
        )
    for step in journey.steps:
        words = _STEPS.get(step)
        yield f"{next(number)}. {words(society) if words else f'「{step}」の画面に進みます。'}"


def _rules(society: Society) -> Iterator[str]:
    paper = society.temporary
    end = f"{paper.lifetime_days}日で使えなくなります" if paper.lifetime_days else "期限はありません"
    yield _bullets(
        "お知らせに印刷するもの",
        [
            f"{society.label('temporary.id')}: {_shape(paper.login_id)}",
            f"{society.label('temporary.password')}: {_shape(paper.password)}",
            f"{end}。登録が済むか、印刷し直すか、職員が止めると、使えなくなります。",
        ],
    )
    label = society.label("credentials.login-id")
    yield _bullets(label, credentials.describe_login_id(society.login_id, label, (Format.parse(paper.login_id),)))
    label = society.label("credentials.password")
    lines = credentials.describe(society.password, label)
    if society.password.expires_days:
        before = "、".join(f"{days}日" for days in society.password.remind_days)
        lines.append(f"{society.password.expires_days}日で期限が切れ、ログインすると変更の画面になります。")
        lines += [f"期限の{before}前に、お知らせのメールが届きます。"] if before else []
    yield _bullets(label, lines)


def _afterwards(society: Society, site: Site) -> Iterator[str]:
    profile, reissue = society.profile, society.reissue
    lines = [
        f"メールアドレスは{profile.addresses}つまで登録できます。"
        "新しいアドレスは、届いたメールで確かめてから有効になります。"
    ]
    for title, choices in (("受け取るメール", profile.wanted), ("世帯の方への公開", profile.disclosure)):
        if choices:
            each = "、".join(f"{c.label}（初めは{'する' if c.default else 'しない'}）" for c in choices)
            lines.append(f"{title}を選べます: {each}")
    if profile.household:
        lines.append("同じ世帯の方のニックネームが並びます。ほかの方の設定は開けません。")
    yield _bullets("登録のあと", lines)
    carries = ["再発行用URL"]
    carries += [society.label("reissue.login-id")] if reissue.login_id else []
    if reissue.temporary_password:
        carries.append(f"{society.label('reissue.temporary-password')}（{_shape(reissue.temporary_password)}）")
    yield _bullets(
        "ID・パスワードを忘れたとき",
        [
            f"{site.site.web_url}/{society.id}/reissue で、登録したメールアドレスを入力します。",
            f"届くメールに書いてあるもの: {'、'.join(carries)}",
            f"URLは{_minutes(society.links.reissue_minutes)}使えます。お一人に届くのは1時間に{reissue.mails_an_hour}通までです。",
        ],
    )
    leaving = "その日からログインできません" if society.left_closes_login else "そのまま使い続けられます"
    purge = society.purge_left_days
    gone = f"{purge}日たつと、登録を消します。" if purge else "登録は、職員が消すまで残ります。"
    yield _bullets("資格がなくなったとき", [f"名簿の資格喪失日が来ると、{leaving}。{gone}"])


def _help(society: Society) -> str:
    return _bullets("お問い合わせ", [_channel(channel) for channel in society.help])


def _channel(channel: HelpChannel) -> str:
    cases = "、".join(_CASES[case] for case in channel.cases)
    hours = f"（{channel.hours}）" if channel.hours else ""
    state = f"。お伝えいただくこと: {channel.state}" if channel.state else ""
    return f"{cases}: {channel.name} {channel.value}{hours}{state}"


def _minutes(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    return (f"{hours}時間" if hours else "") + (f"{rest}分" if rest else "")


def _shape(text: str) -> str:
    fmt = Format.parse(text)
    return f"{_SHAPES[fmt.alphabet]}{fmt.length}文字"


# --- lint -----------------------------------------------------------------------------------------------------------


def warnings(society: Society) -> list[Warning]:
    """Rules of the file that weaken security or surprise members, each with its reason."""
    return [Warning(rule, text) for rule, text in (*_password_rules(society), *_other_rules(society))]


def _password_rules(society: Society) -> Iterator[tuple[str, str]]:
    rule = society.password
    if rule.require:
        yield "password.require", (
            f"asks for {', '.join(rule.require)}: NIST SP 800-63B section 3.1.1.2 says not to impose composition "
            "rules; people answer them with Password1. A longer minimum protects better."
        )
    if rule.min_length < ADVISED_LENGTH:
        yield "password.min_length", (
            f"{rule.min_length} characters are few: NIST SP 800-63B asks for 15 where the password alone opens the "
            f"account, and for 8 at the very least; mailbot's own default is {ADVISED_LENGTH}."
        )
    if rule.allowed_characters is not None:
        yield "password.allowed_characters", (
            "only some signs are allowed: NIST SP 800-63B section 3.1.1.2 says to take every printing character, "
            "blanks and Unicode too; password managers stumble over such lists."
        )
    if rule.expires_days is not None:
        yield "password.expires_days", (
            f"passwords run out after {rule.expires_days} days: NIST SP 800-63B section 3.1.1.2 says to ask for a "
            "change only after a leak; people add 1 to the old one."
        )


def _other_rules(society: Society) -> Iterator[tuple[str, str]]:
    fmt = Format.parse(society.temporary.password)
    possible = len(fmt.letters) ** fmt.length
    if possible < MIN_PRINTED_COMBINATIONS:
        yield "temporary.password", (
            f"{fmt} has only {possible:,} possibilities: safe only through the pause after wrong tries; easy:10 is as "
            "quick to type."
        )
    reissue = society.reissue
    if reissue.login_id and reissue.temporary_password:
        yield "reissue", (
            "one mail carries the login ID and a temporary password: whoever reads the mailbox has the account (the "
            "OWASP Forgot Password Cheat Sheet advises a link alone)."
        )
    for name, journey in society.journeys.items():
        if Start.PAGE in journey.starts:
            yield f"journeys.{name}.starts", (
                "starts without a mail: the address on file is believed unproved, and the paper alone registers."
            )
    digit_free, printed = society.login_id.digit_free, Format.parse(society.temporary.login_id)
    if society.login_id.keep_printed and digit_free is not None and printed.length == digit_free.length:
        yield "login_id.keep_printed", (
            f"the printed ID may be kept, but digit_free refuses most IDs of {digit_free.length} characters: members "
            "will find their printed ID refused."
        )
    yield from (
        (f"profile.disclosure.{choice.id}", "shown to the household unless the member says no: ask first.")
        for choice in society.profile.disclosure
        if choice.default
    )
    if not society.left_closes_login:
        yield "left_closes_login", "members who left keep their login: see that purge_left_days ends it some day."
    if all(channel.kind == "mail" for channel in society.help_for(HelpCase.NO_MAIL)):
        yield "help", "who gets no mail is helped only by mail: name a phone or a form for the case no-mail."
