"""One target under hypothesis: `python -m tests.fuzz.chance TARGET UNTIL FOLDER`.

Seeds with a few octets exchanged, other ones in each run; what coverage does not lead to. `UNTIL` as in `one.py`. What
breaks a law is made as simple as it gets and left in `FOLDER`.
"""

from __future__ import annotations

import hashlib
import sys
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Target

RANDOM = settings(
    max_examples=200,  # between two looks at the clock
    derandomize=False,
    database=None,
    deadline=None,
    suppress_health_check=[*HealthCheck],
)


def inputs(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A seed with some octets exchanged or put in, or a few octets of nothing in particular."""

    def splice(seed: bytes, place: int, cut: int, piece: bytes) -> bytes:
        at = place % (len(seed) + 1)
        return seed[:at] + piece + seed[at + cut :]

    spliced = st.builds(
        splice,
        st.sampled_from(seeds),
        st.integers(0, 4096),
        st.integers(0, 40),
        st.binary(max_size=8) | st.text(max_size=4).map(lambda text: text.encode("utf-8", "surrogatepass")),
    )
    return spliced | st.binary(max_size=200)


def search(target: Target, until: float, folder: Path) -> int:
    """Tries inputs until that moment of the monotonic clock, or until one breaks a law -> how many there were."""
    tried, broken = 0, b""

    @RANDOM
    @given(inputs(list(target.seeds())))
    def law(data: bytes) -> None:
        nonlocal tried, broken
        tried += 1
        try:
            target.run(data)
        except Exception:
            broken = data  # the last one is the simplest
            raise

    while time.monotonic() < until:
        try:
            law()
        except Exception:
            folder.joinpath(f"chance-{hashlib.sha1(broken).hexdigest()}").write_bytes(broken)
            traceback.print_exc()
            break
    return tried


def main() -> None:
    name, until, folder = sys.argv[1:]
    print(search(TARGETS[name], float(until), Path(folder)))


if __name__ == "__main__":
    main()
