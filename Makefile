# Each target brings what it needs, on a machine that has Python 3.11 or later, make and the package index.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Bytecode of every file would swell the installation: only what runs is compiled, by letting the doctor run once.
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile

# `make test TORCH=2.13.0` installs PyTorch too and runs what needs it. It is no requirement: where the package index has no
# CPU build of it, it brings several GB of CUDA.
TORCH ?=

# Exact versions with hashes, for every platform and Python we support; no index is named.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
  --custom-compile-command "make lock" --constraint requirements/constraints.in

WARM := home=$$(mktemp -d) && env -u PYTHONDONTWRITEBYTECODE DISCERN_HOME=$$home $(BIN)/discern doctor >/dev/null; rm -rf $$home

# Digests, signatures and names of tests are no secrets, nor are the words that stand in for one in tests and examples.
NO_SECRETS := --exclude-files '^requirements/|^docs/reference/|/builtin/.*/(signature\.json|detector\.yaml)$$' \
  --exclude-secrets '^(dsc_|dss_|password|p|word|hidden-word|s3cr3t|several (other )?words.*|secrets/\S+\.secret|pass-word(-9)?|word-of-pass|\S+-(that|of)-nobody(-sees)?|.*-not-a-real-secret|tests/\S+::test_\w+)$$'

# Known vulnerabilities of what is locked, where the database of them can be asked.
ADVISORIES := api.osv.dev
REACHES_ADVISORIES := $(BIN)/python -c 'import socket; socket.create_connection(("$(ADVISORIES)", 443), 5)'
AUDIT := $(BIN)/pip-audit --vulnerability-service osv --disable-pip --require-hashes --requirement requirements/runtime.txt

.PHONY: up test unit lint types docs dashboards demo-monitoring sbom bench bench-peers lock clean
.DEFAULT_GOAL := test

up: $(VENV)/.runtime
	$(BIN)/discern up

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2

unit: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 -m "not system"

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook $(NO_SECRETS)
	@if $(REACHES_ADVISORIES) 2>/dev/null; then $(AUDIT); else echo "pip-audit is skipped: $(ADVISORIES) is not reached."; fi

# What is installed, as CycloneDX, for whoever has to keep an inventory.
sbom: $(VENV)/.test
	mkdir -p dist
	$(BIN)/cyclonedx-py requirements requirements/runtime.txt --output-reproducible --output-file dist/sbom.json

types: $(VENV)/.test
	$(BIN)/mypy

docs: $(VENV)/.test
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict --quiet

# Grafana's dashboards and the series that Prometheus records for them.
dashboards: $(VENV)/.test
	$(BIN)/python -m deploy.monitoring.dashboards

# A stream of payments that shifts, and what comes of it: drift, alert, notice, report. Two minutes, in a folder of its own.
demo-monitoring: $(VENV)/.test
	$(BIN)/python -m demos.monitoring

# `make bench FACES=folder` measures the cascade on a folder with `authentic` and `synthetic` pictures. Load comes from `wrk`
# where it is installed. `make bench-peers` measures the other serving frameworks too, in environments of their own (2 GB).
FACES ?=

bench: $(VENV)/.test
	$(BIN)/python -m bench.run --write $(if $(FACES),--faces $(FACES))

bench-peers: $(VENV)/.test
	$(BIN)/python -m bench.run --write --peers $(if $(FACES),--faces $(FACES))

lock: $(VENV)/.test
	$(PIP) uv
	$(COMPILE) --extra server --extra bulk --output-file requirements/runtime.txt pyproject.toml
	$(COMPILE) --all-extras --constraint requirements/runtime.txt --output-file requirements/development.txt pyproject.toml

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache site dist

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Discern needs Python 3.11 or later; name one: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements/runtime.txt
	$(PIP) --no-deps -e .
	@$(WARM)
	touch $@

$(VENV)/.test: requirements/development.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements/development.txt
	$(PIP) --no-deps -e .
	$(if $(TORCH),$(PIP) torch==$(TORCH))
	@$(WARM)
	touch $@ $(VENV)/.runtime
