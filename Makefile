# `make demo` and `make test` are all that a bare machine with Python 3.11 needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-faults install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# The demo corpus, its features, and the paper's search on it.
demo: install
	$(BIN)/sersearch tune --space aae_alpha_beta

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest -m 'slow and not fault'
	$(BIN)/python -m pytest -m 'fault and not slow'

# Processes, nodes, disks, networks and servers fail in the middle of searches; a table tells what was lost: nothing.
# All of it, about 40 minutes on 2 cores; `make test` has the quicker half.
test-faults: install
	$(BIN)/python -m pytest -m fault

clean:
	rm -rf $(VENV) data/demo
