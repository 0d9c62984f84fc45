# Everything a person needs; `make demo` and `make test` work on a fresh clone with Python 3.11+.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
INSTALLED := $(VENV)/.installed
# A file's tests stay together: they share what its fixtures have trained.
PYTEST := $(BIN)/pytest --numprocesses $(JOBS) --dist loadfile

.PHONY: demo test check lint faults up bench bench-store clean help

demo: $(INSTALLED)  ## a small comparison: plain LoRA, the transfer and a control, eight seeds each
	$(BIN)/paraknow compare configs/demo_compare.yaml

test: lint  ## everything that CI runs
	$(PYTEST)

check: lint  ## quick: style, types, arrows, unit tests
	$(PYTEST) tests/unit

lint: $(VENV)/.dev  ## style, types and arrows alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

faults: $(VENV)/.dev  ## the faults alone, and the table of what was injected; some need root
	$(BIN)/pytest tests/faults tests/flow/test_server_lost.py --figures

up: $(INSTALLED)  ## a server with UI, a worker and the deployments on this machine, until Ctrl-C
	$(BIN)/paraknow up

bench: $(VENV)/.dev  ## core steps against the public algorithm; prints ratios
	$(BIN)/python -m benchmarks.core_steps

bench-store: $(VENV)/.dev  ## publishing 2 GB and finding one of 100,000; prints ratios
	$(BIN)/python -m benchmarks.store_speed

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e . -c constraints.txt
	@touch $@

$(VENV)/.dev: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@

clean:  ## remove the environment; the artifact store is kept
	rm -rf $(VENV)

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
