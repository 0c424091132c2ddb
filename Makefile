# Two commands set a fresh machine up: `make try` and `make test`. `make help` lists the rest.
#
# One virtual environment, .venv, serves all; stamps in it say what has been installed.

SHELL := /bin/sh
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
NOX := $(BIN)/nox --no-venv --non-interactive
TRY := import os; print(os.getpid(), os.listdir("/proc")[:3])

.DEFAULT_GOAL := help
.PHONY: help try dev packages test soak bench conformance vm lint docs proto clean

help: ## List these commands
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

try: $(VENV)/.try ## Install Sampan here and run a container on this machine's own programs
	$(BIN)/sampan run --rm host: -- python3 -c '$(TRY)'

test: dev packages ## Install what the tests need, check and test everything (under 20 minutes)
	@mkdir -p .cache && rm -f .cache/summary
	@SAMPAN_TEST_SUMMARY=$(CURDIR)/.cache/summary $(NOX); code=$$?; cat .cache/summary; exit $$code

soak: dev packages ## Random, kill and load tests at their full size (hours)
	SAMPAN_SOAK=1 $(NOX) -s soak

conformance: dev packages ## Only the tests against specifications and the original programs
	$(NOX) -s conformance

bench: dev packages ## Measure beside runc and containerd; prints a table, writes bench/results.json
	$(BIN)/python -m bench

vm: dev packages ## The tests that need cgroup v2, systemd or CRIU, in a virtual machine
	$(NOX) -s vm

docs: dev ## The manual, as a site in .cache/site
	$(NOX) -s docs

lint: dev ## Style, types and layers
	$(NOX) -s lint types imports

proto: dev ## Generate src/sampan/api anew from proto/
	$(BIN)/python proto/generate.py

dev: $(VENV)/.dev ## The environment with all tools, for working on Sampan

packages: ## Debian packages that tests compare with (root and apt-get; nothing is started)
	.ci/packages

clean: ## Remove the environment and caches
	rm -rf $(VENV) .nox .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/bin/pip:
	.ci/venv $(PYTHON) $(VENV)

$(VENV)/.try: $(VENV)/bin/pip pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	$(BIN)/python -m compileall -q src/sampan
	touch $@

$(VENV)/.dev: $(VENV)/bin/pip pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m compileall -q src/sampan
	touch $@ $(VENV)/.try
