"""A society's file in plain Japanese: what its members go through. Everything here follows from the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from mailbot import credentials
from mailbot.config import HelpCase, HelpChannel, Journey, Site, Society, Start
from mailbot.credentials import Format

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


def _temporary_login(society: Society, journey: Journey) -> str:
    what = f"「{society.label('temporary.id')}」と「{society.label('temporary.password')}」"
    by = "メールで届いた" if society.credentials_mail else "お知らせに印刷された"
    return f"{by}{what}で本人であることを確かめます。"


def _insurance_details(society: Society, journey: Journey) -> str:
    names = "、".join(f"「{society.label(f'details.{name}')}」" for name in journey.details.fields)
    return f"{names}を入力して、本人であることを確かめます。" + _captcha(journey)


def _formula_login(society: Society, journey: Journey) -> str:
    kana = f"と「{society.label('formula.kana')}」" if society.formula and society.formula.ask_kana else ""
    return f"記号・番号から決まるログインIDと、生年月日（8けた）{kana}で初回ログインをします。" + _captcha(journey)


def _captcha(journey: Journey) -> str:
    return "機械による入力でないことも確かめます。" if journey.captcha else ""


def _credentials(society: Society, journey: Journey) -> str:
    names = ["credentials.login-id", "credentials.password"]
    names += ["credentials.address"] if society.credentials.address == "editable" else []
    names.append("credentials.nickname")
    return (
        f"{'、'.join(f'「{society.label(name)}」' for name in names)}を決めて登録します"
        f"（ニックネームは空欄でもかまいません）。{_registered(society)}"
    )


def _settings(society: Society, journey: Journey) -> str:
    names = "、".join(f"「{society.label(f'settings.{name}')}」" for name in journey.settings)
    fixed = {
        "formula": "ログインIDは変えられません。",
        "address": "メールアドレスがログインIDになります。",
        "chosen": "",
    }[journey.login_id]
    return f"{names}を決めます。{fixed}"


def _consent(society: Society, journey: Journey) -> str:
    return f"{'、'.join(f'「{text.title}」' for text in society.consents)}を読み、同意します。"


def _confirm(society: Society, journey: Journey) -> str:
    return (
        f"届いたメールのURL（{_minutes(society.links.journey_minutes)}使えます）を開き、"
        f"決めたばかりのパスワードを入力して登録を終えます。{_registered(society)}"
    )


def _registered(society: Society) -> str:
    if society.login.opens == "at-once":
        return "登録が済むと、完了のメールが届きます。"
    return "登録が済むと、完了のメールが届きます。ログインできるのは、このメールが送られてからです。"


_STEPS: dict[str, Callable[[Society, Journey], str]] = {
    "temporary-login": _temporary_login,
    "insurance-details": _insurance_details,
    "formula-login": _formula_login,
    "consent": _consent,
    "show-key": lambda society, journey: "画面に4けたの数字が出ます。ひかえておきます。",
    "mailed-link": lambda society, journey: (
        f"つづきのメールが届きます。そのURL（{_minutes(society.links.journey_minutes)}使えます）を開きます。"
    ),
    "enter-key": lambda society, journey: "ひかえた数字を入力します（5回まで）。",
    "settings": _settings,
    "review": lambda society, journey: "入力した内容を確かめて、メールの送信を押します。",
    "confirm-by-mail": _confirm,
    "credentials": _credentials,
}
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
    parts += [*_login(society), *_afterwards(society, site), _help(society)]
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
        yield f"{next(number)}. {_STEPS[step](society, journey)}"


def _rules(society: Society) -> Iterator[str]:
    if any("temporary-login" in journey.steps for journey in society.journeys.values()):
        paper = society.temporary
        end = f"{paper.lifetime_days}日で使えなくなります" if paper.lifetime_days else "期限はありません"
        yield _bullets(
            "メールでお送りするもの" if society.credentials_mail else "お知らせに印刷するもの",
            [
                f"{society.label('temporary.id')}: {_shape(paper.login_id)}",
                f"{society.label('temporary.password')}: {_shape(paper.password)}",
                f"{end}。登録が済むか、印刷し直すか、職員が止めると、使えなくなります。",
            ],
        )
    label = society.label("credentials.login-id")
    printed = (Format.parse(society.temporary.login_id),)
    yield _bullets(label, credentials.describe_login_id(society.login_id, label, printed))
    label = society.label("credentials.password")
    lines = credentials.describe(society.password, label)
    if society.password.expires_days:
        before = "、".join(f"{days}日" for days in society.password.remind_days)
        lines.append(f"{society.password.expires_days}日で期限が切れ、ログインすると変更の画面になります。")
        lines += [f"期限の{before}前に、お知らせのメールが届きます。"] if before else []
    yield _bullets(label, lines)


def _login(society: Society) -> Iterator[str]:
    lines = ["IDを入力するページと、パスワードを入力するページに分かれています。"] if society.login.two_pages else []
    if (pin := society.login.pin) is not None:
        lines.append(
            f"パスワードのあと、メールで届く{pin.digits}けたの「{society.label('pin.code')}」を入力します"
            f"（{pin.minutes}分使えます）。送り先は、プロフィール設定で選んだメールアドレスです。"
        )
    if lines:
        yield _bullets("ログイン", lines)


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
    if reissue.separate_login_id:
        line = "登録したメールアドレスを入力すると、ログインIDがメールで届きます。"
        yield _bullets("ログインIDだけを忘れたとき", [line])
    lines = [
        "あて先がないと言われたアドレスには、そのアドレスから空メールが届くか、プロフィール設定で確かめ直すまで、何も送りません。",
        "そのアドレスは、再発行などの本人の確認にも使えなくなります。",
    ]
    yield _bullets("メールが届かなくなったとき", lines)
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
