# Every target makes what it needs; `make` alone is what a change has to pass.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := test
.PHONY: help demo test contracts lint types docs docs-check bench reliability crash format clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: .venv/.core ## Ask the guide a question: no key, no server, no download after the install
	@$(BIN)/rag-app demo

test: lint types docs-check ## Lint, types, generated parts, then every test
	$(BIN)/python -m pytest -n 2

contracts: .venv/.dev ## Every store against 5,000 generated filters; keeps the results for the README
	RAG_APP_FILTERS=5000 RAG_APP_RECORD=1 $(BIN)/python -m pytest tests/contracts -n 2 --timeout 3000

lint: .venv/.dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev ## mypy --strict
	$(BIN)/mypy

docs: .venv/.dev ## Write the generated parts: schema, README tables
	$(BIN)/python scripts/write_docs.py

docs-check: .venv/.dev
	$(BIN)/python scripts/write_docs.py --check

reliability: .venv/.dev ## Whole what `make test` does in part: every fault, point, pair and sequence; hours
	RAG_APP_CRASH_KILLS=40 RAG_APP_ANSWERS=1500 RAG_APP_SCALE=100000 RAG_APP_FAULTS=all RAG_APP_FAILPOINTS=all \
	RAG_APP_STATE_MACHINE=all RAG_APP_PAIRS=all \
	$(BIN)/python -m pytest tests/reliability tests/test_swap_backends.py -n 2 --timeout 0

crash: .venv/.dev ## N kills of an ingest in each of STORES, beside SYSTEMS=langchain; goes on where it stopped
	$(BIN)/python scripts/crash.py --kills $(or $(N),1000) --stores "$(STORES)" --systems $(or $(SYSTEMS),rag_app) $(if $(RECORD),--record)

bench: .venv/.dev ## Benchmarks beside peers, as ratios
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/embedding_throughput.py
	$(BIN)/python benchmarks/store_cost.py
	$(BIN)/python benchmarks/ingest_scale.py

format: .venv/.dev ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment, indexes and caches
	rm -rf .venv .rag .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A plain venv, then a current pip: old ones cannot resolve the full set.
.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --upgrade "pip>=25.3"

.venv/.core: pyproject.toml constraints.txt | .venv/bin/python
	@test -e .venv/.dev || $(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@
