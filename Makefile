# `make demo` and `make test` need Python 3.11+ and make; each sets up its own .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NODE := tests/matrix/node
PIP := PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test test-vllm node check bench clean

demo: $(VENV)/demo
	$(BIN)/guardrail demo $(DEMO_ARGS)

test: $(VENV)/dev
	scripts/test $(TEST_ARGS)

# By hand, against a vLLM that you started: see tests/real_server/vllm.md.
test-vllm: $(VENV)/dev
	GUARDRAIL_TEST_VLLM=1 GUARDRAIL_VLLM_URL=$(VLLM_URL) scripts/test tests/real_server/test_vllm.py

# The Node clients of tests/matrix: they are played where these are installed, and skipped elsewhere.
node: $(NODE)/node_modules/.package-lock.json

check: $(VENV)/dev
	scripts/check

bench: $(VENV)/dev
	scripts/bench $(BENCH_ARGS)

# What runs, and beside it what tests and checks.
$(VENV)/demo: $(VENV)/pip
	$(PIP) install -e .
	touch $@

$(VENV)/dev: $(VENV)/pip
	$(PIP) install -e . --group dev --group apps --group realserver
	touch $@ $(VENV)/demo

# An extra of 380 MB: its tests run where it is installed, and skip elsewhere.
$(VENV)/presidio: $(VENV)/dev
	$(PIP) install -e '.[presidio]'
	touch $@

$(NODE)/node_modules/.package-lock.json: $(NODE)/package.json $(NODE)/package-lock.json
	cd $(NODE) && npm ci --no-audit --no-fund
	touch $@

$(VENV)/pip: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "guardrail needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	touch $@

clean:
	rm -rf $(VENV) $(NODE)/node_modules
