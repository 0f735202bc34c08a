"""One target under atheris: `python -m tests.fuzz.one TARGET UNTIL [options of libFuzzer]`.

A target is a name of `targets.TARGETS`, or `module:function` of a check. `UNTIL`: when to end, in seconds of the
monotonic clock, which all processes share; to instrument what is imported takes longer than many a share of time.
"""

import sys
import time
from importlib import import_module

import atheris


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    module, _, function = sys.argv.pop(1).rpartition(":")
    until = float(sys.argv.pop(1))
    # flufl.bounce reads strangers' reports for us
    rooms = ["mailbot", "flufl.bounce", module or "tests.fuzz"]
    with atheris.instrument_imports(include=rooms, enable_loader_override=False):
        if module:
            check = getattr(import_module(module), function)
        else:
            check = import_module("tests.fuzz.targets").TARGETS[function].run
    left = max(1, round(until - time.monotonic()))
    atheris.Setup([*sys.argv, f"-max_total_time={left}"], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
