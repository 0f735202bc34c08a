"""The laws of `targets.py` on their seeds, on what was ever found, and on chance; and that the fuzzer finds faults."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbot.mail import reports
from mailbot.mail.inbound import facts
from tests.fuzz.chance import inputs, search
from tests.fuzz.run import FOUND, fuzz
from tests.fuzz.targets import TARGETS, Target, grown

SEEDS = {name: list(target.seeds()) for name, target in TARGETS.items()}
PAST = sorted(FOUND.glob("*/*"))


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name].check(seed)


GROWING = [name for name, target in TARGETS.items() if target.grows]


@pytest.mark.parametrize("name", GROWING)
def test_seeds_beyond_every_limit(name: str) -> None:
    for seed in SEEDS[name][::8]:
        for one in grown(seed):
            TARGETS[name].check(one)


def test_grown_seeds_are_beyond_every_limit() -> None:
    mails = [one for seed in SEEDS["header"][::8] for one in grown(seed)]
    assert {facts(one).broken for one in mails} >= {"header-block-too-long", "field-too-long"}
    assert max(map(len, mails)) > reports.MAX_CONTENT


def test_what_was_found_once() -> None:
    for path in PAST:
        TARGETS[path.parent.name].run(path.read_bytes())  # a folder is named after its target


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
@settings(max_examples=60)
def test_laws(name: str, data: st.DataObject) -> None:
    TARGETS[name].run(data.draw(inputs(SEEDS[name])))


def test_the_fuzzer_finds_a_planted_fault(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And saves the input that shows it."""
    name = "tests.fuzz.planted:check"
    assert not fuzz(name, 60, tmp_path)
    (found,) = (tmp_path / name).glob("crash-*")
    assert found.read_bytes()[:4] == b"MAIL"
    assert "FOUND" in capfd.readouterr().out


def test_chance_finds_a_fault_and_saves_the_input(tmp_path: Path) -> None:
    def check(data: bytes) -> None:
        assert b"\0" not in data

    assert search(Target(check, lambda: [b"hanako@e.jp"]), math.inf, tmp_path) >= 1
    (found,) = tmp_path.glob("chance-*")
    assert b"\0" in found.read_bytes()
