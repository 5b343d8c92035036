# One virtual environment holds everything; it is made again where pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench bench-quick clean

demo: $(VENV)/.installed-all
	$(BIN)/sam-refine demo

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-bench
	PYTHONPATH=benchmarks $(BIN)/python -m sam_refine_benchmarks

bench-quick: $(VENV)/.installed-bench
	PYTHONPATH=benchmarks $(BIN)/python -m sam_refine_benchmarks --quick

$(VENV)/.installed-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --progress-bar on -c constraints.txt -e ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build dist
