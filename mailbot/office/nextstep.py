"""What to do for who says that no mail came: a Japanese sentence or two, from what the mail of the address met."""

from __future__ import annotations

from collections.abc import Sequence

from mailbot.config import Society
from mailbot.credentials import encode_id
from mailbot.delivery.suppression import Source
from mailbot.intake.screening import Reason
from mailbot.office.reasons import REASONS
from mailbot.office.timeline import Moment

_BLOCKED = "受信設定で {sender} を受け取れるようにしてから、{again}"
_LATER = "順番に送り直しています。しばらくお待ちいただきます（`mailbot queue status` で混み具合が分かります）。"
_STEPS = {
    "mail-delivered": "迷惑メールのフォルダと受信設定（{sender}）を見ていただきます。なければ、{again}",
    "mail-unknown": "届いていなければ、{again}",
    "mail-failed": _BLOCKED,
    "mail-bounced": _BLOCKED,
    "mail-queued": _LATER,
    "mail-deferred": _LATER,
    "mail-held": "`mailbot queue show {mail}` で止めた理由を読み、送ってよければ `mailbot queue release {mail}`。",
    "mail-expired": "期限が切れました。{again}",
    "mail-cancelled": "このメールは送られません。かっこの中の理由を読み、まだ必要なら、{again}",
    "address-unknown-user": "このアドレスには何も送りません。{blocked}",
    "mailbox-waiting": "しばらくお待ちいただきます。1時間たってもこのままなら、管理者に知らせます。",
    "mailbox-ignored": "もう一度送っていただきます（`mailbot imap rescan` で、あとから返信することもできます）。",
}
_STOPPED = "`mailbot suppression list` で止めた理由を確かめ、送ってよければ `mailbot suppression remove`。"
_NOTHING = (
    "このアドレスからは何も届いていません。どのアドレスから、どこへ送ったかを一字ずつ確かめます{to}。合っていれば、もう一度送っていただき、"
    "それでも出なければ、管理者にメールサーバーの記録を見てもらいます。"
)


def next_step(society: Society, newest_first: Sequence[Moment]) -> str:
    """What the newest thing that says something calls for."""
    entry = society.addresses.registration
    again = f"{entry} へもう一度空メールを送っていただきます。" if entry else "もう一度お申し込みいただきます。"
    blocked = _BLOCKED.format(sender=society.addresses.robot, again=again)
    for one in newest_first:
        if one.event == "mail-in" and one.reason != Reason.ACCEPTED:
            return REASONS[Reason(one.reason)].todo if one.reason in set(Reason) else again
        if one.event.startswith("address-") and one.reason == Source.STAFF:
            return _STOPPED
        if words := _STEPS.get("mail-queued" if one.event == "mail-in" else one.event):
            mail = encode_id(one.mail) if one.mail else ""
            return words.format(sender=society.addresses.robot, again=again, mail=mail, blocked=blocked)
    return _NOTHING.format(to=f"（正しいあて先は {entry}）" if entry else "")
