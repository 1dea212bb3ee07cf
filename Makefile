# Every verb works on a fresh clone: it sets up .venv first if that is missing or older than its inputs.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# A machine that forbids bytecode would compile torch anew in every process: 5 seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo demo-1m browser test coverage check bench docs
setup: $(READY)

$(READY): pyproject.toml constraints.txt hatch_build.py $(wildcard $(foreach kind,cpp h cu cuh,octavo/kernels/*/*.$(kind)))
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]" && touch $@

demo: setup
	$(BIN)/python examples/demo.py

demo-1m: setup
	$(BIN)/python examples/demo.py --model octavo-xs --tokens 1M

# A Chromium for the tests of the page, kept in .data/browser; without one they are skipped, and this says so.
browser: setup
	$(BIN)/python -m tests.support.chromium

test: setup browser
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

# Not part of `make test`: tracing makes kernels in Triton's interpreter 2.5 times slower.
coverage: setup browser
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal --cov --cov-report term:skip-covered

check: setup
	$(BIN)/ruff check . && $(BIN)/pyright
	$(BIN)/lint-imports

bench: setup
	$(BIN)/octavo bench kernels
	$(BIN)/python -m benchmarks.vs_transformers
	$(BIN)/python -m benchmarks.read_lengths
	$(BIN)/octavo bench report

docs: setup
	$(BIN)/python docs/build.py
