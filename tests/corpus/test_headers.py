"""Every mail of the corpus meets the verdict written beside it."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mailbot.intake.screening import Action, OwnAddresses, judge
from mailbot.mail.address import parse_mailbox
from mailbot.mail.envelope import Envelope, Purpose
from mailbot.mail.inbound import facts

HERE = Path(__file__).parent / "headers"
VERDICTS: dict[str, dict[str, Any]] = tomllib.loads((HERE / "verdicts.toml").read_text("utf-8"))
ROBOT = parse_mailbox("toroku@yokohama.robot.example")
OWN = OwnAddresses.of(
    [ROBOT, parse_mailbox("toroku@kenpo.example")],
    {"robot.example", "yokohama.robot.example", "bounce.robot.example"},
    {"ids.robot.example"},
)


def test_every_mail_has_a_verdict_and_every_verdict_a_mail() -> None:
    assert {path.stem for path in HERE.glob("*.eml")} == set(VERDICTS)
    covered = {entry["case"] for entry in VERDICTS.values()}
    assert {22, *range(29, 45), 48, 49, 50} <= covered
    assert sum(name.startswith("phone-") for name in VERDICTS) >= 20


@pytest.mark.parametrize("name", VERDICTS)
def test_verdict(name: str) -> None:
    expected = VERDICTS[name]
    content = (HERE / f"{name}.eml").read_bytes()
    sender = parse_mailbox(expected["mail_from"]) if expected["mail_from"] else None
    inbound = facts(content)
    envelope = Envelope(sender, (ROBOT,), content, 0, "198.51.100.7", "mx.example", "smtp", len(content))

    verdict = judge(envelope, inbound, Purpose.REGISTRATION, OWN, None)

    assert verdict.reason == expected["reason"], inbound
    assert verdict.status.code == 250  # never a bounce, never a hint
    if verdict.action is Action.ANSWER:
        assert verdict.address is not None
        assert sender is not None
        assert verdict.address.key == sender.key
    else:
        assert verdict.address is None
    if "answer" in expected:
        assert str(verdict.address) == expected["answer"]
    if "message_id" in expected:
        assert inbound.message_id == (expected["message_id"] or None)
    if "subject" in expected:
        assert inbound.subject == expected["subject"]
    assert inbound.subject.isprintable()
    assert len(inbound.subject) <= 200
    assert not re.search(r"[\x00-\x1f\x7f]", inbound.date)
