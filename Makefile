# Two commands on a fresh machine: `make demo` and `make test`. Both need Python >= 3.11, make and the package index.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin
# With uv, where it is: make test UV=uv
ifdef UV
PIP := $(UV) pip install --quiet --python $(RUN)/python
else
PIP := $(RUN)/python -m pip install --quiet --disable-pip-version-check
endif

.PHONY: help demo test test-slow test-pythons test-oldest lint docs bench clean

help:
	@echo "make demo       install, reconstruct the demo photos, say where pictures and meshes are"
	@echo "make test       install, run the test suite"
	@echo "make test-slow  the slow checks as well (rebuilds the free body, validates GLBs, compares with peers)"
	@echo "make test-pythons  the tests under Python 3.11, 3.12 and 3.13, each in an environment of its own"
	@echo "make test-oldest  the tests with the oldest releases that are promised to work, in an environment of their own"
	@echo "make lint       ruff and mypy"
	@echo "make docs       pages and API reference, in build/docs; a warning stops it"
	@echo "make bench      the benchmarks that need no data, one after the other (keep the machine quiet)"

$(VENV)/bin/python:
	$(if $(UV),$(UV) venv --seed --quiet --python $(PYTHON),$(PYTHON) -m venv) $(VENV)

# A torch that is there is kept; of a large download it is said how to get a small one.
$(VENV)/.core: pyproject.toml constraints.txt tools/get_torch.py | $(VENV)/bin/python
	$(RUN)/python tools/get_torch.py
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) -e ".[dev]"
	@touch $@

demo: $(VENV)/.core
	$(RUN)/kouros demo --out demo-results

test: $(VENV)/.dev
	$(RUN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.dev
	$(RUN)/python -m pytest

# Each in an environment of its own. Some of them: make test-pythons PYTHONS="python3.13"
PYTHONS ?= python3.11 python3.12 python3.13

test-pythons:
	@for python in $(PYTHONS); do \
		echo "== $$python"; $(MAKE) test PYTHON=$$python VENV=$(VENV)-$$(basename $$python) || exit 1; \
	done

# With the tests' own tools as they are today. Another file: make test-oldest OLDEST=my-constraints.txt
OLDEST ?= constraints-oldest.txt

$(VENV)-oldest/.dev: pyproject.toml $(OLDEST)
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c $(OLDEST) -e ".[train,heic,video,usd]" \
		beartype embreex hypothesis matplotlib pytest pytest-timeout scikit-learn smplx
	@touch $@

# Without the checks of shapes at calls: jaxtyping's oldest release wraps numba's kernels too.
test-oldest: $(VENV)-oldest/.dev
	$(VENV)-oldest/bin/python -m pytest -o addopts="-q --strict-markers --timeout=300" -m "not slow"

lint: $(VENV)/.dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

$(VENV)/.docs: pyproject.toml | $(VENV)/.dev
	$(PIP) -e ".[docs]"
	@touch $@

docs: $(VENV)/.docs
	$(RUN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "build/docs/index.html"

BENCHMARKS := body_layer charts end_to_end hkmr in_the_loop movenet rasterizer synthesize

bench: $(VENV)/.dev
	@for name in $(BENCHMARKS); do echo "== $$name"; $(RUN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-python3.* demo-results .pytest_cache .mypy_cache .ruff_cache
