# make demo   creates .venv, installs, attacks two small models on real brain slices and writes a report
# make test   creates .venv if needed, installs the test extra, runs the whole suite
# make lint   style, types and import rules
# make docs   the documentation in build/site/, its tutorials run on the way; a warning is an error
# make screenshots   the pictures of a report in the documents, anew (needs Chromium)
# make coverage   the suite again, slower, with the lines that no test reaches
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet
# threads of the two test processes must not fight over the cores
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup

.PHONY: demo test lint docs screenshots coverage clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/medrobust evaluate

test: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow"
	$(PYTEST) -m slow

coverage: $(VENV)/.installed-dev
	$(PYTEST) --cov --cov-report=term:skip-covered

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# MkDocs Material warns at every start of MkDocs 2, which pyproject.toml keeps out; small networks need one thread
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/mkdocs build

screenshots: $(VENV)/.installed-docs
	rm -rf build/shown
	$(BIN)/medrobust evaluate --attacks fgsm,pgd,smia --limit 12 --eps 2/255,8/255 --out build/shown
	$(BIN)/python docs/screenshots.py build/shown

clean:
	rm -rf $(VENV)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "medrobust needs Python 3.11 or newer (make PYTHON=...)")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) (PyTorch is large: this takes some minutes the first time)"
	$(PIP) --editable .
	touch $@

# torchattacks pins an old requests, adv-lib wants visdom, a plotting server: nothing here uses either
$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) (PyTorch is large: this takes some minutes the first time)"
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps torchattacks==3.5.1 adv-lib==0.2.8
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) (PyTorch is large: this takes some minutes the first time)"
	$(PIP) --editable '.[docs]'
	touch $@
