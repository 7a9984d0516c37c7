# Everything a newcomer needs: make demo, make test, make lint. Each installs what it lacks.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
SERVERS_READY = $(VENV)/.servers-ready
BENCH_READY = $(VENV)/.bench-ready
WITH_SERVERS = PATH="$(abspath $(VENV))/servers/usr/bin:$$PATH"
SALT_VENV ?= .venv-salt
SALT_READY = $(SALT_VENV)/.ready
LINTED = ya_salt devporto bench demo tests packaging docs _modules _states _beacons _grains

.PHONY: demo test test-core test-salt test-deb check-deb deb salt-matrix lint format docs-tables schemas docs pages pictures proto bench bench-gate chaos soak soak-gate clean

demo: $(READY)
	$(BIN)/python demo/run.py

test: test-core test-salt

test-core: $(READY) $(SERVERS_READY)
	$(BIN)/python -m pytest -n 4 --dist worksteal $(PYTEST_ARGS)

# Salt lives in an environment of its own, which takes some minutes to make.
test-salt: $(SALT_READY) $(SERVERS_READY)
	$(WITH_SERVERS) $(SALT_VENV)/bin/python -m pytest tests/salt -n 3 --dist loadfile $(SALT_PYTEST_ARGS)

# Debian packages of ya-salt and dev-portod, into dist/.
deb:
	packaging/make-deb

# These packages on a bare Debian 12 and 13, which debootstrap makes from this machine's mirror. Needs root.
test-deb: $(READY)
	sh .ci/prepare-deb
	packaging/make-deb
	$(BIN)/python -m pytest tests/deb $(DEB_PYTEST_ARGS)

# The quick part of it, on this machine's own Debian in namespaces: nothing of it is changed.
check-deb: $(READY)
	sh .ci/prepare-deb
	packaging/make-deb
	YA_SALT_TEST_SUITES=here $(BIN)/python -m pytest tests/deb -k 'lintian or dropped or own_pass or purging'

# Every supported Salt on every Python that can be found here; long.
salt-matrix: $(SERVERS_READY)
	$(WITH_SERVERS) sh .ci/salt-matrix

# The stories of tests/chaos, many more of them; STORIES=N says how many.
STORIES ?= 2000
chaos: $(READY)
	YA_SALT_TEST_STORIES=$(STORIES) $(BIN)/python -m pytest tests/chaos -q

# The rollouts of tests/gate/test_fleet.py with more hosts; HOSTS=N says how many.
HOSTS ?= 4000
soak-gate: $(READY) $(SERVERS_READY)
	YA_SALT_TEST_HOSTS=$(HOSTS) $(BIN)/python -m pytest tests/gate/test_fleet.py -q

# Events for the agent, many more of them than in a test; EVENTS=N says how many.
EVENTS ?= 10000
soak: $(READY)
	YA_SALT_TEST_EVENTS=$(EVENTS) $(BIN)/python -m pytest tests/agent/test_soak.py -q

lint: $(READY)
	$(BIN)/ruff check $(LINTED)
	$(BIN)/ruff format --check $(LINTED)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix $(LINTED)
	$(BIN)/ruff format $(LINTED)

# The tables in docs/specs.md and docs/commands.md, from those that check properties and show help.
docs-tables: $(READY)
	PYTHONPATH=tests $(BIN)/python -m helpers.property_table
	PYTHONPATH=tests $(BIN)/python -m helpers.exit_codes_table

# The documents as a site, build/docs/index.html; what is wrong with a link is an error.
docs: $(READY)
	$(BIN)/python -m sphinx -n -W --keep-going -q -b html docs build/docs

# docs/schemas, from the tables that check files, and from proto/ya_salt.proto.
schemas: $(READY)
	PYTHONPATH=tests $(BIN)/python -m helpers.schema_files

# The README's pictures, of what ya-salt prints on a host that is gone afterwards.
pictures: $(READY)
	$(BIN)/python docs/pictures/make.py

# Man pages and completions, from the parsers and documents; a second. A test says when they are stale.
pages: $(READY)
	PYTHONPATH=packaging $(BIN)/python -m pages

proto: $(READY)
	$(BIN)/pip install --quiet -e '.[proto]'
	PYTHON=$(BIN)/python proto/generate.sh

# A pass with nothing to do beside the floor and other tools; BENCH_ARGS='--n 2000 --json FILE' and
# the like. Salt is there once `make test-salt` has made its environment.
bench: $(READY) $(BENCH_READY)
	SALT_VENV=$(SALT_VENV) $(BIN)/python -m bench $(BENCH_ARGS)

# What the rollout gate costs on a real etcd; BENCH_ARGS='--nodes 3' for a cluster.
bench-gate: $(READY) $(SERVERS_READY)
	$(BIN)/python -m bench.gate $(BENCH_ARGS)

$(SALT_READY): tests/salt/requirements.txt devporto/setup.cfg .ci/prepare-salt
	PYTHON=$(PYTHON) SALT_VENV=$(SALT_VENV) sh .ci/prepare-salt
	touch $@

$(BENCH_READY): $(READY) .ci/prepare-bench
	PYTHON=$(PYTHON) VENV=$(VENV) sh .ci/prepare-bench
	touch $@

$(SERVERS_READY): $(READY) .ci/prepare-servers
	VENV=$(VENV) sh .ci/prepare-servers
	touch $@

$(READY): setup.cfg pyproject.toml devporto/setup.cfg .ci/prepare
	PYTHON=$(PYTHON) VENV=$(VENV) sh .ci/prepare
	touch $@

clean:
	rm -rf $(VENV) $(SALT_VENV) .venvs build dist *.egg-info devporto/build devporto/src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
