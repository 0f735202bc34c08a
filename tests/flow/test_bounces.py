"""A mail that a real Postfix cannot deliver: its report comes back by SMTP, and the address gets mail again only after
its owner wrote. Case 45."""

import asyncio
from pathlib import Path

from tests.support.postfix import postfix
from tests.support.robot import Robot, robot
from tests.support.servers import free_port
from tests.support.sink import Sink

TO = "touroku@yokokou.example"
GONE = "gone@phone.example"


async def until(made: Robot, *arguments: str, count: int) -> list[dict[str, str]]:
    for _ in range(60):
        found: list[dict[str, str]] = await asyncio.to_thread(made.json, *arguments)
        if len(found) == count:
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(f"{arguments}: {found}\n{made.log}")


async def test_a_postfix_that_bounces_and_the_owner_who_writes_again(tmp_path: Path, smtp_sink: Sink) -> None:
    refused: list[str] = []

    def rule(stage: str, argument: str) -> str | None:
        if stage == "rcpt" and GONE in argument and not refused:
            refused.append(argument)
            return "550 5.1.1 no such mailbox"
        return None

    smtp_sink.rule = rule
    port = free_port()
    back = {"transport_maps": f"inline:{{yokokou.example=smtp:[127.0.0.1]:{port}}}"}
    with postfix(relay_port=smtp_sink.port, settings=back) as relay:
        overrides = {"BUDGETS_ADDRESS_PER_MINUTE": "10"}
        async with robot(tmp_path, relay.port, overrides=overrides, smtp_port=port) as made:
            assert (await asyncio.to_thread(made.send_blank_mail, GONE, TO))[0] == 250
            (row,) = await until(made, "suppression", "list", count=1)
            assert (row["address"], row["cause"], row["source"]) == (GONE, "unknown-user", "report")
            assert row["means"] == "このあて先のメールアドレスはありません"
            (mail,) = await asyncio.to_thread(made.json, "queue", "list")
            assert (mail["id"], mail["state"], mail["reason"]) == (row["mail"], "failed", "bounced-unknown-user")

            assert (await asyncio.to_thread(made.send_blank_mail, GONE, TO))[0] == 250
            (answer,) = await smtp_sink.wait(to=GONE)
            assert answer.mail_from.startswith("bounce+")
            assert answer.mail_from.endswith("@yokokou.example")
            assert await asyncio.to_thread(made.json, "suppression", "list") == []
            assert len(await asyncio.to_thread(made.json, "queue", "list")) == 2  # nobody answered the report
            assert len(smtp_sink.mails) == 1
