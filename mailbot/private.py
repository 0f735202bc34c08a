"""Secret files: written whole and for us alone, read only where nobody else can, and in words where that fails."""

from __future__ import annotations

import contextlib
import os
import pwd
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

CHOWN = "run this as the robot's user; if that is who it is, chown the file and its folder to it"


class StartProblem(Exception):
    """The robot cannot start; `problems` are sentences that say what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def write_private(path: Path, data: bytes) -> None:
    """A new file of mode 0600, whole or not at all; one that another role made meanwhile stays."""
    with _mendable(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # made with mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(name, path)
        finally:
            Path(name).unlink()


def read_private(path: Path) -> bytes:
    """A secret file; raises StartProblem when others may read it, or we may not."""
    with _mendable(path, "read"):
        if path.stat().st_mode & 0o077:
            raise StartProblem([f"{path}: others can read this secret: run `chmod 600 {path}`"])
        return path.read_bytes()


@contextlib.contextmanager
def _mendable(path: Path, verb: str) -> Iterator[None]:
    """What the system refuses is a StartProblem with words."""
    try:
        yield
    except OSError as error:
        raise StartProblem([f"{path}: cannot be {verb} by {user()} ({error.strerror}): {CHOWN}"]) from error


def user() -> str:
    """Whose rights count. The environment may name somebody else."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"
