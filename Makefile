# Two commands do everything:
#   make reproduce    from nothing to Table 1, on the default experiment
#   make test         every check
# make videos goes on to Table 2; make figures, make claims, make report and make example look further into what was made
.NOTPARALLEL:
.PHONY: reproduce videos figures claims report test env example dvc cli lock
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# threads that wait must not spin: two processes share two cores
export OMP_WAIT_POLICY := PASSIVE

# one make at a time in a folder: a second one would delete what the first one needs
# the lock ends with the process that holds it, so that a killed run leaves nothing to unlock
ALONE := command -v flock > /dev/null || { echo "flock is needed (util-linux)." >&2; exit 1; }; \
  exec 9> .make.lock; flock --nonblock 9 || \
  { echo "Another make is at work in $(CURDIR); wait for it, or use another clone." >&2; exit 1; }; set -ex;
SNAKEMAKE := $(ALONE) exec snakemake --nolock
RUN := $(SNAKEMAKE) --cores all --rerun-incomplete --show-failed-logs

reproduce: env
	@$(RUN) results/table1.csv
	@echo "Table 1: results/table1.md (also .csv, .tex)    Picture: results/figures/samples.png"

test: env
	ruff format --check .
	ruff check .
	mypy
	snakefmt --check Snakefile workflow
	pytest --numprocesses auto --maxprocesses 4 --dist loadfile -m "not containers"
	pytest -m containers

# Table 2 on clips of moving digits
videos: env
	@$(RUN) results/table2.csv
	@echo "Table 2: results/table2.md (also .csv, .tex)    Pictures: results/figures/clips.png, results/sample/*/*.gif"

# the paper's Figures 5 (with the gates by depth and the losses), 6 and 7, and gates that are trained faster
FIGURES := $(foreach name,figure5 gates losses figure6 figure7 rates,results/figures/$(name).png)
figures: env
	@$(RUN) $(FIGURES)

# a verdict on each claim of the paper: from Tables 1 and 2 and Figures 5 to 7, so all that they need
claims: env
	@$(RUN) results/claims.csv
	@echo "Claims: results/claims.md (also .csv)"

# Table 1, and all else that was made here, on one page
report: reproduce
	@$(SNAKEMAKE) --report results/report.html
	@echo "Report: results/report.html"

# keep the results of the default experiment in results/example, and its tables in README.md and docs/results.md
example: reproduce videos figures claims
	python benchmarks/clip_features.py
	python workflow/scripts/example.py

# dvc.yaml and workflow/dvc.yaml, when params/digits.yaml has other systems, seeds, samplers or keys
dvc: env
	python workflow/scripts/write_dvc.py

# docs/cli.md, when a verb or its help is another
cli: env
	python workflow/scripts/cli_reference.py

env: $(STAMP)

# made anew whenever the lock or the package's metadata changes
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed; name it with make PYTHON=python3.12")'
	@$(ALONE) \
	$(PYTHON) -m venv --clear $(VENV); \
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; \
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	touch $@

# needs uv; the lock holds hashes and no host names
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --extra cluster --extra dev --custom-compile-command "make lock" pyproject.toml -o requirements.lock
