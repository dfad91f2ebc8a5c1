# `make demo` and `make test` need Python 3.11+ and make; each sets up its own .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-vllm check bench clean

demo: $(VENV)/ready
	$(BIN)/guardrail demo $(DEMO_ARGS)

test: $(VENV)/ready
	scripts/test $(TEST_ARGS)

# By hand, against a vLLM that you started: see tests/real_server/vllm.md.
test-vllm: $(VENV)/ready
	GUARDRAIL_TEST_VLLM=1 GUARDRAIL_VLLM_URL=$(VLLM_URL) scripts/test tests/real_server/test_vllm.py

check: $(VENV)/ready
	scripts/check

bench: $(VENV)/ready
	scripts/bench $(BENCH_ARGS)

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "guardrail needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . --group dev --group realserver
	touch $@

clean:
	rm -rf $(VENV)
