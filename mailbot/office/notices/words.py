"""What the notice says, from the society's data: how to scan, the steps, whom to ask."""

from __future__ import annotations

from typing import Any

from mailbot.config import HelpCase, Journey, Settings, Society, Start
from mailbot.config.society import HelpChannel
from mailbot.letters.facts import day, moment
from mailbot.letters.kinds import lifetime
from mailbot.office import policy
from mailbot.registration.people import DAY_MS

PAPER_STEP = "temporary-login"

_DONE = "登録が終わると、完了のお知らせがメールで届きます。"
_STEPS = {
    PAPER_STEP: "{side}の「{temporary.id}」と「{temporary.password}」を入力し、「{temporary.submit}」を押します。",
    "insurance-details": "{details}を入力し、「{details.submit}」を押します。",
    "show-key": "画面に出る「{show-key.key}」を、紙などに書きとめます。",
    "mailed-link": "もう一通、メールが届きます。その中のURLを開きます。",
    "enter-key": "書きとめた「{enter-key.key}」を入力し、「{enter-key.submit}」を押します。",
    "formula-login": "「{formula.id}」と「{formula.password}」を入力し、「{formula.submit}」を押します。",
    "consent": "個人情報の取扱いと利用規約をお読みになり、同意して次へ進みます。",
    "credentials": "「{credentials.login-id}」と「{credentials.password}」をご自分で決めて入力し、"
    "「{credentials.submit}」を押します。決めたIDとパスワードは、忘れないようにお控えください。",
    "settings": "「{settings.address}」と「{settings.password}」などを入力し、次へ進みます。",
    "review": "入力した内容をお確かめになり、「{review.submit}」を押します。",
    "confirm-by-mail": "届いたメールのURLを開き、決めたパスワードを入力します。",
}
"""A step as the paper tells it; `{…}` are labels, `side` where the credentials stand, `details` what is asked."""


def journey_on_paper(society: Society) -> Journey | None:
    """The journey that begins with what the notice prints: one that the QR code opens, if there is a choice."""
    wanted = Start.BLANK_MAIL if society.notice.qr == "registration" else Start.WEB_FORM
    found = [journey for journey in society.journeys.values() if PAPER_STEP in journey.steps]
    return min(found, key=lambda journey: wanted not in journey.starts, default=None)


def prints_address(society: Society) -> bool:
    """Whether the sheet shows the mail address on file: where a journey begins with it instead of a mail."""
    return any(PAPER_STEP in one.steps and one.requires_address_on_file for one in society.journeys.values())


def problems(society: Society) -> list[str]:
    """Why this society's notice cannot be printed, in words."""
    if society.notice.qr == "registration" and society.addresses.registration is None:
        return [f'{society.id}: notice.qr = "registration" needs addresses.registration; or set notice.qr = "login"']
    return []


def words(settings: Settings, society: Society, paper: str, now: int) -> dict[str, Any]:
    """Texts of the sheet, by the names the template uses; it is dated `now`."""
    mail = society.notice.qr == "registration"
    journey = journey_on_paper(society)
    return {
        "title": f"{society.service}　ご利用登録のご案内",
        "date": _day(now),
        "continued": "　様方　続き",
        "lead": _lead(society, journey),
        "scan-title": "スマートフォンでQRコードを読み取ってください",
        "scan": "カメラを向けて、画面に出る文字を押すと、"
        + (
            "メールの画面が開きます。何も書かずに、そのまま送信してください。登録用のURLを、メールでお送りします。"
            if mail
            else "ログイン画面が開きます。"
        ),
        "target-label": "QRコードを使わないときは、次のアドレスへ空のメールを送ってください。"
        if mail
        else "QRコードを使わないときは、次のアドレスを開いてください。",
        "need-address": "ご登録には、ご自分で受け取れるメールアドレスが必要です。",
        "login-id": society.label("temporary.id"),
        "password": society.label("temporary.password"),
        "nickname": "仮ニックネーム",
        "address": "メールアドレス",
        "steps-title": "ご登録の手順",
        "steps": steps(settings, society, journey, paper),
        "sender-title": "メールが届くようにしてください",
        "allow": "迷惑メールの対策をなさっている方は、次のアドレスからのメールを受け取れるように設定してください。",
        "care-title": "ご注意",
        "care": _care(society, journey),
        "help-title": "お困りのときは",
        "help-line": "お困りのときは　" + "　".join(_channel(one) for one in help_channels(society)[:1]),
        "state": "お伝えいただくこと：",
    }


def _day(at: int) -> str:
    return day(at).partition("（")[0]


