"""Every conversation of this folder, each on its own listener with the default limits."""

from pathlib import Path

import pytest

from tests.support.dialogue import Conversation, Inbox, conversations, hold, listening

ALL = [c for file in sorted(Path(__file__).parent.glob("*.smtp")) for c in conversations(file)]


@pytest.mark.parametrize("conversation", ALL, ids=str)
async def test_dialogue(conversation: Conversation) -> None:
    inbox = Inbox()
    async with listening(inbox) as listener:
        await hold(conversation, listener.port, inbox)
