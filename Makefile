# Two commands: `make demo` and `make test`. They need python3 (3.11 or newer) and make, and set up .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SERVICES := $(VENV)/services/.installed

.PHONY: help demo test check format lint types layers tests slow services browser web clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    set up .venv and run the whole journey on generated data (a few minutes on a laptop CPU)"
	@echo "make test    set up .venv and run the check command: format, lint, types, layers, tests"
	@echo "make check   the check command alone (also: make format, to let ruff put the format right)"
	@echo "make slow    the tests that take longest: rarer encoders, compilers"
	@echo "make services  the tests with services that they start: SLURM (as root), an S3 server (installed into .venv/services)"
	@echo "make browser the tests of the page in Chromium (extra browser: playwright)"
	@echo "make web     bundle the viewers of the page anew (needs node and npm)"
	@echo "make clean   remove .venv and the caches"
	@echo "Another Python: make demo PYTHON=python3.12"

demo: $(STAMP)
	$(BIN)/unetpp demo

test: $(STAMP)
	@$(MAKE) --no-print-directory check

check: lint types layers tests

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

tests: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not services and not browser" -n auto --maxprocesses 4

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

services: $(STAMP)
	@$(MAKE) --no-print-directory $(SERVICES) || echo "The S3 server and its reader could not be installed: their tests are skipped."
	$(BIN)/python -m pytest -m services tests/services

$(SERVICES): tests/services/requirements.txt
	$(BIN)/python -m venv $(VENV)/services
	$(VENV)/services/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/services/requirements.txt
	@touch $(SERVICES)

browser: $(STAMP)
	$(BIN)/python -m pytest -m browser tests/serve

web:
	cd web && npm ci --ignore-scripts && npm run build

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "unetpp: got no program '$(PYTHON)'; expected Python 3.11 or newer. Install it, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "unetpp: got $$($(PYTHON) --version 2>&1); expected Python 3.11 or newer. Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "unetpp: '$(PYTHON) -m venv' failed. On Debian and Ubuntu: sudo apt install python3-venv, then remove $(VENV) and try again." >&2; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
