# make demo: the main job, end to end (FAST=1: a small one). make test: every test that takes seconds.
# Both make a venv in .venv first. Only Python 3.11+, git and make are needed.
# make slow: what takes minutes, among it a SLURM, a Ray and a PostgreSQL of its own (WORKERS=3: more than cores, as much
# of it waits).
# make notebooks: run ANALYSES (all of analysis/*.ipynb), each into NOTEBOOKS (build/notebooks): five minutes on 2 cores.
# TORCH_INDEX: an index with CPU wheels of torch, where pip's default index would choose a CUDA build (Linux on x86).
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= auto
NOTEBOOKS ?= build/notebooks
ANALYSES ?= $(wildcard analysis/*.ipynb)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.PHONY: demo test lint slow notebooks clean

demo: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" sweeps/demo/run.sh

test: $(VENV)/installed-dev lint
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and cluster"
	$(BIN)/python -m pytest -n $(WORKERS) -m "slow and not cluster and not network and not handoff"

# One by one, as a fit takes all cores there are; the first that fails ends it.
notebooks: $(VENV)/installed-dev
	mkdir -p $(NOTEBOOKS)
	set -e; for notebook in $(ANALYSES); do \
	    $(BIN)/jupyter-execute --output="$(abspath $(NOTEBOOKS))/$$(basename $$notebook)" $$notebook; \
	done

# torch first and pinned: whatever depends on it then finds it there and pulls no other build.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("scalelab needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) --constraint constraints.txt --editable .
	touch $@

# mup without its dependencies: torchvision is among them and replaces torch; the parity tests need neither.
$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	$(PIP) --no-deps mup==1.0.0
	touch $@

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
