# Bare `make` lists the commands. Each does its own set-up: Python 3.11 (or later), make, and for the
# broker tests a JDK with Maven are all that is needed.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(VENV)/bin
CACHE := .cache
STAMP := $(VENV)/.installed
JOBS ?= 2

.PHONY: help setup demo test test-slow mutations fuzz chaos lint docs fmt bench ci manifests lock up clean

help:  ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## Make the virtual environment and install what the lock file pins

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: $(STAMP)  ## Simulate, train, run the worker under attack, show alerts (about a minute)
	$(BIN)/fraudstream demo $(ARGS)

test: $(STAMP)  ## All tests; starts a real Kafka and an S3-compatible server by itself (ARGS='-k name' passes options on)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

test-slow: $(STAMP)  ## The property tests in their long run
	FRAUDSTREAM_HYPOTHESIS=slow $(BIN)/python -m pytest tests/features tests/test_decode.py $(ARGS)

mutations: $(STAMP)  ## Damage every file of a model in hundreds of ways beside a serving worker
	$(BIN)/python -m benchmarks.mutations --json

fuzz: $(STAMP)  ## Bytes that nobody meant, guided by coverage: ten minutes for each parser
	$(BIN)/python -m pip install --quiet atheris==3.0.0
	for target in decode schemas config where bundle snapshot; do \
	  NUMBA_CACHE_DIR=$(CACHE)/fuzz PYTHONDONTWRITEBYTECODE=1 \
	  $(BIN)/python -m tests.fuzz $$target --minutes 10 2>&1 | tail -1; done  # what is instrumented is not to stay

chaos: $(STAMP)  ## Workers killed, frozen, fenced under load, a broker that goes down; about 15 minutes
	$(BIN)/python -m tests.kafka.chaos --faults 130 $(ARGS)

lint: $(STAMP)  ## ruff, mypy --strict, the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)  ## The pages of docs/ as a site in site/; a link that leads nowhere fails it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --site-dir site

fmt: $(STAMP)  ## Format and mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## Every benchmark beside its baseline; JSON lines at the end
	$(BIN)/python -m benchmarks.simulation --json
	$(BIN)/python -m benchmarks.features --json
	$(BIN)/python -m benchmarks.scoring --json
	$(BIN)/python -m benchmarks.explain --json
	$(BIN)/python -m benchmarks.worker --json
	$(BIN)/python -m benchmarks.peers --json
	$(BIN)/python -m benchmarks.formats --json
	$(BIN)/python -m benchmarks.promotion --json

ci: test lint docs manifests  ## What CI runs

manifests: $(CACHE)/manifests  ## Check the Kubernetes base against the API's schemas (needs kubectl)
	kubectl kustomize deploy/kubernetes >$(CACHE)/kubernetes.yaml
	$(CACHE)/manifests/bin/kubernetes-validate --strict --quiet $(CACHE)/kubernetes.yaml

$(CACHE)/manifests:  # apart: its schemas take 108 MB
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet kubernetes-validate==1.37.0 || { rm -rf $@; exit 1; }

lock:  ## Pin every dependency with its hashes (needs uv)
	uv pip compile pyproject.toml --all-extras --python-version 3.11 --universal \
	  --generate-hashes --no-header --no-annotate --output-file requirements.lock

up:  ## Kafka, topics and a worker in containers (needs Docker)
	@test -e models/card_payment/aliases.json || { echo "make up: there is no model in ./models yet; \
	README.md, \"By hand\", trains one with two commands" >&2; exit 2; }
	docker compose up --build

clean:  ## Remove the virtual environment and the caches
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
