"""What to do for who says that no mail came: a Japanese sentence or two, from what the mail of the address met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailbot.config import Society
from mailbot.credentials import encode_id
from mailbot.delivery.suppression import KEPT, Source
from mailbot.intake.screening import Reason
from mailbot.mail.causes import Cause
from mailbot.mail.envelope import Purpose
from mailbot.office.reasons import REASONS
from mailbot.office.timeline import Moment

_BLOCKED = "受信設定で {sender} を受け取れるようにしていただき、{again}"
_LATER = "順番に送り直しています。しばらくお待ちいただきます（`mailbot queue status` で混み具合が分かります）。"
_STEPS = {
    "mail-delivered": "迷惑メールのフォルダと受信設定（{sender}）を見ていただきます。なければ、{again}",
    "mail-unknown": "届いていなければ、{again}",
    "mail-queued": _LATER,
    "mail-deferred": _LATER,
    "mail-held": "`mailbot queue show {mail}` で止めた理由を読み、送ってよければ `mailbot queue release {mail}`。",
    "mail-expired": "期限が切れました。{again}",
    "mail-cancelled": "このメールは送られません。かっこの中の理由を読み、まだ必要なら、{again}",
    "mailbox-waiting": "しばらくお待ちいただきます。1時間たってもこのままなら、管理者に知らせます。",
    "mailbox-ignored": "もう一度送っていただきます（`mailbot imap rescan` で、あとから返信することもできます）。",
}
_OURS = "こちらの都合で送れません。管理者に知らせます。"
_CAUSES: dict[str, str] = {
    Cause.UNKNOWN_USER: "アドレスを一字ずつ教えていただきます。違っていれば、正しいアドレスからお申し込みいただきます。"
    "合っていれば、{again}",
    Cause.DISABLED: "メールの契約が休止・解約されていないか、お確かめいただきます。使えるようになったら、{again}",
    Cause.FULL: "メールボックスの要らないメールを消していただき、{again}",
    Cause.FILTERED: _BLOCKED,
    Cause.POLICY: _BLOCKED,
    Cause.THROTTLED: "しばらくたってから、{again}",
    Cause.OUR_FAULT: _OURS,
    Cause.COMPLAINT: "迷惑メールの指定を外していただきます。",
    Cause.OTHER: "別のアドレスから、{again}",
}
_UNKNOWN = f"address-{Cause.UNKNOWN_USER}"
_STOPPED = "`mailbot suppression list` で止めた理由を確かめ、送ってよければ `mailbot suppression remove`。"
_NEVER = {cause: f"このアドレスには何も送りません。{words}" for cause, words in _CAUSES.items()}
_KNOWN: dict[str, Mapping[str, str]] = {
    **{f"address-{cause}": {**_CAUSES, Source.STAFF: _STOPPED} for cause in KEPT},
    _UNKNOWN: {**_NEVER, Source.STAFF: _STOPPED},
}
_BY_REASON: dict[str, Mapping[str, str]] = {
    "mail-failed": _CAUSES,
    "mail-bounced": _CAUSES,
    "mail-deferred": {
        Cause.OUR_FAULT: _OURS,
        Cause.FULL: "メールボックスの要らないメールを消していただきます。あとでもう一度送ります。",
    },
    **_KNOWN,
}
_UNREACHED = ("suppressed", "address-unreachable")
"""Why a mail was cancelled: the address."""
_NOTHING = (
    "このアドレスからは何も届いていません。どのアドレスから、どこへ送ったかを一字ずつ確かめます{to}。合っていれば、もう一度送っていただき、"
    "それでも出なければ、管理者にメールサーバーの記録を見てもらいます。"
)


def next_step(society: Society, newest_first: Sequence[Moment]) -> str:
    """What the newest thing that says something calls for."""
    entry = society.addresses.registration
    anew = f"{entry} へもう一度空メールを送っていただきます。" if entry else "もう一度お申し込みいただきます。"
    too_soon = False
    for one in newest_first:
        if one.purpose == Purpose.BOUNCE or (too_soon and one.event == "mail-in"):
            continue
        if one.event == "mail-in" and one.reason == Reason.OVER_BUDGET:
            too_soon = True
        elif one.event == "mail-in" and one.reason != Reason.ACCEPTED:
            return REASONS[Reason(one.reason)].todo if one.reason in set(Reason) else anew
        elif told := _told(one, newest_first):
            # only a mail from the address shows that it works again
            again = f"本人を確かめてから `mailbot suppression remove` し、{anew}"
            again = again if told.event == _UNKNOWN and not entry else anew
            mail = encode_id(told.mail) if told.mail else ""
            return _words(told).format(sender=society.addresses.robot, again=again, mail=mail)
    if too_soon:
        return REASONS[Reason.OVER_BUDGET].todo
    return _NOTHING.format(to=f"（正しいあて先は {entry}）" if entry else "")


def _told(one: Moment, moments: Sequence[Moment]) -> Moment | None:
    """What says what to do: mostly the moment itself; where mail no longer goes to an address, what is known of it."""
    if one.event == "mail-cancelled" and one.reason in _UNREACHED:
        return next((known for known in moments if known.event in _KNOWN), one)
    return one if _words(one) else None


def _words(one: Moment) -> str:
    event = "mail-queued" if one.event == "mail-in" else one.event
    return _BY_REASON.get(event, {}).get(one.reason) or _STEPS.get(event, "")
