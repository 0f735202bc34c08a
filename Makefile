# Everything lives in .venv; a stamp file there says what is installed, so a second run starts at once.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet --no-input
RUN := .venv/.ready-run
DEV := .venv/.ready-dev
WORKERS ?= 2
MINUTES ?= 10

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help:  ## list these commands
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mailbot needs Python 3.11 or newer" >&2; exit 1; }
	@echo "making .venv"
	@$(PYTHON) -m venv .venv || { echo "venv is missing: apt-get install python3-venv" >&2; exit 1; }

# Packages that come as source only are built with the pinned tools of constraints-build.txt, never with whatever is newest.
$(RUN): constraints-build.txt constraints.txt pyproject.toml | $(BIN)/python
	@echo "installing what mailbot runs on"
	@$(PIP) install --require-hashes -r constraints-build.txt
	@$(PIP) install --require-hashes --no-build-isolation -r constraints.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): constraints-dev.txt $(RUN)
	@echo "installing what tests and linters need"
	@$(PIP) install --require-hashes --no-build-isolation -r constraints-dev.txt
	@touch $@

.PHONY: install
install: $(RUN)  ## only what mailbot runs on, for a machine that serves members

.PHONY: run
run: $(RUN)  ## start the demo robot and walk through a registration (ONCE=1: end after the tour)
	@$(BIN)/mailbot demo $(if $(ONCE),--once)

.PHONY: test
test: $(DEV)  ## lint, types and all tests, on real servers
	@scripts/servers.sh
	@$(MAKE) --no-print-directory lint types
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

.PHONY: lint
lint: $(DEV)  ## style and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

.PHONY: types
types: $(DEV)  ## types, strictly
	@$(BIN)/mypy

.PHONY: docs
docs: $(DEV)  ## hold the documents against the code
	@$(BIN)/pytest tests/rules $(ARGS)

.PHONY: chaos
chaos: $(DEV)  ## kill the robot at random moments under load, on both databases
	@scripts/servers.sh
	@$(BIN)/pytest tests/flow/test_accept_kill.py -s $(ARGS)

.PHONY: fuzz
fuzz: $(DEV)  ## look for input that breaks a law, guided by coverage (MINUTES=10)
	@$(BIN)/python -m tests.fuzz.run --minutes $(MINUTES) $(ARGS)

.PHONY: bench
bench: $(DEV)  ## mails a second, beside a Postfix that only relays the same mails
	@scripts/servers.sh
	@$(BIN)/python -m bench.run $(ARGS)

.PHONY: pin
pin:  ## resolve and hash all dependencies anew
	@PYTHON=$(PYTHON) scripts/pin.sh --upgrade

.PHONY: clean
clean:  ## remove .venv and everything that was built or cached
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
