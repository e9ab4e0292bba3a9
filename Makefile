# Two commands suffice: `make run` sets up and runs the main job, `make test` sets up and runs the tests.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SCENARIO ?= scenarios/coding-assistant.yaml

.PHONY: run test check bench app pictures docs clean help

help:            ## list the targets
	@grep -E '^[a-z]+: *.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

run: $(VENV)/.run                ## compare the candidates of SCENARIO (default: the coding assistant)
	$(BIN)/envelope compare $(SCENARIO) || test $$? -eq 3

test: $(VENV)/.dev               ## run the tests
	$(BIN)/pytest -n auto --dist worksteal

check: $(VENV)/.dev              ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev              ## measure speed; figures go to docs/performance.md by hand
	for b in benchmarks/bench_*.py; do $(BIN)/python $$b || exit 1; done

app: $(VENV)/.ui                 ## start the dashboard
	$(BIN)/streamlit run app.py --browser.gatherUsageStats false

pictures: $(VENV)/.dev           ## draw the pictures of the README from real runs
	$(BIN)/python docs/make_pictures.py
	$(BIN)/python docs/make_screenshots.py

docs: $(VENV)/.dev                ## build the documentation site into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir build/site

clean:                           ## remove what the targets made
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fast]'
	$(BIN)/python -c 'from envelope.serving.warm import prepare; prepare()'
	@touch $@

$(VENV)/.ui: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[ui,report,pdf,fast]'
	$(BIN)/python -c 'from envelope.serving.warm import prepare; prepare()'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
