# The commands of a developer and of CI: `make demo`, `make test`, `make lint`.
PYTHON ?= python3
VENV := .venv
EDGE := .venv-edge
BIN := $(VENV)/bin

.PHONY: demo test test-fast test-edge test-pillow fuzz lint format audit install clean

demo: install
	rm -rf demo-output
	$(BIN)/kneeedge demo --out demo-output

test: install lint
	$(BIN)/python -m pytest
	$(MAKE) test-pillow
	$(MAKE) test-edge

# The tests that take no more than two seconds each: between two edits.
test-fast: install
	$(BIN)/python -m pytest -m "not slow"

# The wheel with [cpu] alone, in an environment without torch: what a device runs.
test-edge: install
	rm -rf dist && $(BIN)/python -m build --quiet --wheel
	test -x $(EDGE)/bin/python || $(PYTHON) -m venv $(EDGE)
	$(EDGE)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(EDGE)/bin/python -m pip install --quiet -c constraints.txt "$$(echo dist/*.whl)[cpu]" pytest
	$(EDGE)/bin/python -m pip install --quiet --force-reinstall --no-deps dist/*.whl
	$(BIN)/python -m tests.make_edge_model .cache/edge
	cd tests/edge && KNEEEDGE_EDGE_FILES=$(CURDIR)/.cache/edge $(CURDIR)/$(EDGE)/bin/python -P -m pytest -c pytest.ini .

# The resize under the first of each version of Pillow that we allow: numpy and Pillow alone.
test-pillow:
	for version in 11.0 12.0 13.0; do \
		test -x .venv-pillow/$$version/bin/python || $(PYTHON) -m venv .venv-pillow/$$version; \
		.venv-pillow/$$version/bin/python -m pip install --quiet "pillow~=$$version.0" numpy && \
		.venv-pillow/$$version/bin/python -m tests.pixels.pinned_resize || exit 1; \
	done

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
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[train,cpu,dicom-sr,sign]" --group dev
	touch $@

clean:
	rm -rf $(VENV) $(EDGE) .venv-pillow dist build demo-output .cache .pytest_cache .mypy_cache .ruff_cache
