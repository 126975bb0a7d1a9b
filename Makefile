# Every target sets up its own virtual environment (.venv) first; nothing else is needed.
#   make demo      zero-shot CLIP, CoOp and CoOp + TextRefiner on the embedded dataset (5 minutes)
#   make demo-all  every method, plain and refined, on the same dataset (25 minutes)
#   make test      all tests, with coverage of trainers/ (WORKERS=2 processes)
#   make floor     all tests with Python 3.11 and the oldest supported versions: exactly the lower
#                  bounds of requirements*.txt, in a second virtual environment (.venv-floor)
#   make faults    every file operation of a run is its last one, and random kills (an hour);
#                  make test tries a part of them (docs/reliability.md)
#   make fuzz      MUTANTS=1000 mutants of every file format that is read (20 minutes)
#   make bench     speed against a plain implementation, into benchmarks/results/ (10 minutes);
#                  bench-full: every method, 50 to 1000 classes; bench-gpu: the same on a GPU;
#                  bench-store: a second evaluation with a feature store against the first;
#                  bench-refiner: what TextRefiner adds to CoOp at 100, 500 and 1000 classes;
#                  bench-options: what torch.compile and other memory formats would bring
#   make settings  write docs/settings.md from the tables of settings
#   make check     ruff, ruff format, mypy
#   make style     let ruff mend what it can
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FLOOR := .venv-floor
WORKERS ?= 2# processes that share the tests
MUTANTS ?= 1000# of each file format, for make fuzz

# FUZZ_SEED=2 in the environment makes other mutants.
.PHONY: demo demo-all test faults fuzz floor bench bench-full bench-gpu bench-store bench-refiner bench-options \
	settings check style clean

$(VENV)/.runtime: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $$($(PYTHON) -V) found, 3.11 or newer is needed: set PYTHON=/path/to/python3"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "error: $(PYTHON) has no venv: on Debian and Ubuntu run apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements-sweep.txt requirements-export.txt requirements-report.txt $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Every line with a lower bound (NAME>=VERSION) becomes an exact pin; a line without one is an error.
# The stubs (types-*) are for mypy, which runs with current versions only.
$(FLOOR)/.installed: requirements.txt requirements-sweep.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "error: $$($(PYTHON) -V) found, make floor needs 3.11: set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv --clear $(FLOOR)
	sed -E 's/ *#.*//; /^(-r .*|types-.*)?$$/d; s/>=/==/' $^ > $(FLOOR)/pins.txt
	@! grep -vE '^[A-Za-z0-9_.-]+==[0-9.]+$$' $(FLOOR)/pins.txt || \
	  { echo "error: requirements without a lower bound (NAME>=VERSION), see above"; exit 2; }
	$(FLOOR)/bin/python -m pip install --quiet --disable-pip-version-check -r $(FLOOR)/pins.txt
	@touch $@

demo: $(VENV)/.runtime
	$(BIN)/python scripts/demo.py

demo-all: $(VENV)/.runtime
	$(BIN)/python scripts/demo.py --all

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --cov=trainers --cov-report=term --cov-fail-under=98

faults: $(VENV)/.dev
	OMP_NUM_THREADS=1 FAULT_POINTS=100000 FAULT_KILLS=10 $(BIN)/python -m pytest -n $(WORKERS) tests/faults

fuzz: $(VENV)/.dev
	OMP_NUM_THREADS=1 FUZZ_MUTANTS=$(MUTANTS) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests/fuzz

floor: $(FLOOR)/.installed
	OMP_NUM_THREADS=1 $(FLOOR)/bin/python -m pytest -n $(WORKERS) --dist loadfile

bench: $(VENV)/.runtime
	$(BIN)/python -m benchmarks.bench

bench-full: $(VENV)/.runtime
	$(BIN)/python -m benchmarks.bench --full

bench-gpu: $(VENV)/.runtime
	$(BIN)/python -m benchmarks.bench --full --device cuda

bench-store: $(VENV)/.runtime
	$(BIN)/python -m benchmarks.feature_store

bench-refiner: $(VENV)/.runtime
	$(BIN)/python -m benchmarks.refiner

bench-options: $(VENV)/.runtime
	$(BIN)/python -m benchmarks.options

settings: $(VENV)/.runtime
	$(BIN)/python scripts/list_settings.py > docs/settings.md

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

style: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(FLOOR)
