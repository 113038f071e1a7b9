# `make` lists what there is to do. Every target installs what it lacks into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
PORT ?= 9000
BUNDLE ?= bundles/sample
UNIFIED ?= bundles/unified
TYPED ?= bundles/typed
PERSONAL ?= bundles/personal
ALL ?= bundles/all
STORE ?= stores/sample
BIN := .venv/bin
PIP := $(BIN)/pip install -qq --disable-pip-version-check --constraint constraints.txt
PROTOS := $(wildcard protos/aisle/v1/*.proto)

.PHONY: help serve train test check lint stubs bench loadtest wheel client docs docs-serve docs-config clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/serve.stamp: pyproject.toml constraints.txt
	@test -d .venv || $(PYTHON) -m venv .venv
	@echo "installing Aisle into .venv (a few minutes the first time)"
	@$(PIP) --editable ".[train,minilm]"
	@touch $@

.venv/tune.stamp: pyproject.toml constraints.txt
	@test -d .venv || $(PYTHON) -m venv .venv
	@echo "installing Aisle and what trains text encoders into .venv (a few minutes the first time)"
	@$(PIP) --editable ".[tune,minilm]"
	@touch $@ .venv/serve.stamp

.venv/docs.stamp: pyproject.toml constraints.txt
	@test -d .venv || $(PYTHON) -m venv .venv
	@echo "installing Aisle and what builds its documentation into .venv (a few minutes the first time)"
	@$(PIP) --editable ".[docs]"
	@touch $@

.venv/dev.stamp: pyproject.toml constraints.txt
	@test -d .venv || $(PYTHON) -m venv .venv
	@echo "installing Aisle and its development tools into .venv (a few minutes the first time)"
	@$(PIP) --editable ".[dev]"
	@touch $@ .venv/serve.stamp .venv/tune.stamp .venv/docs.stamp

$(BUNDLE)/manifest.json: | .venv/serve.stamp
	$(BIN)/aisle build --sample 20000 --out $(BUNDLE)

$(STORE)/storefronts.parquet: | .venv/serve.stamp
	$(BIN)/aisle simulate --out $(STORE)

$(UNIFIED)/manifest.json: | .venv/serve.stamp $(STORE)/storefronts.parquet
	$(BIN)/aisle train unified --store $(STORE) --recipe starter --out $(UNIFIED)

$(TYPED)/manifest.json: | $(UNIFIED)/manifest.json
	$(BIN)/aisle train types --store $(STORE) --bundle $(UNIFIED) --out $(TYPED)

$(PERSONAL)/manifest.json: | $(TYPED)/manifest.json
	$(BIN)/aisle train ranker --store $(STORE) --bundle $(TYPED) --out $(PERSONAL)

serve: .venv/serve.stamp $(PERSONAL)/manifest.json  ## Serve a simulated shop on :9000 (the first time: simulates it, trains its models)
	@echo "these are the models that train in seconds; 'make train' trains all (larger ones, and a teacher for the ranker)"
	$(BIN)/aisle serve --bundle $(PERSONAL) --port $(PORT) --try "velvet sofa" --demo $(STORE)

train: .venv/tune.stamp $(STORE)/storefronts.parquet  ## Train all models on the simulated shop, and write a report on them (minutes)
	$(BIN)/aisle train all --store $(STORE) --out $(ALL)

# Two workers of one thread each: more threads than cores would spin for each other.
WORKERS ?= 2
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/pytest -q --numprocesses $(WORKERS) --dist

test: .venv/dev.stamp  ## Run the whole test suite
	$(PARALLEL) worksteal tests/unit tests/learning
	$(PARALLEL) loadfile tests/integration

check: lint  ## Lint, and run the unit tests
	$(PARALLEL) worksteal tests/unit

lint: .venv/dev.stamp  ## Check format, lint, types, import contracts, fresh stubs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory stubs OUT=.cache/stubs
	@for f in .cache/stubs/aisle/v1/*; do cmp --silent $$f protos/aisle/v1/$$(basename $$f) || \
		{ echo "protos/aisle/v1/$$(basename $$f) is stale: run 'make stubs' and commit"; exit 1; }; done

OUT ?= protos
stubs: .venv/dev.stamp  ## Generate the Python stubs from the .proto files
	@mkdir -p $(OUT)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos --python_out=$(OUT) --grpc_python_out=$(OUT) \
		--mypy_out=quiet:$(OUT) --mypy_grpc_out=quiet:$(OUT) $(PROTOS)

bench: .venv/dev.stamp $(BUNDLE)/manifest.json $(PERSONAL)/manifest.json  ## Measure: gateway, search, stages, index (minutes)
	$(BIN)/aisle bench --bundle $(BUNDLE) --personal $(PERSONAL)

loadtest: .venv/dev.stamp $(BUNDLE)/manifest.json  ## Load test: the highest rate, a sweep, Locust's users; report in reports/load
	$(BIN)/aisle load --bundle $(BUNDLE) --locust-users 32

wheel: .venv/dev.stamp  ## Build dist/aisle-*.whl
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

client: .venv/dev.stamp  ## Build dist/aisle_client-*.whl, the typed client alone
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist ./protos

docs: .venv/docs.stamp  ## Build the documentation into site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: .venv/docs.stamp  ## Serve the documentation on :8000, and follow edits
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

docs-config: .venv/serve.stamp  ## Write docs/aisle.toml anew, the configuration reference
	$(BIN)/aisle config > docs/aisle.toml

clean:  ## Remove caches and build output (keeps .venv and bundles)
	rm -rf .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build site
