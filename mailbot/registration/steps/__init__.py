"""The kinds of steps a journey is made of. A new kind is one file here, one page template, and its name in `STEPS`."""

from __future__ import annotations

from mailbot.config import Society

from .base import FormStep, JourneyState, LinkedStep, Passed, ProofStep, Proved, ShownStep, Step, WaitingStep
from .confirm_by_mail import CONFIRM_BY_MAIL
from .consent import CONSENT
from .credentials import CREDENTIALS
from .enter_key import ENTER_KEY
from .formula_login import FORMULA_LOGIN
from .insurance_details import INSURANCE_DETAILS
from .mailed_link import MAILED_LINK
from .review import REVIEW
from .settings import SETTINGS_STEP
from .show_key import SHOW_KEY
from .temporary_login import TEMPORARY_LOGIN

STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        TEMPORARY_LOGIN,
        INSURANCE_DETAILS,
        FORMULA_LOGIN,
        CONSENT,
        SHOW_KEY,
        MAILED_LINK,
        ENTER_KEY,
        SETTINGS_STEP,
        REVIEW,
        CONFIRM_BY_MAIL,
        CREDENTIALS,
    )
}

__all__ = [
    "STEPS",
    "FormStep",
    "JourneyState",
    "LinkedStep",
    "Passed",
    "ProofStep",
    "Proved",
    "ShownStep",
    "Step",
    "WaitingStep",
    "form_step",
    "linked_step",
    "problems",
    "proof_step",
    "step_named",
]


def step_named(name: str) -> Step | None:
    """The step of that name, None when there is none."""
    return STEPS.get(name)


def proof_step(name: str) -> ProofStep | None:
    """The step that may begin a journey, None when there is none of that name."""
    step = STEPS.get(name)
    return step if isinstance(step, ProofStep) else None


def form_step(name: str) -> FormStep | None:
    """The step that may follow a proof, None when there is none of that name."""
    step = STEPS.get(name)
    return step if isinstance(step, FormStep) else None


def linked_step(steps: tuple[str, ...], position: int) -> tuple[int, LinkedStep] | None:
    """The form behind the mailed link of a journey that stands at `position`, and its place: the waiting step itself,
    or the one after it."""
    if not 0 <= position < len(steps) or not isinstance(step_named(steps[position]), WaitingStep):
        return None
    for place in (position, position + 1):
        step = step_named(steps[place]) if place < len(steps) else None
        if isinstance(step, LinkedStep):
            return place, step
    return None


def problems(society: Society) -> list[str]:
    """What is wrong with the society's journeys, as sentences that name the key of its file."""
    found = []
    for name, journey in society.journeys.items():
        key = f"journeys.{name}.steps"
        unknown = [step for step in journey.steps if step not in STEPS]
        found += [f"{key}: no step is called {step!r}; there are: {', '.join(sorted(STEPS))}" for step in unknown]
        if not journey.steps:
            found.append(f"{key}: a journey needs steps")
        if not journey.starts:
            found.append(f"journeys.{name}.starts: a journey needs a start")
        if unknown or not journey.steps:
            continue
        if len(set(journey.steps)) < len(journey.steps):
            found.append(f"{key}: a step stands twice")
            continue
        if proof_step(journey.steps[0]) is None:
            found.append(f"{key}: the first step must prove who it is; {journey.steps[0]!r} proves nothing")
        found += [
            f"{key}: {step!r} is a proof and can only come first" for step in journey.steps[1:] if proof_step(step)
        ]
        last = form_step(journey.steps[-1])
        if last is None or not last.registers:
            found.append(f"{key}: the last step must register the member; {journey.steps[-1]!r} does not")
        for step in journey.steps:
            found += [f"journeys.{name}: {text}" for text in STEPS[step].problems(society, journey)]
    return found
