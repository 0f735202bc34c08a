"""Every conversation of this folder, each on a listener of its own with the default limits; .lmtp speaks LMTP."""

from pathlib import Path

import pytest

from tests.support.dialogue import Conversation, Inbox, conversations, hold, listening

ALL = [c for file in sorted(Path(__file__).parent.glob("*.[sl]mtp")) for c in conversations(file)]


@pytest.mark.parametrize("conversation", ALL, ids=str)
async def test_dialogue(conversation: Conversation) -> None:
    inbox, lmtp = Inbox(), conversation.file.endswith(".lmtp")
    async with listening(inbox, lmtp_listen=("127.0.0.1:0",) if lmtp else ()) as listener:
        await hold(conversation, listener.ports[-1], inbox)
    assert {(e.origin, e.direct) for e in inbox.envelopes} <= {("lmtp", False) if lmtp else ("smtp", True)}
