# make demo     install, localize the small movie that comes with the package, say where the results lie
# make test     install what the tests need, run them
# make lint types test-slow docs clean
#
# PYTHON=python3.12      another Python, 3.10 to 3.13
# PIP_FLAGS="..."        options of pip, such as the index of torch's builds without CUDA (see README)
# ARGS="..."             options of pytest
# WORKERS=2              files of tests that run beside each other

PYTHON ?= python3
PIP_FLAGS ?=
ARGS ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --constraint constraints.txt $(PIP_FLAGS)

# The build of the package, which pip isolates, takes its versions from the same file.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-slow lint types docs clean clean-all

demo: $(VENV)/.stamp-package
	$(BIN)/denseloc demo --out demo-out

test: $(VENV)/.stamp-tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-slow: $(VENV)/.stamp-tests
	$(BIN)/python -m pytest -m slow --timeout 3600 $(ARGS)

lint: $(VENV)/.stamp-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.stamp-tests
	$(BIN)/mypy

docs: $(VENV)/.stamp-package
	$(BIN)/python docs/generate.py

clean:
	rm -rf build dist demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests docs benchmarks -name __pycache__ -prune -exec rm -rf {} +

clean-all: clean
	rm -rf $(VENV)

$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 10) <= v[:2] <= (3, 13) else "denseloc: $(PYTHON) is Python %d.%d, expected 3.10 to 3.13; say make PYTHON=python3.12" % v[:2])'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "denseloc: no virtual environment could be made (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@touch $@

$(VENV)/.stamp-package: $(VENV)/.stamp-venv pyproject.toml constraints.txt
	@echo "Installing denseloc into $(VENV); the first time this fetches torch and takes some minutes."
	$(PIP) --editable .
	@touch $@

$(VENV)/.stamp-tests: $(VENV)/.stamp-venv pyproject.toml constraints.txt
	@echo "Installing denseloc and what its tests need into $(VENV); the first time this fetches torch and takes some minutes."
	$(PIP) --editable '.[test,benchmark]'
	@touch $@ $(VENV)/.stamp-package
