"""OpenDKIM's verifier, as a mail server would run it: a second opinion on our signatures, by other people's code."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.servers import program

_RESULT = re.compile(r"dkim=(\w+)[^;]*?header\.a=([\w-]+)", re.DOTALL)


def opendkim(messages: Sequence[bytes], records: Mapping[str, str]) -> list[dict[str, str]]:
    """For each message: algorithm -> verdict (`pass`, `fail`, …) of its signatures; `message` -> `permerror` for one
    that it takes for no mail at all.

    `records`: name without final dot -> TXT, instead of the DNS.
    """
    with tempfile.TemporaryDirectory(prefix="mb-opendkim-") as name:
        folder = Path(name)
        (folder / "keys").write_text("".join(f"{name} {value}\n" for name, value in records.items()))
        (folder / "conf").write_text(f"TestPublicKeys {folder}/keys\nInternalHosts 192.0.2.255\n")
        files = [folder / str(number) for number in range(len(messages))]
        for file, message in zip(files, messages, strict=True):
            file.write_bytes(message)
        arguments = [str(program("opendkim")), "-x", f"{folder}/conf", "-v", "-v", "-t", ",".join(map(str, files))]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
        said = done.stdout.split("### INSHEADER:")[1:]  # the header it would add: one for each message
        if len(said) != len(messages):
            raise RuntimeError(f"opendkim judged {len(said)} of {len(messages)} messages:\n{done.stdout}{done.stderr}")
        found = [{algorithm: verdict for verdict, algorithm in _RESULT.findall(words)} for words in said]
        return [verdicts or {"message": "permerror"} for verdicts in found]
