# Everything from a clean clone, with make and Python 3.11 or newer: environments are made on first use and brought up
# to date when pyproject.toml changes. `make help` lists what there is.
#
#   PYTHON=python3.12   the interpreter to build environments with; otherwise the first that will do
#   UV=none             install with pip, even where uv can be had
#   EXTRAS=dev,mysql    what `make dev` installs; mysql adds mysqlclient, which is compiled against MariaDB's headers
#   PYTEST_ARGS=...     handed to pytest, e.g. PYTEST_ARGS='-k carts -x'
#   PYTEST_WORKERS=n    tests at a time (default 3); 0 runs them in pytest's own process, for a debugger
#   PYTHONHASHSEED=n    repeats the hashing of an earlier run; tests draw a new one, and pytest's header shows it

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo ui dev test test-quick matrix matrix-page lint fix types contracts docs docs-links check bench \
  bench-page tlds build clean

VENV ?= .venv
VENV_MATRIX ?= .venv-matrix
VENV_BENCH ?= .venv-bench
EXTRAS ?= dev
UV ?= uv
PYTEST_ARGS ?=
PYTEST_WORKERS ?= 3
DEMO_ARGS ?=
TLDS_URL ?= https://data.iana.org/TLD/tlds-alpha-by-domain.txt
BENCH_ARGS ?=
MATRIX_ARGS ?=

# Airflow imports about a thousand modules; compiled once, a command starts three to four seconds sooner.
export UV_COMPILE_BYTECODE = 1
unexport PYTHONDONTWRITEBYTECODE
# A shell in which another environment is active must not decide what happens here.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK = 1

python := $(VENV)/bin/python
comma := ,
empty :=
space := $(empty) $(empty)
dev_stamp := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

# The MySQL provider demands mysqlclient, which has to be compiled. Without its dependencies it runs on the pure Python
# mysql-connector-python of the test extra, and nobody needs a compiler to run the tests.
mysql_provider := apache-airflow-providers-mysql>=6.3.4
with_mysql := $(filter mysql,$(subst $(comma),$(space),$(EXTRAS)))

# $(call find-python,names,condition,words): sets $p to the first interpreter that meets the condition.
# A PYTHON that was named is used or refused, never replaced.
define find-python
for p in $(or $(PYTHON),$(1)); do \
  if "$$p" -c 'import sys; v = sys.version_info; sys.exit(not ($(2)))' 2>/dev/null; then break; fi; p=; \
done; \
if [ -z "$$p" ]; then \
  echo "No Python $(3) among: $(or $(PYTHON),$(1)). Install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; \
fi
endef

# $(call make-venv,folder,names,condition,words). uv, where it is not on the PATH, is put into the environment.
define make-venv
@$(call find-python,$(2),$(3),$(4)); \
rm -rf $(1); \
if $(UV) --version >/dev/null 2>&1; then \
  $(UV) venv --quiet --python "$$p" $(1) || exit 1; \
