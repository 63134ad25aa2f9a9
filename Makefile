# Everything starts from here: `make help`. Needs make, git and Python 3.11 or newer; Docker is used
# where it answers. What a target needs beyond that, it sets up by itself.

.DEFAULT_GOAL := help
UV_VERSION := 0.13.8
UV := .local/tools/bin/uv
BIN := .venv/bin
READY := .venv/.ready

# What Python has compiled is kept, whatever the caller's environment says: else each process of the
# tests, and each service that they start, would compile everything again.
unexport PYTHONDONTWRITEBYTECODE

# Tests of services wait for them most of the time: run more at once than there are cores.
WAITING := -n 6
# Unit tests compute. The plugin is of an e2e test, and takes long to load.
COMPUTING := -n logical --maxprocesses 4 -p no:schemathesis

# DOCKER=0 and DOCKER=1 decide for the tests' servers as they do for `up`.
ifeq ($(DOCKER),0)
export TWINLANE_TEST_SERVERS := local
else ifeq ($(DOCKER),1)
export TWINLANE_TEST_SERVERS := docker
endif

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  Settings, on the command line or in .env: DOCKER=0 or 1, API_PORT, FLOWER_PORT, HTTPBIN_PORT,"
	@echo "  IO_WORKERS, CPU_WORKERS. For example: make up CPU_WORKERS=2 API_PORT=8001"
	@echo "  CHAOS_SEED repeats the soak of a seed, CHAOS_SOAK_SECONDS says how long it takes."
	@echo "  BENCH_ONLY=1,5 measures these goals only, and writes to .local/benchmarks."

$(READY): uv.lock pyproject.toml $(wildcard services/*/pyproject.toml deploy/*/pyproject.toml) deploy/local/bootstrap
	@deploy/local/bootstrap $(UV_VERSION)
	@touch $@

.PHONY: up
up: $(READY) ## Start everything, run one real job, show where things are
	@$(BIN)/python -m local_stack up

.PHONY: run
run: $(READY) ## The same without Docker and in the foreground, with live logs; Ctrl-C stops it
	@$(BIN)/python -m local_stack run

.PHONY: down
down: $(READY) ## Stop everything and remove its data
	@$(BIN)/python -m local_stack down

.PHONY: logs
logs: $(READY) ## Follow the logs of what `up` has started
	@$(BIN)/python -m local_stack logs

.PHONY: test
test: export CHAOS_SOAK_SECONDS ?= 60
test: $(READY) ## Run the unit, integration and e2e tests, and a short soak
	$(BIN)/pytest $(WAITING) tests/chaos/test_soak.py tests/integration tests/e2e tests/unit

.PHONY: test-unit
test-unit: $(READY) ## Run the tests that need no server
	$(BIN)/pytest $(COMPUTING) tests/unit

.PHONY: test-integration
test-integration: $(READY) ## Run the tests against a real RabbitMQ and Redis
	$(BIN)/pytest $(WAITING) tests/integration

.PHONY: test-e2e
test-e2e: $(READY) ## Run the tests against a whole stack
	$(BIN)/pytest tests/e2e

.PHONY: chaos
chaos: $(READY) ## Break everything on purpose, and write docs/RELIABILITY.md
	$(BIN)/pytest tests/chaos --reliability docs/RELIABILITY.md

.PHONY: bench
bench: $(READY) ## Measure everything against its peers, and write docs/BENCHMARKS.md
	PYTHONPATH=tests $(BIN)/python -m benchmarks \
		$(if $(BENCH_ONLY),--only $(BENCH_ONLY)) $(if $(BENCH_AGAIN),--again)

# Checks run at the same time, and each shows what it has to say in one piece (GNU make from 4.0).
CHECKS := test-unit check-types check-format check-lint check-imports check-secrets
IN_ONE_PIECE := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.PHONY: check
check: $(READY) ## Check format, lint, types, imports, unit tests, secrets and known vulnerabilities
	@$(MAKE) --no-print-directory --jobs --keep-going $(IN_ONE_PIECE) $(CHECKS)
	@$(MAKE) --no-print-directory audit

.PHONY: check-format check-lint check-types check-imports check-secrets
check-format: $(READY)
	$(BIN)/ruff format --check
check-lint: $(READY)
	$(BIN)/ruff check
check-types: $(READY)
	$(BIN)/mypy
check-imports: $(READY)
	$(BIN)/lint-imports
check-secrets: $(READY)
	$(BIN)/python checks/no_secrets.py

.PHONY: audit
audit: $(READY) ## Ask for known vulnerabilities of the locked packages
	$(BIN)/python checks/advisories.py

.PHONY: format
format: $(READY) ## Format the code and fix what can be fixed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: lock
lock: $(UV) ## Bring uv.lock up to date with the pyproject.toml files
	$(UV) lock

$(UV):
	@deploy/local/bootstrap $(UV_VERSION)

.PHONY: clean
clean: ## Remove environments and caches (`make down` first)
	@if [ -e .local/stack ]; then echo "a stack is there: run make down first" >&2; exit 1; fi
	rm -rf .venv .local .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
