# `make help` lists the verbs. Everything installs itself; only Python and Node.js must be there.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.requirements-stamp
# Workers of the quick suite.
JOBS ?= 2
# More for pytest, such as: make check ARGS='-k cron'
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where it is set (in many images), every process compiles all modules anew: two thirds of what collecting tests takes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help venv node demo lint check cluster sdk test slow nightly openapi bench lock clean

help: ## Show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

venv: $(STAMP) ## Make .venv with everything locked in requirements/dev.txt

# A venv is made anew where Python is gone or is another; installing again follows each change of what it is made from.
$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "make: Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1 || true). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || \
	  { $(PYTHON) -m venv --clear $(VENV) || \
	    { echo "make: $(PYTHON) -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; }
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# The SDK tests and the benchmarks run the TypeScript SDK; they install it themselves.
node:
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || \
	  { echo "make: Node.js 20 or later is needed (https://nodejs.org); found: $$(node --version 2>/dev/null || echo none)" >&2; exit 1; }
	@command -v npm >/dev/null || { echo "make: npm is needed; it comes with Node.js" >&2; exit 1; }

demo: $(STAMP) ## Start an app and a dev server, and watch an order go through its steps
	$(BIN)/python examples/demo.py

lint: $(STAMP) ## Style, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@test ! -e operator/__init__.py || \
	  { echo "make: operator/__init__.py must not exist: a package called operator hides the standard library's" >&2; exit 1; }

check: lint ## Lint and the quick tests
	$(BIN)/pytest -m "not sdk and not cluster and not slow and not nightly" -n $(JOBS) $(ARGS)

cluster: $(STAMP)
	$(BIN)/pytest -m "cluster and not slow and not nightly" -n $(JOBS) --dist loadscope $(ARGS)

sdk: $(STAMP) node
	$(BIN)/pytest -m "sdk and not slow and not nightly" -n $(JOBS) --dist loadgroup $(ARGS)

test: check cluster sdk ## Everything that a change must pass: check, the operator on a Kubernetes API, real SDKs in real servers

slow: $(STAMP) node ## Crashes, long properties, and a smoke of every benchmark
	$(BIN)/pytest -m "slow and not nightly" $(ARGS)
	$(BIN)/python -m benchmarks --quick

nightly: $(STAMP) node ## The large numbers
	$(BIN)/pytest -m nightly $(ARGS)

openapi: $(STAMP) ## Write docs/reference/openapi.json anew
	$(BIN)/python -m innkeeper_gateway.openapi > docs/reference/openapi.json.new
	mv docs/reference/openapi.json.new docs/reference/openapi.json

bench: $(STAMP) node ## All benchmarks, each figure the median of three
	$(BIN)/python -m benchmarks

# Every lock without the addresses of registries.
COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --no-emit-find-links
IMAGE := --universal --python-version 3.11 -c requirements/dev.txt

lock: $(STAMP) ## Resolve the requirements anew, with hashes
	$(COMPILE) --universal --python-version 3.11 --upgrade --extra dev --group test pyproject.toml -o requirements/dev.txt
	$(COMPILE) $(IMAGE) --extra gateway --extra executor --extra operator --extra export pyproject.toml -o requirements/image.txt
	$(COMPILE) $(IMAGE) requirements/image-build.in -o requirements/image-build.txt
	$(COMPILE) --python-version 3.11 --upgrade requirements/sdk-py04.in -o requirements/sdk-py04.txt

clean: ## Remove what the other verbs made
	rm -rf $(VENV) .cache .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache dist