def remarks(society: Society, ends: int | None, now: int, replaces: bool) -> list[str]:
    """Until which day a sheet's passwords can be used (to the minute on the last); that older sheets are over."""
    if journey_on_paper(society) is None:
        return []
    password = society.label("temporary.password")
    found = []
    if ends is not None:
        last = ends - DAY_MS  # the last whole day
        found.append(f"{password}は、{_day(last) if last > now else moment(ends)}まで使えます。")
    if replaces:
        found.append(f"前にお届けした紙の{password}は使えません。")
    return found


def _lead(society: Society, journey: Journey | None) -> str:
    first = f"{society.name}の{society.service}を、パソコンやスマートフォンでご利用いただけます。"
    if journey is None:
        return first + "お一人ずつ、ご登録ください。"
    pair = f"「{society.label('temporary.id')}」と「{society.label('temporary.password')}」"
    return f"{first}下の{pair}で、お一人ずつご登録ください。"


def _care(society: Society, journey: Journey | None) -> list[str]:
    if journey is None:
        return []
    password = society.label("temporary.password")
    way = society.pages.direct_login_text or "メールを使わずに登録を始める"
    direct = f"メールアドレスが印字されている方は、ログイン画面の「{way}」からも始められます。"
    return [
        *([direct] if prints_address(society) else []),
        f"「{password}」は、ほかの人に教えないでください。健保組合の職員がお尋ねすることもありません。",
        f"登録が終わると、この紙の「{password}」は使えなくなります。",
    ]


def steps(settings: Settings, society: Society, journey: Journey | None, paper: str) -> list[str]:
    """The steps of the registration as a list of sentences."""
    side = "おもて面" if paper == "a4" else "うら面"
    chosen = journey or next(iter(society.journeys.values()), None)
    found = _beginning(settings, society, chosen, side)
    names = {key: society.label(key) for key in _labels()}
    for step in chosen.steps if chosen else ():
        text = _STEPS[step]
        for key, label in {**names, "side": side, "details": _details(society, chosen)}.items():
            text = text.replace("{" + key + "}", label)
        found.append(text)
    login = f"{settings.site.site.web_url}/{society.id}/login"
    return [*found, f"{_DONE}次からは、ご登録のIDとパスワードでログインします。ログイン画面のアドレス：{login}"]


def _labels() -> set[str]:
    parts = {part.partition("}")[0] for text in _STEPS.values() for part in text.split("{")[1:]}
    return parts - {"side", "details"}


def _details(society: Society, journey: Journey | None) -> str:
    return "".join(f"「{society.label(f'details.{field}')}」" for field in journey.details.fields) if journey else ""


def _beginning(settings: Settings, society: Society, journey: Journey | None, side: str) -> list[str]:
    """From the QR code to the first page of the journey."""
    starts = journey.starts if journey else ()
    arrives = (
        f"{society.addresses.robot} から、登録用のURLを書いたメールが届きます。"
        f"{lifetime(society.links.registration_minutes)}以内に、URLを開いてください。"
        "過ぎたときは、手順1からやり直してください。"
        f"URLがないときや、開けないときは、「{society.label('code.title')}」のページ "
        f"{settings.site.site.web_url}/{society.id}/code に、"
        f"メールアドレスと、メールの8文字の{society.label('code.code')}を入力します。"
    )
    if society.notice.qr == "registration":
        scan = f"{side}のQRコードを、スマートフォンのカメラで読み取ります。"
        return [scan + "メールの画面が開きますので、件名も本文も書かずに、そのまま送信してください。", arrives]
    page = f"{side}のQRコードを読み取り、ログイン画面を開きます。"
    if Start.WEB_FORM in starts:
        register, submit = society.label("login.register"), society.label("entry.submit")
        return [f"{page}「{register}」を押し、メールアドレスを入力して「{submit}」を押します。", arrives]
    if Start.BLANK_MAIL in starts:
        return [f"件名も本文も書かないメールを、{society.addresses.registration} へ送ってください。", arrives]
    return [page + "はじめての方のリンクを押します。"]


def help_channels(society: Society) -> tuple[HelpChannel, ...]:
    """Whom the paper names for help with registering."""
    return society.help_for(HelpCase.REGISTRATION)


def _channel(one: HelpChannel) -> str:
    return f"{one.name}　{one.value}" + (f"（{one.hours}）" if one.hours else "")


def target(settings: Settings, society: Society, tag: str) -> tuple[str, str]:
    """(what the QR code holds, the same to read): a `mailto:` URI with the sheet's tag, or the login page."""
    if society.notice.qr == "login":
        url = policy.qr_content(society, settings.site, login=True)
        return url, url
    uri = policy.qr_content(society, settings.site)
    local, _, domain = (society.addresses.registration or "").rpartition("@")
    if not tag:
        return uri, f"{local}@{domain}"
    return uri.replace(f"@{domain}", f"+{tag}@{domain}"), f"{local}+{tag}@{domain}"
