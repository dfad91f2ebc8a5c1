# `make demo` and `make test` need Python 3.11+ and make; each sets up its own .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench clean

demo: $(VENV)/ready
	$(BIN)/guardrail demo $(DEMO_ARGS)

test: $(VENV)/ready
	scripts/test $(TEST_ARGS)

check: $(VENV)/ready
	scripts/check

bench: $(VENV)/ready
	scripts/bench $(BENCH_ARGS)

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "guardrail needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . --group dev
	touch $@

clean:
	rm -rf $(VENV)
