# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

DATA ?= ../shared/data
SETS := nab skab smap_msl
RUNS ?= build/runs
DOCS := deploy/docs

.PHONY: demo tools test quick mutants test-long check coverage docs pictures tables clean

$(STAMP): pyproject.toml constraints.txt $(wildcard streamae/model/native/*.[ch])
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo,fast,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/streamae demo $(DEMO_FLAGS)

# Brings brokers, browsers and linters where it may, and says in one line what stays untested; in CI that is an error.
tools:
	$(PYTHON) tests/installed.py programs
	$(MAKE) --no-print-directory $(STAMP)
	$(BIN)/python tests/installed.py

test: tools
	$(BIN)/python -m pytest -n 3 --dist loadfile

# The core's tests without torch, in seconds of CPU: after every change of streamae/core.
quick: $(STAMP)
	$(BIN)/python -m pytest -n 0 --quick

# Plants 300 small mistakes in the core and fails where the quick tests notice fewer than 95 %. An hour of CPU; what is
# known from an earlier run is not tried again. MUTANTS='--count 50 --file threshold' for a part.
mutants: $(STAMP)
	nice -n 10 $(BIN)/python -m tests.mutants $(MUTANTS)

test-long: tools
	$(BIN)/python -m pytest -m long --timeout 7200

# Every branch of what keeps messages and alerts: store, alert, delivery, acknowledgement. Fails below 100 %.
KEPT := streamae/store/*,streamae/core/alert.py,streamae/core/maintenance.py,streamae/sinks/delivery.py,streamae/daemon/loop.py,streamae/ingest/inbox.py,streamae/ingest/mqtt.py
KEEPERS := store history/test_left_out.py history/test_messages.py daemon/test_page_past.py daemon/test_page_view.py daemon/test_loop.py daemon/test_conditions.py \
	daemon/test_recover.py sinks/test_delivery.py core/test_maintenance.py core/test_takeover.py core/test_scenarios.py sinks/test_gathering.py ingest

coverage: $(STAMP)
	mkdir -p build
	$(BIN)/coverage run --branch --data-file=build/coverage --include='$(KEPT)' -m pytest -n 0 \
		-k 'not Machine and not no_damaged_state and not kill_9 and not killed_by_a_message' $(KEEPERS:%=tests/%)
	$(BIN)/coverage report --data-file=build/coverage --show-missing --fail-under=100

check: $(STAMP)
	$(BIN)/ruff check streamae tests
	$(BIN)/ruff format --check streamae tests
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/vulture
	$(BIN)/python -m pytest tests/test_tidy.py tests/deploy/test_docs.py tests/deploy/test_guide.py

docs: $(STAMP)
	$(BIN)/python deploy/docs/generate.py

pictures: $(STAMP)
	$(BIN)/pip install --quiet 'matplotlib>=3.8'
	$(BIN)/python deploy/docs/pictures.py
	$(BIN)/python deploy/docs/screenshot.py

# The tables of deploy/docs between their markers; finished runs in $(RUNS) are not repeated. Takes hours.
tables: $(STAMP)
	mkdir -p $(RUNS)
	$(BIN)/pip install --quiet --editable '.[evaluate,bench]'
	$(BIN)/streamae evaluate $(SETS:%=$(DATA)/%) --seeds 0,1,2 --results $(RUNS)/quality.jsonl --update $(DOCS)/quality.md
	$(BIN)/python -m tests.bench.plant --seeds 0 1 2 3 --results $(RUNS)/plant.jsonl --update $(DOCS)/quality.md
	$(BIN)/python -m tests.bench.systems $(SETS:%=$(DATA)/%) --results $(RUNS)/systems.jsonl --update $(DOCS)/quality.md
	$(BIN)/python -m tests.bench.label_curve --update $(DOCS)/quality.md
	$(BIN)/streamae bench --update $(DOCS)/benchmarks.md
	$(BIN)/python -m tests.bench.peers --update $(DOCS)/benchmarks.md

clean:
	rm -rf $(VENV) build dist *.egg-info
