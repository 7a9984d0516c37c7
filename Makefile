# Everything a newcomer needs: make demo, make test, make lint. Each installs what it lacks.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
LINTED = ya_salt bench demo tests

.PHONY: demo test lint format proto bench chaos clean

demo: $(READY)
	$(BIN)/python demo/run.py

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

# The stories of tests/chaos, many more of them; STORIES=N says how many.
STORIES ?= 2000
chaos: $(READY)
	YA_SALT_TEST_STORIES=$(STORIES) $(BIN)/python -m pytest tests/chaos -q

lint: $(READY)
	$(BIN)/ruff check $(LINTED)
	$(BIN)/ruff format --check $(LINTED)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix $(LINTED)
	$(BIN)/ruff format $(LINTED)

proto: $(READY)
	$(BIN)/pip install --quiet '.[proto]'
	PYTHON=$(BIN)/python proto/generate.sh

bench: $(READY)
	$(BIN)/python -m bench

$(READY): setup.cfg pyproject.toml
	PYTHON=$(PYTHON) VENV=$(VENV) sh .ci/prepare
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
