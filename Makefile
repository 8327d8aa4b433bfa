# What a person does with this tree; `make help` lists it. Nothing need be installed beforehand but
# make and a CPython from 3.11 to 3.14: the environment lives in .venv, and nothing else is touched.

VENV := .venv
BIN := $(VENV)/bin
# Those that have any Python: mypy takes an empty folder for a mistake.
PYTHON_DIRS = $(shell find greenpump bench examples tests -name '*.py' 2>/dev/null | cut -d/ -f1 | sort -u)

PORT ?= 8000
# Not ?=: some shells export HOST as this machine's name, and the chat must not listen beyond
# this machine unless someone says so.
HOST = 127.0.0.1
# The chat's: memory, sqlite:FILE or redis://HOST:PORT/DB
STORE ?= sqlite:chat.db
# Passed on to pytest, or to each benchmark: make test ARGS='tests/hub -k timers',
# make bench ARGS='--repeats 3'
ARGS =

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: help test test-freethreaded lint format chat bench bench-quick clean

help:  ## list what can be made
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

test: lint  ## lint, check the types and run the tests
	@$(BIN)/python -m pytest $(ARGS)

# Experimental. The interpreter is built once, into a cache outside the tree; see the script. The tree
# is run as it lies: PYTHONPATH serves the programs that tests start elsewhere.
test-freethreaded:  ## run the tests without the GIL, on a CPython built for it (once, 5 minutes)
	@python=$$(bash .ci/freethreaded) && \
	PYTHON_GIL=0 PYTHONPATH='$(CURDIR)' $$python -m pytest $(ARGS)

lint: $(VENV)/.dev  ## ruff, its format and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check . || { echo "run: make format"; exit 1; }
	@$(BIN)/mypy --strict $(PYTHON_DIRS)

format: $(VENV)/.dev  ## format the code and sort its imports
	@$(BIN)/ruff check --select I --fix --quiet .
	@$(BIN)/ruff format .

chat: $(VENV)/.dev  ## run the bundled chat: make chat PORT=8000 HOST=127.0.0.1 STORE=redis://localhost
	@exec $(BIN)/python -m examples.chat --host $(HOST) --port $(PORT) --store $(STORE)

# Every file is a workload. One that failed fails the whole, but only after all have run.
WORKLOADS = $(basename $(notdir $(wildcard bench/workloads/[a-z]*.py)))
# Those that measure a part of their cases unless they are told to measure all.
IN_FULL = echo memory ring

bench: $(VENV)/.bench  ## measure greenpump beside its peers, into bench/results and README.md (hours)
	@failed=; for workload in $(WORKLOADS); do \
		case " $(IN_FULL) " in *" $$workload "*) full=--full;; *) full=;; esac; \
		$(BIN)/python -m bench $$workload $$full $(ARGS) || failed="$$failed $$workload"; done; \
	$(BIN)/python -m bench plots && $(BIN)/python -m bench readme && \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

bench-quick: $(VENV)/.bench  ## under a minute: fail when a main ratio is worse than bench/baseline.json
	@$(BIN)/python -m bench quick

clean:  ## remove the environment and all that tools left behind
	rm -rf $(VENV) bench/.build .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of extras: pip is asked only when pyproject.toml has changed since.
$(VENV)/.dev: EXTRAS := dev,chat
$(VENV)/.bench: EXTRAS := dev,chat,bench
$(VENV)/.dev $(VENV)/.bench: pyproject.toml .ci/venv
	@sh .ci/venv $(VENV) $(EXTRAS)
	@touch $@
