# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-long check docs pictures clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo,fast,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/streamae demo $(DEMO_FLAGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-long: $(STAMP)
	$(BIN)/python -m pytest -m long --timeout 7200

check: $(STAMP)
	$(BIN)/ruff check streamae tests
	$(BIN)/ruff format --check streamae tests
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest tests/test_tidy.py tests/test_docs.py

docs: $(STAMP)
	$(BIN)/python deploy/docs/generate.py

pictures: $(STAMP)
	$(BIN)/pip install --quiet 'matplotlib>=3.8'
	$(BIN)/python deploy/docs/pictures.py

clean:
	rm -rf $(VENV) build dist *.egg-info
