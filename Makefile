# The commands of a developer and of CI: `make demo`, `make test`, `make lint`.
PYTHON ?= python3
VENV := .venv
EDGE := .venv-edge
GPU := .venv-gpu
BIN := $(VENV)/bin
PILLOWS := pillow-11.0 pillow-12.0 pillow-13.0
WORKERS ?= 2
# GNU Make from 4.0 on prints what one target says in one piece.
WHOLE := $(if $(filter output-sync,$(.FEATURES)),--output-sync)

.PHONY: demo test test-fast test-edge test-pillow edge gpu $(PILLOWS) fuzz lint format audit install clean

demo: install
	rm -rf demo-output
	$(BIN)/kneeedge demo --out demo-output

# First what takes one core each, then the tests: their files are shared out to the workers.
test:
	$(MAKE) --jobs=$(WORKERS) $(WHOLE) lint test-edge test-pillow
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

# The tests that take no more than two seconds each: between two edits.
test-fast: install
	$(BIN)/python -m pytest -m "not slow"

# The wheel with [cpu] alone, in an environment without torch: what a device runs.
test-edge: install edge
	$(BIN)/python -m tests.make_edge_model .cache/edge
	cd tests/edge && KNEEEDGE_EDGE_FILES=$(CURDIR)/.cache/edge $(CURDIR)/$(EDGE)/bin/python -P -m pytest -c pytest.ini .

edge:
	test -x $(EDGE)/bin/python || $(PYTHON) -m venv $(EDGE)
	rm -rf dist && $(EDGE)/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(EDGE)/bin/python -m pip install --quiet -c constraints.txt "$$(echo dist/*.whl)[cpu]" pytest
	$(EDGE)/bin/python -m pip install --quiet --force-reinstall --no-deps dist/*.whl

# onnxruntime-gpu beside the least that it loads with: what tests/gpu_wheel/ and benchmarks.wheels
# ask. Its other libraries would be gigabytes.
gpu:
	test -x $(GPU)/bin/python || $(PYTHON) -m venv $(GPU)
	$(GPU)/bin/python -m pip install --quiet --no-deps -c constraints.txt onnxruntime-gpu nvidia-cuda-runtime numpy pillow

# The resize under the first of each version of Pillow that we allow: numpy and Pillow alone.
test-pillow: $(PILLOWS)

$(PILLOWS): pillow-%:
	test -x .venv-pillow/$*/bin/python || $(PYTHON) -m venv .venv-pillow/$*
	.venv-pillow/$*/bin/python -m pip install --quiet "pillow~=$*.0" numpy
	.venv-pillow/$*/bin/python -m tests.pixels.pinned_resize

# 10,000 mutated files of every format; Linux.
fuzz: install
	$(BIN)/python -m benchmarks.fuzz --keep .cache/fuzz

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m benchmarks.figures --check

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Every distribution that the wheel and its extras bring, with its licence.
audit: install
	$(BIN)/python -m benchmarks.licences

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[tune,cpu,node,ray,sign]" --group dev
	touch $@

clean:
	rm -rf $(VENV) $(EDGE) $(GPU) .venv-pillow dist build demo-output .cache .pytest_cache .mypy_cache .ruff_cache
