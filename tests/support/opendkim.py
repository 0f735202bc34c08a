"""OpenDKIM's verifier and key tester: a second opinion on signatures and records, by other people's code."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers import program

_RESULT = re.compile(r"dkim=(\w+)(?:(?!dkim=).)*?header\.a=([\w-]+)", re.DOTALL)
# libunbound's own configuration: ask this server only
_RESOLVER = """\
server:
    do-not-query-localhost: no
    module-config: "iterator"
forward-zone:
    name: "."
    forward-addr: {address}
"""


@contextmanager
def _configured(dns: str | Mapping[str, str]) -> Iterator[tuple[Path, Path]]:
    """(folder, configuration file) for an OpenDKIM that asks the DNS server at `host:port`, or none: then `dns` is name
    -> TXT, which is faster."""
    with tempfile.TemporaryDirectory(prefix="mb-opendkim-") as name:
        folder = Path(name)
        if isinstance(dns, str):
            (folder / "resolver").write_text(_RESOLVER.format(address=dns.replace(":", "@")))
            source = f"ResolverConfiguration {folder}/resolver"
        else:
            (folder / "keys").write_text("".join(f"{name.rstrip('.')} {value}\n" for name, value in dns.items()))
            source = f"TestPublicKeys {folder}/keys"
        (folder / "conf").write_text(f"{source}\nInternalHosts 192.0.2.255\n")
        yield folder, folder / "conf"


def opendkim(messages: Sequence[bytes], dns: str | Mapping[str, str]) -> list[dict[str, str]]:
    """For each message: algorithm -> verdict (`pass`, `fail`, …) of its signatures; `message` -> `permerror` for one
    that it takes for no mail at all."""
    with _configured(dns) as (folder, configuration):
        files = [folder / str(number) for number in range(len(messages))]
        for file, message in zip(files, messages, strict=True):
            file.write_bytes(message)
        arguments = [str(program("opendkim")), "-x", str(configuration), "-v", "-v", "-t", ",".join(map(str, files))]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    said = done.stdout.split("### INSHEADER:")[1:]  # the header it would add: one for each message
    if len(said) != len(messages):
        raise RuntimeError(f"opendkim judged {len(said)} of {len(messages)} messages:\n{done.stdout}{done.stderr}")
    found = [{algorithm: verdict for verdict, algorithm in _RESULT.findall(words)} for words in said]
    return [verdicts or {"message": "permerror"} for verdicts in found]


def opendkim_testkey(domain: str, selector: str, key: Path, endpoint: str) -> str:
    """What is wrong with the published key of this private (RSA) key; '' when nothing is."""
    with _configured(endpoint) as (_, configuration):
        arguments = [str(program("opendkim-testkey")), "-x", str(configuration), "-d", domain, "-s", selector]
        done = subprocess.run([*arguments, "-k", str(key)], capture_output=True, text=True, timeout=60, check=False)
        return (done.stdout + done.stderr or f"status {done.returncode}") if done.returncode else ""
