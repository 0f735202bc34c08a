#!/usr/bin/env bash
# Pin every dependency with hashes. Three files: what builds the packages, what mailbot runs on, and all that tests and linters add.
# Run on the oldest supported Python (3.11): its answer also holds on the newer ones.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pip-tools
compile() {
    "$work/venv/bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras --no-annotate --no-header \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options "$@"
}
# editables is what hatchling adds for an editable install; setuptools builds the packages that come as source only.
printf 'hatchling\neditables\nsetuptools\nwheel\n' >"$work/build.in"
compile "${@}" --output-file constraints-build.txt "$work/build.in"
compile "${@}" --output-file constraints.txt pyproject.toml
compile "${@}" --extra test --extra lint --constraint constraints.txt --output-file constraints-dev.txt pyproject.toml
