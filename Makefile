# Two commands do everything:
#   make reproduce    from nothing to Table 1, on the default experiment
#   make test         every check
# make figures and make example look further into what make reproduce made
.PHONY: reproduce figures test env example lock
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# threads that wait must not spin: two processes share two cores
export OMP_WAIT_POLICY := PASSIVE

# no lock: results are renamed into place when whole, so that a killed run leaves nothing to unlock
reproduce: env
	snakemake --cores all --rerun-incomplete --nolock --show-failed-logs results/table1.csv
	@echo "Table 1: results/table1.md (also .csv, .tex)    Picture: results/figures/samples.png"

test: env
	ruff format --check .
	ruff check .
	mypy
	snakefmt --check Snakefile workflow
	pytest

# sensitivity and learnt gates by depth: six more trainings, three minutes
figures: env
	snakemake --cores all --rerun-incomplete --nolock --show-failed-logs results/figures/figure5.png results/figures/gates.png

# keep the results of the default experiment in results/example, and its table in the README
example: reproduce figures
	python workflow/scripts/example.py

env: $(STAMP)

# made anew whenever the lock or the package's metadata changes
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed; name it with make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# needs uv; the lock holds hashes and no host names
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --extra dev --custom-compile-command "make lock" pyproject.toml -o requirements.lock