else \
  "$$p" -m venv $(1) || { \
    echo "$$p cannot create environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
  [ "$(UV)" = none ] || $(1)/bin/python -m pip install --quiet uv 2>/dev/null || \
    echo "No uv to be had; pip it is." >&2; \
fi; \
echo "$(1): $$($(1)/bin/python --version)"; \
touch $(1)/.created
endef

# $(call install,folder,arguments): by uv on the PATH, by uv in the environment, by pip.
define install
@if [ "$(UV)" != none ] && $(UV) --version >/dev/null 2>&1; then \
  $(UV) pip install --quiet --python $(1)/bin/python $(2); \
elif [ "$(UV)" != none ] && [ -x $(1)/bin/uv ]; then \
  $(1)/bin/uv pip install --quiet --python $(1)/bin/python $(2); \
else \
  $(1)/bin/python -m pip install --quiet $(2); \
fi
endef

# $(call pytest,folder): pytest, with hashes that differ from run to run and are known all the same.
pytest = PYTHONHASHSEED=$${PYTHONHASHSEED:-$$($(1)/bin/python -c 'import random; print(random.randrange(2**32))')} \
  $(1)/bin/python -m pytest

pythons := python3 python3.13 python3.12 python3.11
# Airflow does not install on 3.15 yet.
current := (3, 11) <= v < (3, 15)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed-demo ## a warehouse, a local Iterable and the example DAGs, run several times
	@$(python) -m airflow_provider_iterable.demo $(DEMO_ARGS)

ui: $(VENV)/.installed-demo ## Airflow with the example DAGs, runs of them to look at, and a local Iterable, until Ctrl-C
	@$(python) -m airflow_provider_iterable.demo.ui $(UI_ARGS)

dev: $(dev_stamp) ## an environment for changing the code, in .venv

test: $(dev_stamp) ## all tests; those of databases that are not running are skipped
	@$(call pytest,$(VENV)) -n $(PYTEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

test-quick: PYTEST_ARGS += -m 'not slow'
test-quick: export HYPOTHESIS_PROFILE = quick
test-quick: export ITERABLE_TEST_POSTGRES =
test-quick: export ITERABLE_TEST_MYSQL =
test-quick: export ITERABLE_TEST_REQUIRE_SERVICES = 0
test-quick: test ## about a minute: no database server, no process of its own, none of the long scenes

matrix: $(VENV_MATRIX)/.created ## the wheel on each Python and Airflow that is supported (needs uv), or MATRIX_ARGS='[--smoke] row ...'
	@$(VENV_MATRIX)/bin/python -m tests.matrix $(MATRIX_ARGS)

matrix-page: MATRIX_ARGS = --page
matrix-page: matrix ## the same, and its table goes into docs/versions.md

lint: $(dev_stamp) ## ruff: rules and format
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

fix: $(dev_stamp) ## let ruff mend what it can
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

types: $(dev_stamp) ## mypy, strict
	@$(VENV)/bin/mypy

contracts: $(dev_stamp) ## import-linter: who may import whom
	@$(VENV)/bin/lint-imports

docs: $(dev_stamp) ## the documentation's site in build/docs; a warning, or a link that leads nowhere, fails
	@AIRFLOW_HOME=$$(mktemp -d) $(python) -m sphinx -q -W --keep-going -b html -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

docs-links: $(dev_stamp) ## look whether addresses in the documentation answer (needs the internet)
	@AIRFLOW_HOME=$$(mktemp -d) $(python) -m sphinx -q -b linkcheck -d build/doctrees docs build/links

check: lint types contracts docs test ## everything to run before a commit

bench: $(VENV_BENCH)/.installed ## measure each sync, against bare requests, bare SQL and Iterable's own importer
	@$(VENV_BENCH)/bin/python -m tests.benchmarks $(BENCH_ARGS)
	@$(VENV_BENCH)/bin/python -m tests.benchmarks.events
	@$(VENV_BENCH)/bin/python -m tests.benchmarks.lists
	@$(VENV_BENCH)/bin/python -m tests.benchmarks.subscriptions
	@$(VENV_BENCH)/bin/python -m tests.benchmarks.audit
	@$(VENV_BENCH)/bin/python -m tests.benchmarks.warehouse
	@$(VENV_BENCH)/bin/python -m tests.benchmarks.calls
	@$(VENV_BENCH)/bin/python -m tests.benchmarks.poison
	@$(VENV_BENCH)/bin/python -m tests.benchmarks.pace --seconds 10

bench-page: $(VENV_BENCH)/.installed ## measure again what docs/benchmarks.md shows, or the part that BENCH_ARGS names
	@$(VENV_BENCH)/bin/python -m tests.benchmarks.page $(BENCH_ARGS)

# The first line says which version of whose list it is; one name a line shows what has come and gone.
tlds_file = $(wildcard $(addprefix airflow_provider_iterable/sandbox/,tlds.txt */tlds.txt))
tlds: ## replace the top-level domains that the sandbox knows by IANA's of today (needs the internet)
	@new=$$(mktemp) && trap 'rm -f "$$new"' EXIT && curl -fsSL -o "$$new" '$(TLDS_URL)' && \
	head -n 1 "$$new" | grep -q '^# Version' && [ $$(wc -l < "$$new") -gt 1000 ] || \
	  { echo "$(TLDS_URL) gave no list of top-level domains." >&2; exit 1; }; \
	{ echo "# IANA's list ($(TLDS_URL)): $$(head -n 1 "$$new" | cut -c 3-)"; \
	  tail -n +2 "$$new" | tr A-Z a-z; } > $(tlds_file)
	@head -n 1 $(tlds_file)

build: $(dev_stamp) ## sdist and wheel in dist/
	$(call install,$(VENV),build)
	@$(python) -m build --outdir dist .

clean: ## remove environments, caches and builds
	rm -rf $(VENV) $(VENV_MATRIX) $(VENV_BENCH) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache \
	  .import_linter_cache
	rm -rf docs/examples docs/project docs/reference
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments. The stamps make a second call cheap; a changed pyproject.toml installs again.

# For the matrix this is Python and uv; it makes the environments of its rows by itself.
$(VENV)/.created $(VENV_BENCH)/.created $(VENV_MATRIX)/.created:
	$(call make-venv,$(@D),$(pythons),$(current),3.11 to 3.14)

$(VENV)/.installed-demo: pyproject.toml | $(VENV)/.created
	@echo "Installing Airflow and the provider into $(@D) ..."
	$(call install,$(@D),-e '.[demo]')
	@touch $@

$(dev_stamp): pyproject.toml | $(VENV)/.created
	@echo "Installing [$(EXTRAS)] into $(@D) ..."
	$(call install,$(@D),-e '.[$(EXTRAS)]')
ifeq ($(with_mysql),)
	$(call install,$(@D),--no-deps '$(mysql_provider)')
endif
	@touch $@

$(VENV_BENCH)/.installed: pyproject.toml | $(VENV_BENCH)/.created
	@echo "Installing [bench] into $(@D) ..."
	$(call install,$(@D),-e '.[bench]')
	@touch $@
