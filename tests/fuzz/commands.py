"""Lines of SMTP and LMTP as strangers write them, without the network."""

from __future__ import annotations

from mailbot.config.site import SmtpSection
from mailbot.intake.smtp_dialogue import COMMANDS, LMTP_COMMANDS, Dialogue, House
from mailbot.intake.smtp_limits import Admission, Room
from mailbot.mail import status as reply
from mailbot.mail.address import parse_mailbox
from mailbot.mail.envelope import Envelope
from mailbot.mail.status import Status
from tests.fuzz.lawful import lawful
from tests.support.dialogue import DIRECTORY, HOST

SMTP = SmtpSection(listen=("127.0.0.1:0",))
REPLIES = {one for one in vars(reply).values() if isinstance(one, Status)}


async def _nobody(_: Envelope) -> Status:
    return reply.OK


def _house(lmtp: bool) -> House:
    return House(
        smtp=SMTP,
        host=HOST,
        directory=DIRECTORY,
        receive=_nobody,
        clock=lambda: 0,
        admission=Admission(SMTP),
        tls=None,
        legacy_domains=frozenset(SMTP.legacy_domains),
        postmaster=parse_mailbox("postmaster@robot.example"),
        room=Room(0),
        lmtp=lmtp,
    )


HOUSES = {False: _house(False), True: _house(True)}


def commands(data: bytes) -> None:
    """Whatever is said, the answer is one of ours, word by word, and nobody is let in who does not live here."""
    lmtp = data[:1] >= b"\x80"
    talk = Dialogue(HOUSES[lmtp], tls_offered=False)
    for line in data[1:].split(b"\n"):
        verb, _, argument = line.rstrip(b"\r").partition(b" ")
        command = (LMTP_COMMANDS if lmtp else COMMANDS).get(verb.upper())
        if command is None:
            continue
        answer = command(talk, argument.strip(b" \t"))
        if isinstance(answer, Status):
            assert answer in REPLIES
        else:
            assert answer.startswith(b"250") and HOST.encode() in answer  # noqa: PT018  one law
        assert talk.helo.isprintable()
        assert len(talk.helo) <= 255
        assert len(talk.recipients) <= SMTP.max_recipients
        for address in (talk.reverse_path, *talk.recipients):
            if address is not None:
                lawful(address)
        # no relay: RFC 5321 section 3.9 leaves that to those who want it
        assert all(DIRECTORY.route(one.local, one.domain) for one in talk.recipients)
        if answer is reply.START_DATA:
            assert talk.recipients
            assert talk.helo
            talk.forget_mail()


def lines() -> list[bytes]:
    """Beginnings of sessions."""
    talks = [
        "EHLO a\nMAIL FROM:<a@e.jp> SIZE=1 BODY=8BITMIME\nRCPT TO:<touroku@robot.example>\nDATA",
        "HELO a\nMAIL FROM:<>\nRCPT TO:<PostMaster>\nRCPT TO:<help@robot.example>\nRSET\nDATA",
        "EHLO a\nMAIL FROM:<@r.jp:a..b.@docomo.ne.jp>\nRCPT TO:<victim%gmail.com@robot.example>\nRCPT TO:<x@gmail.com>",
        "LHLO a\nMAIL FROM:<a@e.jp>\nRCPT TO:<touroku+k7mp3wxq@robot.example>\nDATA\nVRFY root\nEXPN x\nHELP\nNOOP",
        "EHLO a\nSTARTTLS\nAUTH PLAIN AAAA\nMAIL FROM:<=?utf-8?q?a=40b=3e=0d=0a?=@e.jp>\nMAIL FROM:<あ@例.jp>",
    ]
    return [bytes((128 if "LHLO" in talk else 0,)) + talk.encode() for talk in talks]
