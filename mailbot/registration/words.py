"""Sentences that more than one use case says. Each tells what to do next; none tells whether somebody is registered."""

from __future__ import annotations

from mailbot.config import Society
from mailbot.mail.address import AddressProblem

TOO_OFTEN = "短い時間に何度も操作されました。しばらくたってから、もう一度お試しください。"
JUST_SENT = (
    "このメールアドレスには、先ほどご案内をお送りしました。"
    "メールが届かないときは、迷惑メールのフォルダをお確かめのうえ、しばらくたってからもう一度お試しください。"
)
NOT_THE_OLD_ONE = (
    "いまのパスワードが違います。もう一度入力してください。何度も違ったときは、30分ほどたってからお試しください。"
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
    waits = "登録のあと完了メールが届くまでは、ログインできません。" if society.login.opens == "completion-delivered" else ""
    return (
        "ログインIDまたはパスワードが違います。もう一度入力してください。"
        f"利用登録がまだお済みでない方は、先に利用登録をしてください。{waits}"
        "何度も違ったときは、30分ほどたってからお試しください。"
    )


def wrong_letter(society: Society) -> str:
    """Whatever is wrong with credentials on paper: unknown, mistyped, used, paused, ended."""
    what = f"{society.label('temporary.id')}または{society.label('temporary.password')}"
    return (
        f"{what}が違います。お知らせの文字と見比べて、もう一度入力してください。"
        "何度も違ったときは、しばらくたってからお試しください。"
        "利用登録がお済みの方は、ログイン画面からお入りください。"
    )


def wrong_reissue(society: Society) -> str:
    """Whatever is wrong with the credentials of a reissue mail."""
    what = f"{society.label('reissue.login-id')}または{society.label('reissue.temporary-password')}"
    return f"{what}が違います。メールの文字と見比べて、もう一度入力してください。"


def bad_address(problem: AddressProblem, label: str) -> str:
    """What is wrong with a typed address."""
    return label + _ADDRESS[problem]
