# make demo: the paper's main job, small, on any machine.    make test: everything that must hold.
PYTHON ?= python3
BIN = .venv/bin

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

.PHONY: setup demo test lint bench clean
setup: .venv/installed

test: .venv/installed-dev
	$(BIN)/python -m pytest -q tests

lint: .venv/installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
