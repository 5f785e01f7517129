# Every target sets up what it needs; a second call installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SCRATCH := $(CURDIR)/build/test

.PHONY: help figures paper site test unit tutorials notebooks lab bench lint refresh clean
help: ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,cluster,crate]'
	touch $@

figures: $(READY) ## regenerate the figures of every notebook on embedded data, in minutes on a laptop
	$(BIN)/vaelib figures --profile quick

paper: $(READY) ## regenerate them at the papers' scale: downloads data sets, wants an accelerator
	$(BIN)/vaelib figures --profile paper

# From what is committed, executing nothing; -W: a warning is an error.
site: $(READY) ## build the site in build/site: boards of claims, notebooks as executed, the interface
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[site]'
	$(BIN)/sphinx-build -W --keep-going --quiet --conf-dir docs --doctree-dir build/doctrees . build/site
	@echo "open build/site/index.html"

test: unit notebooks ## unit tests, then every notebook against its committed outputs

# One thread a process: scikit-learn and torch spin when they get into each other's way. The tutorials, which run whole
# commands, take as long as half of all else, and have a target of their own.
unit: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal --ignore tests/test_tutorials.py

tutorials: $(READY) ## do what the tutorials say, in a copy of the project
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 tests/test_tutorials.py

# From an empty store, so that the numbers are measured anew, and away from the committed figures. All is trained before
# the first cell runs: one pool of processes for all notebooks is faster than one for each.
notebooks: export VAELIB_RUNS := $(SCRATCH)/runs
notebooks: export VAELIB_FIGURES := $(SCRATCH)/figures
notebooks: $(READY)
	rm -rf $(SCRATCH)
	$(BIN)/vaelib train --profile quick
	$(BIN)/python -m pytest --nbval --nbval-current-env --numprocesses 2 --dist loadfile notebooks

# JupyterLab refuses root, who is the user in many a container, unless it is told.
lab: $(READY) ## open the notebooks in JupyterLab; LAB="..." are options for it
	$(BIN)/jupyter lab --notebook-dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB)

bench: $(READY) ## training speed beside other code, and the time that a cohort takes
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/cohort.py

lint: $(READY) ## what pre-commit checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

refresh: $(READY) ## execute the notebooks on embedded data and keep the outputs in place, to be committed
	$(BIN)/vaelib figures --profile quick --refresh

clean: ## remove the environment and everything built; figures and the run store stay
	rm -rf $(VENV) build .pytest_cache .ruff_cache *.egg-info
