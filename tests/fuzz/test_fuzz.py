"""The laws of `targets.py` on their seeds, on what was ever found, and on chance; and that the fuzzer finds faults."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.run import FOUND, fuzz
from tests.fuzz.targets import TARGETS

SEEDS = {name: list(target.seeds()) for name, target in TARGETS.items()}
PAST = sorted(FOUND.glob("*/*"))


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name].check(seed)


def test_what_was_found_once() -> None:
    for path in PAST:
        TARGETS[path.parent.name].check(path.read_bytes())  # a folder is named after its target


def _spliced(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A seed with some octets exchanged or put in."""

    def splice(seed: bytes, place: int, cut: int, piece: bytes) -> bytes:
        at = place % (len(seed) + 1)
        return seed[:at] + piece + seed[at + cut :]

    return st.builds(
        splice,
        st.sampled_from(seeds),
        st.integers(0, 4096),
        st.integers(0, 40),
        st.binary(max_size=8) | st.text(max_size=4).map(lambda text: text.encode("utf-8", "surrogatepass")),
    )


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
@settings(max_examples=60)
def test_laws(name: str, data: st.DataObject) -> None:
    TARGETS[name].check(data.draw(_spliced(SEEDS[name]) | st.binary(max_size=200)))


def test_the_fuzzer_finds_a_planted_fault(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And saves the input that shows it."""
    name = "tests.fuzz.planted:check"
    assert not fuzz(name, 60, tmp_path)
    (found,) = (tmp_path / name).glob("crash-*")
    assert found.read_bytes()[:4] == b"MAIL"
    assert "FOUND" in capfd.readouterr().out
