# Every target works on a fresh clone: it makes .venv and installs what it needs first. PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: demo test test-slow test-gpu lint format bench parity docs

# Train a small SwinV2 on real handwritten digits, evaluate it, name some digits; some minutes on a laptop.
demo: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/demo.sh

# Two processes of one thread each, since most tests are too small for two threads.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not gpu"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -m "slow and not gpu"

# On a machine with a GPU and PyTorch: no virtual environment, nothing installed.
test-gpu:
	PYTHONPATH=src $(PYTHON) -m pytest -q -m gpu -p no:cacheprovider tests/ops tests/model

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Images per second against timm, torchvision and transformers, side by side; wants an idle machine.
bench: $(STAMP)
	$(BIN)/python benchmarks/compare.py

# Logits against every library's own classes, for docs/parity.md.
parity: $(STAMP)
	$(BIN)/python scripts/parity.py

# Run the examples of the documentation.
docs: $(STAMP)
	$(BIN)/python -m pytest -q tests/test_docs.py

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "swinv2 needs Python 3.11 or newer: set PYTHON=python3.11, say.")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
