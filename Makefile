# One virtual environment holds everything; it is made again where pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
# Not $(VENV)/bin/pytest and its like: pip's launchers run what a path has in `$$(...)`.
RUN := $(VENV)/bin/python -m
# What `make test` and `make unit` give to pytest: make test ARGS="tests/unit/sam_refine -k merge"
ARGS ?=
PYTHONS ?= python3.10 python3.12
WORKERS := --numprocesses 2 --dist loadgroup --no-loadscope-reorder
CLIENT_TEST_TOOLS := hypothesis opentelemetry-api pytest pytest-timeout pytest-xdist trustme

MAKEFLAGS += --jobs=2
.DEFAULT_GOAL := help
.PHONY: help demo test pytest unit pythons lint format bench bench-quick bench-quality bench-bulk ablation soak gpu-check gpu-place clean

help:  ## This list
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-all  ## Export MobileSAM, start Triton, refine a photo, stop
	$(RUN) sam_refine_cli demo

# Beside each other: tests of servers wait for much of their time. A worker for each of two cores:
# tritonserver aborts where its stubs get no time for seconds.
test: lint pytest  ## Lint, all tests; ARGS="..." goes to pytest, "--cov" among it

pytest: $(VENV)/.installed-test
	$(RUN) pytest $(WORKERS) $(ARGS)

unit: $(VENV)/.installed-test  ## Tests that need neither Triton nor an export, in a minute
	$(RUN) pytest $(WORKERS) -m "not slow and not triton" tests/unit tests/contract $(ARGS)

# Not torch's tests: constraints.txt has a CPU build for Python 3.11 only.
pythons:  ## The client's tests on other Pythons; PYTHONS="python3.10 python3.12"
	for python in $(PYTHONS); do ( set -e; \
		name=build/pythons/$$(basename $$python); pip="$$name/bin/python -m pip --disable-pip-version-check"; \
		$$python -m venv $$name; \
		$$pip install --only-binary=:all: ".[local,coco,cli,ui,quality]" $(CLIENT_TEST_TOOLS); \
		$$pip install --only-binary=:all: --dry-run --quiet ".[all]"; \
		$$name/bin/python -m pytest tests/unit/sam_refine_client tests/contract/test_imports.py $(ARGS) \
	) || exit 1; done

lint: $(VENV)/.installed-test  ## ruff, mypy, import contracts; rewrites nothing
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(VENV)/bin/python -c "from importlinter.cli import lint_imports_command as lint; lint()"

format: $(VENV)/.installed-test  ## Rewrite what ruff can mend
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

bench: $(VENV)/.installed-bench  ## The whole benchmark -> benchmarks/results/
	PYTHONPATH=benchmarks $(RUN) sam_refine_benchmarks

bench-quick: $(VENV)/.installed-bench  ## A few minutes of it -> build/benchmarks/results/
	PYTHONPATH=benchmarks $(RUN) sam_refine_benchmarks --quick

bench-quality: $(VENV)/.installed-bench  ## Is the map better? DATA=data_sets.json -> benchmarks/results/
	PYTHONPATH=benchmarks $(RUN) sam_refine_benchmarks.quality $(DATA)

bench-bulk: $(VENV)/.installed-bench  ## sam-refine bulk against its server's best rate, and its plan
	$(MAKE) --no-print-directory build/model_repository/model_card.json
	PYTHONPATH=benchmarks $(RUN) sam_refine_benchmarks.bulk $(ARGS)

ablation: $(VENV)/.installed-bench  ## What each number is worth that a judge is shown; DATA=data_sets.json
	PYTHONPATH=benchmarks $(RUN) sam_refine_benchmarks.quality.ablation $(DATA) $(ARGS)

soak: $(VENV)/.installed-bench  ## Kill a server under load; ARGS="--minutes 10"
	$(MAKE) --no-print-directory build/model_repository/model_card.json
	PYTHONPATH=benchmarks $(RUN) sam_refine_benchmarks.soak $(ARGS)

gpu-check: $(VENV)/.installed-bench $(VENV)-gpu/.installed  ## On a machine with a GPU: its answers against the CPU's
	PYTHONPATH=benchmarks $(RUN) sam_refine_benchmarks.gpu check --python $(VENV)-gpu/bin/python $(ARGS)

gpu-place: $(VENV)/.installed-bench $(VENV)-gpu/.installed build/model_repository/model_card.json  ## Which nodes have CUDA kernels; needs no GPU
	PYTHONPATH=benchmarks $(RUN) sam_refine_benchmarks.gpu place --python $(VENV)-gpu/bin/python \
		build/model_repository/sam_image_encoder/1/model.onnx \
		build/model_repository/sam_mask_decoder/1/model.onnx

build/model_repository/model_card.json:
	$(RUN) sam_refine_cli export

clean:  ## Remove the environment and all that was built
	rm -rf $(VENV) $(VENV)-gpu build dist .coverage

$(VENV)/.installed-%: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(RUN) pip install --disable-pip-version-check --progress-bar on -c constraints.txt -e ".[$*]"
	touch $@

# Apart from the other: onnxruntime and onnxruntime-gpu overwrite each other.
$(VENV)-gpu/.installed: pyproject.toml constraints.txt
	test -x $(VENV)-gpu/bin/python || $(PYTHON) -m venv $(VENV)-gpu
	$(VENV)-gpu/bin/python -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt -e ".[gpu,cli]"
	touch $@
