"""The bench's own tools, load straight into sink: what they count is what happened."""

from email import message_from_bytes
from email.utils import parseaddr

import pytest

from bench.load import Load, send
from bench.sink import Sink, start
from tests.support.sink import Sink as ScriptedSink

RECIPIENT = b"touroku@bench.example"


@pytest.mark.parametrize("per_connection", [0, 1, 7])
async def test_every_mail_arrives_once_under_its_number(per_connection: int) -> None:
    sink = Sink()
    server = await start(sink)
    load = Load(RECIPIENT, first=100, mails=50)
    await send(load, sink.port, connections=4, per_connection=per_connection)
    server.close()
    assert sink.arrived.keys() == load.accepted.keys() == set(range(100, 150))
    assert (sink.doubles, sink.strangers, load.refused.total()) == (0, 0, 0)
    assert load.started <= min(sink.arrived.values())


async def test_a_second_answer_is_counted_as_double() -> None:
    sink = Sink()
    server = await start(sink)
    for _ in range(2):
        await send(Load(RECIPIENT, first=0, mails=3), sink.port, connections=1)
    server.close()
    assert (len(sink.arrived), sink.doubles) == (3, 3)


async def test_refusals_are_counted_and_the_rest_still_goes(smtp_sink: ScriptedSink) -> None:
    smtp_sink.answer("rcpt", "451 4.7.1 later", "550 5.1.1 nobody")
    smtp_sink.answer("dot", "452 4.3.1 full")
    load = Load(RECIPIENT, first=0, mails=6)
    await send(load, smtp_sink.port, connections=1)
    assert dict(load.refused) == {"451 4.7.1 later": 1, "550 5.1.1 nobody": 1, "452 4.3.1 full": 1}
    assert set(load.accepted) == {3, 4, 5}
    assert len(smtp_sink.mails) == 3


def test_the_mail_is_one_a_robot_should_answer() -> None:
    load = Load(RECIPIENT, first=0, mails=1)
    content = load.content(7)
    mail = message_from_bytes(content)
    assert 1100 < len(content) < 1700
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))
    assert parseaddr(mail["From"])[1].encode() == load.sender(7)
    assert mail.get_all("To") == [RECIPIENT.decode()]
    assert not {"auto-submitted", "precedence", "list-id"} & {name.lower() for name in mail}
