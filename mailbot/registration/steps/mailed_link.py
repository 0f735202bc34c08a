"""A second mail to the invited address; only its link leads on."""

from __future__ import annotations

from mailbot.config import Journey, Society

from .base import WaitingStep


class MailedLink(WaitingStep):
    """The form behind the link is that of the next step, `enter-key`: the two carry the proof to another browser."""

    name = "mailed-link"
    letter = "mailed-link"

    def problems(self, society: Society, journey: Journey) -> list[str]:
        place = journey.steps.index(self.name)
        if journey.steps[place + 1 : place + 2] != ("enter-key",) or journey.steps[place - 1 : place] != ("show-key",):
            return ["steps: 'mailed-link' stands between 'show-key' and 'enter-key'"]
        return []


MAILED_LINK = MailedLink()
