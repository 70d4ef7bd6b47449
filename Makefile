# `make demo` and `make test` need nothing but python3 and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A process a core, at most four: each holds a torch of its own.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4

.PHONY: help demo test test-long test-all lint docs bench clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,docs]'
	touch $@

demo: $(STAMP)  ## fine-tune a small model, evaluate, publish, load back (a few minutes)
	@if [ -n "$$HF_TOKEN" ]; then $(BIN)/zoo demo --out runs/demo; \
	else $(BIN)/python -m tests.hub -- $(BIN)/zoo demo --out runs/demo; fi

# A file's tests in one process: what they share is made once. The order stays, which ends with files of short tests.
test: $(STAMP)  ## the tests
	$(PYTEST) --dist loadfile --no-loadscope-reorder

test-long: $(STAMP)  ## the long tests that CI makes besides
	$(PYTEST) -m ci_long

test-all: $(STAMP)  ## the tests, long ones too
	$(PYTEST) -m ''

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright

docs: $(STAMP)  ## the documentation site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(STAMP)  ## measure everything side by side, into docs/benchmarks.md
	$(BIN)/python -m benchmarks

clean:  ## remove what the targets above made
	rm -rf $(VENV) site build dist runs *.egg-info
