# Each target does its own set-up, a virtual environment in .venv; nothing outside this folder is changed.
#   make demo                       the main job; ARGS="--seed 3" passes on any option of `rapport demo`
#   make test | test-slow | test-all | lint | format
#   make docs                       the pages, in site/
# PYTHON    the interpreter that makes .venv (3.11 or newer)
# PIP_ARGS  passed on to pip; PyTorch's CPU build, several GB smaller than its default one, comes with
#           PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
# WORKERS   how many tests run side by side (2)

PYTHON ?= python3
PIP_ARGS ?=
ARGS ?=
WORKERS ?= 2

BIN := .venv/bin
STAMP := .venv/installed

.PHONY: help install demo test test-slow test-all lint format docs clean
.DEFAULT_GOAL := help

help:
	@sed -n '/^#/!q;s/^# //p' Makefile

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no '$(PYTHON)' here; install Python 3.11 or newer (Debian: sudo apt-get install python3-venv), or name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Rapport needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1); name a newer one: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments (it has no venv or no ensurepip); on Debian: sudo apt-get install python3-venv" >&2; exit 2; }
	@echo "Setting up .venv: the packages of constraints.txt are downloaded and installed, which takes some minutes the first time." >&2
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[dev,docs]'
	@touch $@

demo: install
	$(BIN)/rapport demo $(ARGS)

test: install
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not slow" $(ARGS)

test-slow: install
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m slow $(ARGS)

test-all: test test-slow

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "The pages start at site/index.html. To search them too: $(BIN)/python -m http.server --directory site"

clean:
	rm -rf .venv build site *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
