.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

help:      ## Show the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed      ## Install what serving needs into .venv

run: install      ## Prepare and serve on HOST:PORT (127.0.0.1:8000) until Ctrl-C or SIGTERM
	@exec $(BIN)/gunicorn -c gunicorn.conf.py "app:serving()"

test: .venv/.installed-dev      ## Run the tests (Postgres and Valkey come from wheels)
	$(BIN)/python -m pytest -n auto --dist worksteal

check: .venv/.installed-dev      ## Everything a change must pass: format, lint, types, docs, tests, coverage
	$(BIN)/ruff format --check . && $(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/flask --app app config docs --check
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report
	$(BIN)/coverage report --skip-covered -m --fail-under=100 --include="$(EXACT)"

fix: .venv/.installed-dev      ## Format and apply safe fixes
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

golden-update: .venv/.installed-dev      ## Rewrite what recorded streams must give, then show the difference
	GOLDEN_UPDATE=1 $(BIN)/python -m pytest -q tests/test_golden.py; git diff --stat tests/golden

docs: .venv/.installed      ## Write the pages of docs/ that come from the code
	$(BIN)/flask --app app config docs

clients: .venv/.installed-dev      ## Real clients of nine kinds in front of every wire (needs Node; installs them in ~/.cache)
	$(BIN)/python -m tests.clients.run

pictures: .venv/.installed-dev      ## Pictures of every page in every size and colour, in TO=folder (needs Chromium)
	$(BIN)/python -m tests.pictures --to $(or $(TO),instance/pictures)

bench: .venv/.installed-dev      ## Measure CPU per call, rates and delays against a fake upstream (needs a C compiler)
	$(BIN)/python bench/bench.py --database sqlite,postgres

soak: .venv/.installed-dev      ## The long runs: races, hosts, kills and faults at full size, and SOAK_MINUTES (30) of mixed life
	TOLLHOUSE_SOAK=1 SOAK_MINUTES=$(or $(SOAK_MINUTES),30) $(BIN)/python -m pytest -s tests/races tests/hosts tests/degraded tests/deploy/test_trouble.py tests/admin/test_large.py tests/start/test_migrating.py --timeout=7200

pooled: .venv/.installed-dev      ## The tests of Postgres, all through pgbouncer in transaction mode (needs it installed)
	TOLLHOUSE_PGBOUNCER=1 $(BIN)/python -m pytest tests/books tests/races tests/routes -n auto -k postgres --deselect $(PREPARED)

fuzz: .venv/.installed-dev      ## 100,000 random cuts of streams, hostile bodies, and requests made up from openapi.json
	TOLLHOUSE_FUZZ=100000 $(BIN)/python -m pytest tests/fuzz --timeout=3600

contract: .venv/.installed-dev      ## Check against vendors' documents, and run openai's own tests (npm, network)
	$(BIN)/python -m tests.contract $(CONTRACT)

deploy-check: .venv/.installed-dev      ## Lint Dockerfile, compose, Kubernetes, scripts and dashboard (tools in ~/.cache, network)
	$(BIN)/python -m tests.deploy.checks

lock: .venv/.installed-dev      ## Pin the dependencies of the *.in files again
	$(BIN)/pip-compile -q $(LOCK) --output-file=requirements.txt requirements.in
	$(BIN)/pip-compile -q $(LOCK) --output-file=requirements-otel.txt requirements-otel.in
	$(BIN)/pip-compile -q $(LOCK) --allow-unsafe --output-file=requirements-dev.txt requirements-dev.in
	for part in bench deploy; do \
	  $(BIN)/pip-compile -q $(LOCK) --allow-unsafe --output-file=$$part/requirements.txt $$part/requirements.in || exit 1; done
	sed -i '/^-/d' requirements.txt requirements-otel.txt requirements-dev.txt bench/requirements.txt deploy/requirements.txt  # options of the machine that locked, such as its package index

# What must be covered line by line: money, keys, and what goes over the wire.
EXACT := services/accounting.py,services/leases.py,services/shares.py,services/books/*,services/pricing.py,services/keys.py,services/settlement.py,services/providers/*,services/dialects/*
PREPARED := "tests/books/test_rare.py::test_numbers_of_any_size_share_a_prepared_statement[postgres]"
LOCK := --generate-hashes --strip-extras --no-header

.venv/.installed: requirements.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

.venv/.installed-dev: requirements-dev.txt requirements.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@ .venv/.installed

.PHONY: help install run test check fix docs pictures bench soak pooled fuzz contract clients deploy-check lock golden-update
