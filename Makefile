# One command each; every target makes its own virtual environment on a fresh machine.
# Another interpreter: make setup PYTHON=python3.12. Another place: make test VENV=/tmp/venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TABLE_STAMP := $(VENV)/.installed-table
# What notices that an extension is gone: all imports, help texts, commands, benchmarks, recipes.
SEAMS := -n auto --dist worksteal tests/test_architecture.py tests/test_extensions.py tests/apps/test_options.py \
	tests/apps/commands/test_demo.py tests/apps/commands/test_eval.py tests/evaluation/test_runner.py tests/training

.DEFAULT_GOAL := help
.PHONY: help setup demo table test without lint types check slow clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-7s %s\n", $$1, $$2}'

setup: $(STAMP)  ## create the virtual environment and install everything for work on the code

# The stamp makes a second call free, and a changed dependency list re-installs by itself.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,train,gaze]'
	touch $@

# lmms-eval asks for torchvision and for other versions of our libraries, and needs neither for what we call.
LMMS := datasets evaluate httpx jsonlines loguru openai openpyxl pytablewriter python-dotenv sacrebleu sqlitedict \
	tenacity tqdm-multiprocess zstandard

$(TABLE_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[eval,bulk]' $(LMMS)
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt lmms-eval
	touch $@

table: $(TABLE_STAMP)  ## evaluate the embedded model on every benchmark, on drawn scenes; writes table/
	$(BIN)/sa2va eval tiny --exported table/data --items 4 --output table

demo: $(STAMP)  ## show all of it: the embedded model chats, segments and tracks; writes demo/
	$(BIN)/sa2va demo --output demo

test: $(STAMP)  ## run the tests (without the slow ones), a process per core
	$(BIN)/python -m pytest -n auto --dist worksteal

without: $(STAMP)  ## delete the extensions in copies of the repository, and test what is left
	.ci/without $(BIN) "world gaze" -n auto --dist worksteal
	.ci/without $(BIN) world $(SEAMS) tests/gaze/test_predictor.py
	.ci/without $(BIN) gaze $(SEAMS)

slow: $(STAMP)  ## run the slow tests as well
	$(BIN)/python -m pytest -m "slow or not slow"

lint: $(STAMP)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## ty: type hints
	$(BIN)/ty check --python $(VENV)

check: lint types test  ## what CI runs: lint, types, tests

clean:  ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis dist build
