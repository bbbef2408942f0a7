PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-oldest test-newest smoke docs clean

demo: $(READY)
	$(BIN)/slem demo --folder demo

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The ends of what pyproject.toml allows: each makes a virtual environment of its own.
test-oldest: PYTHON = python3.10
test-oldest: CONSTRAINTS = -c constraints-oldest.txt
test-newest: PYTHON = python3.13
test-oldest test-newest:
	$(PYTHON) -m venv .venv-$@
	.venv-$@/bin/python -m pip install --quiet --disable-pip-version-check -e '.[model,codes,test]' $(CONSTRAINTS)
	.venv-$@/bin/python -m pytest -n 2 --dist worksteal

# Source archive and wheel, in dist/; the wheel in an environment with nothing else.
smoke: $(READY)
	rm -rf dist build .venv-test-smoke
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv .venv-test-smoke
	.venv-test-smoke/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	.venv-test-smoke/bin/python tests/smoke.py

# The site of the documentation, in site/.
docs: $(READY)
	$(BIN)/mkdocs build --strict --quiet

# The CPU build of PyTorch where the index offers one: asking for the tested version by name finds it.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[model,codes,dev]' -c constraints.txt
	touch $(READY)

clean:
	rm -rf $(VENV) .venv-test-* build demo dist site .mypy_cache .ruff_cache .pytest_cache
