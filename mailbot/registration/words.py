"""Sentences that more than one use case says. Each tells what to do next; none tells whether somebody is registered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mailbot.config import Society
from mailbot.mail.address import AddressProblem

ENOUGH_TODAY = "何度も操作されました。1日ほどたってから、もう一度お試しください。"
NO_FORMULA = (
    "ログインIDを決められませんでした。お手数ですが、このページの下の「お困りのときは」へご連絡ください。"
    "登録の内容は、何も変わっていません。"
)
NOT_THE_SAME = "1回目と2回目の入力が違います。同じパスワードを2回入力してください。"

_ADDRESS = {
    AddressProblem.EMPTY: "を入力してください。",
    AddressProblem.NO_AT: "に「@」が入っていません。お確かめください。",
    AddressProblem.BAD_DOMAIN: "の「@」より後ろをお確かめください。",
    AddressProblem.BAD_LOCAL: "の「@」より前をお確かめください。",
    AddressProblem.TOO_LONG: "が長すぎます。お確かめください。",
    AddressProblem.DOUBLE: "は、1つだけ入力してください。",
    AddressProblem.NO_BRACKETS: "をお確かめください。",
    AddressProblem.NOT_ASCII: "は、半角の英数字で入力してください。",
}


def wrong_login(society: Society) -> str:
    """Whatever keeps a login closed: unknown, mistyped, not registered or not open yet, left, paused."""
    waits = first = ""
    if society.login.opens == "completion-delivered":
        waits = "登録のあと完了メールが届くまでは、ログインできません。"
    if society.formula is not None:
        first = f"生年月日が1日に{society.formula.tries_a_day}回違うと、次の日まで、生年月日ではお入りになれません。"
    return (
        "ログインIDまたはパスワードが違います。もう一度入力してください。"
        f"利用登録がまだお済みでない方は、先に利用登録をしてください。{waits}{first}"
        "何度も違ったときは、30分ほどたってからお試しください。"
    )


_JAPAN = timedelta(hours=9)
_MINUTE_MS = 60_000


def clock(at: int, now: int) -> str:
    """15時42分, or 11月21日 15時42分 where that is another day: the first full minute not before `at`, in Japan."""
    then, today = (datetime.fromtimestamp(-(-ms // _MINUTE_MS) * 60, UTC) + _JAPAN for ms in (at, now))
    day = "" if then.date() == today.date() else f"{then.month}月{then.day}日 "
    return f"{day}{then.hour}時{then.minute:02}分"


def too_often(again_at: int, now: int) -> str:
    """A budget is used up until then."""
    return f"何度も操作されたため、いまは受け付けられません。{clock(again_at, now)}から、もう一度お試しください。"


def just_sent(again_at: int, now: int) -> str:
    """Nothing more is mailed to a typed address until then."""
    return (
        "このメールアドレスには、先ほどご案内をお送りしました。メールが届かないときは、"
        f"迷惑メールのフォルダをお確かめのうえ、{clock(again_at, now)}からもう一度お試しください。"
    )


def not_the_old_one(label: str) -> str:
    """`label`: what the page calls the field."""
    return f"{label}が違います。もう一度入力してください。何度も違ったときは、30分ほどたってからお試しください。"


def wrong_birth_date(label: str, left: int) -> str:
    """Behind a link that asks it; `left` more tries."""
    return (
        f"{label}が違います。ご家族あてのメールを開いていないかお確かめのうえ、もう一度入力してください。"
        f"あと{left}回違うと、このリンクは使えなくなります。"
    )


def wrong_letter(society: Society) -> str:
    """Whatever is wrong with credentials on paper: unknown, mistyped, used, paused, ended."""
    what = f"{society.label('temporary.id')}または{society.label('temporary.password')}"
    return (
        f"{what}が違います。お知らせの文字と見比べて、もう一度入力してください。"
        "何度も違ったときは、30分ほどたってからお試しください。"
        "利用登録がお済みの方は、ログイン画面からお入りください。"
    )


def wrong_reissue(society: Society) -> str:
    """Whatever is wrong with the credentials of a reissue mail."""
    what = f"{society.label('reissue.login-id')}または{society.label('reissue.temporary-password')}"
    return f"{what}が違います。メールの文字と見比べて、もう一度入力してください。"


def bad_address(problem: AddressProblem, label: str) -> str:
    """What is wrong with a typed address."""
    return label + _ADDRESS[problem]


def other_domain(society: Society) -> str:
    """Only addresses of some domains may be typed at the web entry."""
    label = society.label("entry.address")
    ends = "、".join(f"「@{domain}」" for domain in society.entry.domains)
    return f"この{label}では登録できません。{ends}で終わる{label}を入力してください。"


def address_taken(label: str) -> str:
    """Where the address is the login ID, and another account has it."""
    return (
        f"この{label}は、ほかの方がログインIDとして使っています。ご家族で同じ{label}は使えません。"
        f"別の{label}を入力してください。"
    )
