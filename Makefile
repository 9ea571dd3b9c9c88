# Two commands set a fresh machine up: `make demo` and `make test`. They need Python 3.11-3.13, pip and make.
#
#   make demo                       from nothing to a served recommender on the built-in shop; Ctrl-C stops it
#   make demo ONCE=1                the same, but stops after one answered request
#   make demo CONFIG=configs/bestbuy.toml DATA=DIR    on real data; DIR is the folder above the data sets
#   make test                       the whole test suite
#   make test TESTS=tests/serve     the tests of some folders or files, with services and without
#   make test-fast                  without Ray, servers, browsers and slow tests
#   make coverage                   the whole test suite, with branch coverage
#   make lint type fmt              what CI checks; fmt rewrites
#   make mutants                    mutation testing of the modules that pyproject.toml names; docs/testing.md
#   make audit                      known vulnerabilities of the pinned versions (part of lint)
#   make docs                       the documentation, as a web site in site/
#   make typescript                 the TypeScript client, typed by the API as it is now (needs Node.js 20)
#   make bench                      every benchmark that has a small size; the others need data sets

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CONFIG ?= configs/demo.toml
# TXREC_DATA tells tests where the real data sets are; without it those tests are skipped and say so.
DATA   ?=
TESTS  ?=
PROCESSES ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast coverage lint audit type fmt bench docs mutants typescript

help:
	@sed -n 's/^#   //p' Makefile

# constraints.txt pins exact versions; which build of torch comes (CPU, CUDA) is up to pip's own settings.
$(BIN)/txrec: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (Python $$($(PYTHON) -c 'import platform; print(platform.python_version())')), a minute ..."
	@began=$$(date +%s); $(PYTHON) -m venv $(VENV) && \
	 $(BIN)/python -m pip install -q --no-compile -c constraints.txt -e '.[ray]' && touch $@ && \
	 echo "set up in $$(( $$(date +%s) - began )) s"

# Processes of Ray's dashboard keep no bytecode, and machines of the tests see the environment read-only.
$(VENV)/dev: $(BIN)/txrec
	@echo "Installing what tests, lint and type checks need ..."
	@$(BIN)/python -m pip install -q --no-compile -c constraints.txt -e '.[ray,redis,postgres,dev,docs]'
	@$(BIN)/python -m compileall -q -j 0 $$($(BIN)/python -c "import ray; print(*ray.__path__)")
	@touch $@

demo: $(BIN)/txrec
	@$(BIN)/txrec demo $(CONFIG) $(if $(DATA),data.root=$(DATA)) $(if $(ONCE),--once)

# The trained bundle of the tests is kept there, and made anew after a change of the library.
export TXREC_TEST_CACHE ?= $(CURDIR)/.test-cache
# Without bytecode each of the hundreds of processes that the tests start compiles torch, pandas and Gradio again.
unexport PYTHONDONTWRITEBYTECODE

# Both parts run in PROCESSES processes, whole files in each; those of the second start a Ray cluster each.
shared := ray or server or browser or data
pytest := -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(TESTS)

# pytest ends with 5 where it selects nothing: of the TESTS that somebody names, one part may hold none.
none := $(if $(TESTS),5,0)
passed = case "$$first $$second" in "0 0"|"0 $(none)"|"$(none) 0") true;; *) false;; esac

test: $(VENV)/dev
	@$(BIN)/python $(pytest) -m "not ($(shared))"; first=$$?; \
	 $(BIN)/python $(pytest) -m "$(shared)"; second=$$?; $(passed)

test-fast: $(VENV)/dev
	@$(BIN)/python $(pytest) -m "not ($(shared) or slow)"

coverage: $(VENV)/dev
	@$(BIN)/python -m coverage erase; $(BIN)/python -m coverage run $(pytest) -m "not ($(shared))"; first=$$?; \
	 $(BIN)/python -m coverage run $(pytest) -m "$(shared)"; second=$$?; \
	 $(BIN)/python -m coverage combine -q && $(BIN)/python -m coverage xml -q && \
	 $(BIN)/python -m coverage report --skip-covered && $(passed)

# A run goes on where an interrupted one stopped; `mutmut show NAME` prints a survivor.
mutants: $(VENV)/dev
	@OMP_NUM_THREADS=1 $(BIN)/mutmut run; $(BIN)/mutmut results

lint: $(VENV)/dev audit
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/lint-imports

audit: $(VENV)/dev
	@$(BIN)/python .ci/audit.py

type: $(VENV)/dev
	@$(BIN)/mypy

fmt: $(VENV)/dev
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(VENV)/dev
	@for script in $$(grep -l -e '"--small"' bench/*.py); do echo "== $$script"; $(BIN)/python $$script --small || exit 1; done

# NO_MKDOCS_2_WARNING: the theme's notice about a coming major version of MkDocs, which pyproject.toml excludes.
docs: $(VENV)/dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

typescript: $(VENV)/dev
	@cd clients/typescript && npm ci --no-audit --no-fund --silent
	@PYTHONPATH=. $(BIN)/python clients/typescript/openapi.py clients/typescript/openapi.json
	@cd clients/typescript && npm run --silent generate && npm run --silent build
