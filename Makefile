.DEFAULT_GOAL := help
.PHONY: help setup demo demo-cluster test check bench sim chaos clean

RUNTIME := .venv/.ready-runtime
TESTING := .venv/.ready-test
LOCKED := pyproject.toml uv.lock tools/setup
BIN := .venv/bin
DEMO_NODES := n1=10.99.0.1/24 n2=10.99.0.2/24 n3=10.99.0.3/24

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' Makefile

$(RUNTIME): $(LOCKED)
	@tools/setup runtime
	@touch $@

$(TESTING): $(LOCKED)
	@tools/setup test
	@touch $@ $(RUNTIME)

setup: $(TESTING) ## make .venv and install what developing and testing need

demo: $(RUNTIME) ## show failovers of deploy/examples/demo.yaml on a LAN inside this machine; ARGS="--help" teaches
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT HUP INT TERM && \
	(umask 077; tr -dc A-Za-z0-9 </dev/urandom | head -c 19 >"$$folder/demo.pass") && \
	$(BIN)/kubectl-carp render --quiet -f deploy/examples/demo.yaml $(DEMO_NODES:%=--node %) \
		--password-file "$$folder/{vip}.pass" -o "$$folder" && \
	$(BIN)/carp demo --members "$$folder" $(ARGS)

demo-cluster: $(TESTING) ## the same on a real Kubernetes, which goes on until Ctrl-C; ARGS="--end" ends it
	@tools/setup nodes
	@PYTHONPATH=tests/support $(BIN)/python tools/demo_cluster.py $(ARGS)

test: check ## check, then every test; what a test needs and lacks is a failure; ARGS="-k name" narrows
	@tools/setup nodes
	@echo "control plane: $$(tools/assets)"
	@echo "pytest"
	@REQUIRE_ALL=1 $(BIN)/pytest $(ARGS)

check: $(TESTING) ## lint, format, types, import contracts and the repository's own rules
	@echo "ruff check" && $(BIN)/ruff check --quiet
	@echo "ruff format --check" && $(BIN)/ruff format --check --quiet
	@echo "mypy" && $(BIN)/mypy --no-error-summary
	@echo "lint-imports" && $(BIN)/lint-imports --no-logo
	@echo "pytest tests/repo" && $(BIN)/pytest --quiet tests/repo

bench: $(TESTING) ## compare with ucarp and keepalived, side by side; ARGS="--help" lists the parts
	@$(BIN)/python tests/bench/run.py $(ARGS)

sim: $(TESTING) ## simulate clusters on virtual time; ARGS="--help" lists the options
	@$(BIN)/python tests/properties/run.py $(ARGS)

chaos: $(TESTING) ## hurt a real cluster in every way for minutes; ARGS="--help" lists the options
	@$(BIN)/python tests/chaos/run.py $(ARGS)

clean: ## remove .venv, caches and build output
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find carp operator tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
