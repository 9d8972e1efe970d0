# Everything starts from a machine with Python 3.11 and make; each target does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
comma := ,
EXTRAS := dev,nle$(if $(filter Linux,$(shell uname -s)),$(comma)cpu)
STAMP := $(VENV)/.installed
BLENDER := .venv-bpy

.PHONY: demo test faults check schemas setup blender clean

demo: setup
	$(BIN)/python examples/two_characters/make_media.py
	$(BIN)/scail2-farm submit examples/two_characters/edit.otio --weights miniature

# What is killed, stopped and timed has the machine to itself; everything else is run two at a time.
ALONE := tests/faults tests/parity tests/conform

test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(addprefix --ignore=,$(ALONE))
	$(BIN)/python -m pytest $(ALONE)

# The farm under every fault, in full: hours. Stopped, it goes on; figures in benchmarks/receipts/faults.json
faults: setup
	$(BIN)/python benchmarks/faults.py

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

schemas: setup
	$(BIN)/scail2-farm schema schemas

setup: $(STAMP)

# A system OpenBLAS makes the Linux CPU engine many times faster; it is used when present and never required.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "scail2-farm needs Python 3.11 or newer; run make PYTHON=python3.11")'
	@if [ "$$(uname -s)" = Linux ] && ! ldconfig -p | grep -q libopenblas.so.0 && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		(apt-get update -qq && apt-get install -y -qq libopenblas0) >/dev/null 2>&1 || echo "no OpenBLAS here: the engine runs without it, slower"; \
	fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $(STAMP)

# Blender as a Python package, for tests/conform. It wants another numpy than ours: an environment of its own, 1 GB.
blender: $(BLENDER)/.installed

$(BLENDER)/.installed: constraints-bpy.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "Blender 5.0 runs in Python 3.11 alone; run make blender PYTHON=python3.11")'
	$(PYTHON) -m venv $(BLENDER)
	$(BLENDER)/bin/python -m pip install --quiet --constraint constraints-bpy.txt bpy
	touch $@

clean:
	rm -rf $(VENV) $(BLENDER) build *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
