"""One target under atheris: `python -m tests.fuzz.one TARGET [options of libFuzzer]`.

A target is a name of `targets.TARGETS`, or `module:function` of a check.
"""

import sys
from importlib import import_module

import atheris


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    module, _, function = sys.argv.pop(1).rpartition(":")
    with atheris.instrument_imports(include=["mailbot", module or "tests.fuzz"], enable_loader_override=False):
        if module:
            check = getattr(import_module(module), function)
        else:
            check = import_module("tests.fuzz.targets").TARGETS[function].check
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
