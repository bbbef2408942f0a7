PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Stamps: what the commands need is installed; what the tests, the checks and the site need on top of it.
USABLE := $(VENV)/.usable
READY := $(VENV)/.ready
INSTALL := -m pip install --quiet --disable-pip-version-check --no-warn-script-location

.PHONY: demo test test-oldest test-newest smoke docs clean

demo: $(USABLE)
	$(BIN)/slem demo --folder demo

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The ends of what pyproject.toml allows: each makes a virtual environment of its own.
test-oldest: PYTHON = python3.10
test-oldest: CONSTRAINTS = -c constraints-oldest.txt
test-newest: PYTHON = python3.13
test-oldest test-newest:
	@echo "Installing $(PYTHON)'s packages into .venv-$@; this takes a few minutes."
	@$(PYTHON) -m venv .venv-$@
	@.venv-$@/bin/python $(INSTALL) -e '.[model,codes,test]' $(CONSTRAINTS)
	SLEM_COMPILED=1 .venv-$@/bin/python -m pytest -n 2 --dist worksteal

# Source archive and wheel, in dist/; the wheel in an environment with nothing else.
smoke: $(READY)
	rm -rf dist build .venv-test-smoke
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv .venv-test-smoke
	.venv-test-smoke/bin/python $(INSTALL) dist/*.whl
	.venv-test-smoke/bin/python tests/smoke.py

# The site of the documentation, in site/.
docs: $(READY)
	$(BIN)/mkdocs build --strict --quiet

# The CPU build of PyTorch where the index offers one: asking for the tested version by name finds it.
$(USABLE): pyproject.toml constraints.txt
	@echo "Installing slem, PyTorch and PySCF into $(VENV); this happens once and takes a few minutes."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(INSTALL) torch==2.13.0 -c constraints.txt
	@$(BIN)/python $(INSTALL) -e '.[model,codes]' -c constraints.txt
	@touch $@

$(READY): $(USABLE)
	@echo "Installing what tests, checks and documentation need into $(VENV); this happens once."
	@$(BIN)/python $(INSTALL) -e '.[model,codes,dev]' -c constraints.txt
	@touch $@

clean:
	rm -rf $(VENV) .venv-test-* build demo dist site .mypy_cache .ruff_cache .pytest_cache
