# Two commands do everything on a fresh machine: no GPU, no compiler, no dataset.
#   make demo      set-up, a look at the shipped model; world, training, test, export, engines   (15 to 40 minutes on 2 cores)
#   make test      the whole test suite                                                        (20 to 30 minutes on 2 cores)
# Further: make test-full (with the programs that take minutes each: about an hour),
#          make test-mm (OpenMMLab interoperation and recordings; compiles mmcv once: 13 minutes), make lint, make clean.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
WORKERS ?= 2

.PHONY: demo test test-full test-mm lint clean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,5p' Makefile | cut -c3-

# The environment is made again whenever the lock changes.
$(VENV)/.ready: requirements.lock tools/descartes/descartes.py
	@echo "==> Set-up: $(VENV) with the pinned versions of requirements.lock (1 to 4 minutes)"
	@$(PYTHON) -c 'import sys; ok = (3, 10) <= sys.version_info[:2] <= (3, 12); sys.exit(0 if ok else f"Python 3.10 to 3.12 is needed, found {sys.version.split()[0]}; set PYTHON=...")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install -q --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	@$(PY) -m pip install -q --disable-pip-version-check --no-deps -r requirements.lock
	@$(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation ./tools/descartes
	@touch $@

demo: $(VENV)/.ready
	@echo "==> Demo: the shipped model; world, training, test, export, engines, pictures (15 to 40 minutes on 2 cores)"
	@$(PY) tools/demo.py

test: $(VENV)/.ready
	@echo "==> Tests on $(WORKERS) workers (20 to 30 minutes)"
	@OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(PY) -m pytest -q -n $(WORKERS) --max-worker-restart 0 --dist loadfile tests --ignore=tests/interop

test-full: $(VENV)/.ready
	@echo "==> Tests with every configuration's export, every page's command and ten minutes of trouble (about an hour)"
	@OMP_NUM_THREADS=1 PYTHONHASHSEED=0 PERCEPTION_EXPORT_ALL=1 PERCEPTION_PAGES=1 PERCEPTION_ENDURANCE=600 PERCEPTION_KILLS=10 \
		$(PY) -m pytest -q -n $(WORKERS) --max-worker-restart 0 --dist loadfile tests --ignore=tests/interop

test-mm: $(VENV)/.ready
	@echo "==> OpenMMLab and recordings in an environment of their own, .venv-mm (13 minutes the first time, for compiling mmcv)"
	@PYTHON=$(PYTHON) bash tools/setup_mm.sh .venv-mm
	@OMP_NUM_THREADS=1 .venv-mm/bin/python -m pytest -q tests/interop tests/recordings tests/deployment/vehicle/test_playback.py

lint: $(VENV)/.ready
	@$(PY) -m ruff check .

clean:
	rm -rf $(VENV) .venv-mm work_dirs data/demo_look data/demo_world
