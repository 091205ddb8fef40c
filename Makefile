# make run     the whole product on this machine, with a database of its own
# make test    every check and every test;  make test PG=15  those of a database, few cases of each, on that one
# make coverage   the same, counted;  PG=15  every test on that PostgreSQL
# make bench   how fast it is;  QUICK=1  a rehearsal,  ONLY=pages,http  some figures,  URL=...  on a server of yours
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Compiled modules are kept: whatever starts `vanguard`, as many tests do, would compile all of it each time.
unexport PYTHONDONTWRITEBYTECODE

FIND_PG = for dir in /usr/lib/postgresql/$(PG)/bin "$$(pg_config --bindir 2>/dev/null)"; do \
		if "$$dir/postgres" --version 2>/dev/null | grep -q ') $(PG)[^0-9]'; then echo "$$dir"; exit 0; fi; \
	done; echo >&2 "No PostgreSQL $(PG) here: neither /usr/lib/postgresql/$(PG)/bin nor pg_config leads to one."; exit 1

.DEFAULT_GOAL := run
.DELETE_ON_ERROR:
.PHONY: run venv test coverage check-install bench bench-micro pg-bindir format requirements clean

# The pins are complete: nothing is resolved at installation, and `pip check` says whether that is so. pip fetches
# everything before it changes anything, so an environment that was ready is ready still when it cannot fetch.
FETCH = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	-r requirements/dev.txt
NOT_FETCHED = The packages were not installed. If the package index cannot be reached, name one that can \
	(PIP_INDEX_URL=https://...) or a proxy (HTTPS_PROXY=http://...), and run make again. All that pip said: .venv/pip.log

define INSTALL
@[ ! -e $(READY) ] || mv -f $(READY) $(READY).before
@echo '$(FETCH)'
@$(FETCH) 2>.venv/pip.log || { \
	sed -n '/^WARNING/{p;q;}' .venv/pip.log; grep -v '^WARNING' .venv/pip.log | tail -n 8; echo '$(NOT_FETCHED)'; \
	[ ! -e $(READY).before ] || mv -f $(READY).before $(READY); \
	exit 1; } >&2
$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
$(BIN)/python -m pip check --disable-pip-version-check
@touch $(READY)
endef

run: $(READY)
	@exec $(BIN)/vanguard dev

venv: $(READY)

$(READY): pyproject.toml requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo >&2 "Vanguard needs Python 3.11 or later; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo >&2 "This Python cannot make environments. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@[ -e $@ ] || rm -rf .venv # what an earlier call left half made
	$(PYTHON) -m venv .venv
	$(INSTALL)

# Two processes: a test that leaks into another shows, and two cores are what everybody has. RERUNS=1: what fails once
# and not again is told as RERUN, and fails nothing.
PYTEST = $(BIN)/pytest -n 2 $(if $(RERUNS),--reruns $(RERUNS))
coverage: PYTEST += --cov
# A time is told where nothing else runs, and nothing counts; a machine that others use, too, may try three times.
TIMED = $(BIN)/pytest -m timed --reruns 2
ifeq ($(PG),)
test coverage: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m 'not timed'
	$(TIMED)
	$(BIN)/pytest --benchmark-disable --quiet benchmarks/micro
else
test: PYTEST += -m 'database and not timed'
test coverage: $(READY)
	@bindir="$$($(FIND_PG))" && \
		echo "PostgreSQL $(PG) in $$bindir" && \
		VANGUARD_TEST_PG_BINDIR="$$bindir" $(PYTEST)
endif

bench: $(READY)
	@exec $(BIN)/vanguard bench $(if $(QUICK),--quick) $(if $(ONLY),--only '$(ONLY)') $(if $(URL),--url '$(URL)')

# Times of single functions; `make test` runs each of them once, untimed.
bench-micro: $(READY)
	$(BIN)/pytest benchmarks/micro --benchmark-max-time=0.5 --benchmark-columns=median,iqr,rounds

# The real packages from the real index, in empty environments, with each Python that is supported and here.
check-install: $(READY)
	VANGUARD_TEST_INDEX=1 $(BIN)/pytest tests/test_install.py -k real

# Where the server of PG=<major version> is; fails where it is not installed.
pg-bindir:
	@$(FIND_PG)

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# One resolution for every platform and Python from 3.11 on; UPGRADE=--upgrade takes newer versions.
COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links $(UPGRADE)

# By the environment that is there: a new one would miss what pyproject.toml asks for by now.
requirements: $(if $(wildcard $(BIN)/uv),,$(READY))
	$(COMPILE) --extra dev --output-file requirements/dev.txt
	$(COMPILE) --constraint requirements/dev.txt --output-file requirements/runtime.txt
	$(INSTALL)

clean:
	rm -rf .venv build dist *.egg-info .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis .schemathesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
