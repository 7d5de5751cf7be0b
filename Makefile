# `make reproduce` measures the main table; `make test` checks everything.
# Each sets up what it needs by itself: system packages, a virtual environment, pinned versions.

PYTHON ?= python3
WORKERS ?= $(shell nproc)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: reproduce test lint system browser
.DELETE_ON_ERROR:

reproduce: $(INSTALLED)
	$(BIN)/octo-bench reproduce quick --workers $(WORKERS)

# In two halves: a process that has tested many environments has taken gigabytes.
IN_PARALLEL := --numprocesses $(WORKERS) --dist loadfile
DATA_TO_AGENTS := $(addprefix tests/,definitions processes rendering simulation experts demonstrations \
	models checkpoints training agents)
RECORDS_TO_CLI := $(filter-out tests/helpers/ tests/fixtures/ $(addsuffix /,$(DATA_TO_AGENTS)), \
	$(wildcard tests/*/)) tests/test_*.py

test: lint browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(IN_PARALLEL) $(DATA_TO_AGENTS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(IN_PARALLEL) $(RECORDS_TO_CLI)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# robomimic, which reads our files in a test, comes without its dependencies: most that it needs for
# that are ours too, and another (egl_probe, which looks for GPUs) takes CMake to build.
$(INSTALLED): pyproject.toml setup.py constraints.txt octo_bench/rendering/fast/rasterizer.c | system
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[arms,test]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps robomimic tensorboardX
	touch $@

# What pip cannot bring: OpenGL for robosuite's own look, and compilers for the renderer, for one
# dependency (evdev) and for torch.compile.
system:
	@missing=""; \
	libraries="$$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p)"; \
	case "$$libraries" in *libEGL.so.1*|*libOSMesa.so*) ;; *) missing="$$missing libegl1" ;; esac; \
	case "$$libraries" in *libGL.so.1*) ;; *) missing="$$missing libgl1" ;; esac; \
	case "$$libraries" in *libgthread-2.0.so.0*) ;; *) missing="$$missing libglib2.0-0" ;; esac; \
	command -v cc >/dev/null || missing="$$missing gcc libc6-dev"; \
	command -v c++ >/dev/null || missing="$$missing g++"; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	$(PYTHON) -c 'import os, sys, sysconfig; \
	sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
	|| missing="$$missing python3-dev"; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing; \
	else echo "missing system packages; run: sudo apt-get install$$missing" >&2; fi

# The report's page is tested in Chromium; without one those tests are skipped, and say so.
browser:
	@if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium; \
	else echo "no Chromium for the tests of the page; run: sudo apt-get install chromium" >&2; fi
