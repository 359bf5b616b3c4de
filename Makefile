# Try it: make demo. Test it: make test. `make help` lists every target.
# Needs Python 3.11 or later, git and make; everything else goes into .venv.

PYTHON ?= python3
# seconds that the demo serves before it ends by itself
DEMO_SECONDS ?= 60
# seconds that each target of `make fuzz` gets
FUZZ_SECONDS ?= $(if $(SHORT),1,300)
# processes that run tests; for `make test` one more than processors, as tests wait for a third of their time
JOBS ?= auto
# where `make install` puts the program and its manual pages
PREFIX ?= /usr/local

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
MANUALS := man/snapmirror.1 man/snapmirror.toml.5 man/snapmirror-store.7
# programs that tests use if they are there, each with the Debian package that has it
DEBIAN := apache2:apache2 chromium:chromium curl:curl mandoc:mandoc nginx:nginx-light openssl:openssl rsync:rsync strace:strace

.PHONY: help
help:
	@echo 'make demo      mirror a small channel and two projects of PyPI, and serve them for $(DEMO_SECONDS) s (DEMO_SECONDS=n)'
	@echo 'make test      run the tests (JOBS=n: in n processes; TESTS=tests/test_x.py: only these)'
	@echo 'make slow      run the quick forms of measurements, and a real history of 149 versions, which make test leaves out'
	@echo 'make browser   do all that the pages are for in Chromium: phone and wide, light and dark, two languages, with and without script'
	@echo 'make objects   run the tests of stores of objects, on moto and on a gateway of Ceph'
	@echo 'make objects-races  four writers and two gcs at once on a gateway of Ceph, ROUNDS=$(ROUNDS) (SHORT=1: 5)'
	@echo 'make fleet     play a day of 50 clients and an index that fails one time in twenty, on a clock of its own'
	@echo 'make faults    try a bad index, crowds of clients, kills and a full disk on snapmirror and on other proxies'
	@echo 'make chaos     mirror a bad upstream with snapmirror and with other programs, while a client installs'
	@echo 'make races     do everything at once on one store, against a model, for RACES_SECONDS=$(RACES_SECONDS) s (SHORT=1: less)'
	@echo 'make soak      hold 2,000 connections during syncs and gcs, for SOAK_SECONDS=$(SOAK_SECONDS) s (SHORT=1: less)'
	@echo 'make crash     kill every command, and let calls fail, at every step (SHORT=1: a sample, in a minute or two)'
	@echo 'make power     cut the power after every call of every command, on a model of a file system (SHORT=1: in a minute or two)'
	@echo 'make long      run the long forms of tests: every file of a mirror to adopt, every version of a channel'
	@echo 'make rot       change a thousand files of a store at random: all found, mended, and never served (SHORT=1: sixteen)'
	@echo 'make mutants   make lines of store/ and sync/ wrong, and see which tests notice (MUTANTS="gc seal": of these modules)'
	@echo 'make fuzz      look for bytes that break a parser (SHORT=1: a second for each; FUZZ_SECONDS=n; FUZZ="repodata path": only these)'
	@echo 'make check     check lint, format, types and the order of layers'
	@echo 'make bench     measure against other programs (BENCH=--quick for a short run, BENCH=NAME for one)'
	@echo 'make man       check the manual pages, and render them to build/man as HTML'
	@echo 'make docs      build the documentation site in build/site, strictly, and check its links'
	@echo 'make install   install below PREFIX ($(PREFIX)): lib/snapmirror, bin/snapmirror, share/man'
	@echo 'make uninstall remove what make install has put there'
	@echo 'make clean     remove what make has made in this folder'

# The environment -----------------------------------------------------------------------------------------------------

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'snapmirror needs Python 3.11 or later; `$(PYTHON)` is older. Name another: make PYTHON=python3.12'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo '`$(PYTHON)` has no venv. On Debian and Ubuntu it is a package of its own: apt-get install python3-venv'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: pyproject.toml | $(VENV)/made
	$(PIP) install --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/made
	$(PIP) install --editable '.[test]'
	@touch $(VENV)/installed $@

$(VENV)/installed-bench: pyproject.toml | $(VENV)/made
	$(PIP) install --editable '.[test,bench]'
	@touch $(VENV)/installed $(VENV)/installed-test $@

$(VENV)/installed-mutants: pyproject.toml | $(VENV)/made
	$(PIP) install --editable '.[test,mutants]'
	@touch $(VENV)/installed $(VENV)/installed-test $@

$(VENV)/installed-fuzz: pyproject.toml | $(VENV)/made
	$(PIP) install --editable '.[test,fuzz]'
	@touch $(VENV)/installed $(VENV)/installed-test $@

# Debian packages for tests and measurements, as root on Debian only. What can't be had is no failure: what needs it skips, and
# names the program.
$(VENV)/debian: PACKAGES = $(DEBIAN)
$(VENV)/debian-bench: PACKAGES = $(DEBIAN) wrk:wrk restic:restic
$(VENV)/debian-objects: PACKAGES = ceph-mon:ceph-mon ceph-osd:ceph-osd ceph:ceph-common radosgw:radosgw uuidgen:uuid-runtime curl:curl
$(VENV)/debian $(VENV)/debian-bench $(VENV)/debian-objects: | $(VENV)/made
	@if [ "$$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; then \
		missing=; \
		for pair in $(PACKAGES); do \
			PATH="$$PATH:/usr/sbin:/sbin" command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair#*:}"; \
		done; \
		if [ -n "$$missing" ]; then \
			echo "installing the Debian packages$$missing"; \
			export DEBIAN_FRONTEND=noninteractive; \
			policy=/usr/sbin/policy-rc.d; \
			if [ ! -e $$policy ]; then \
				trap "rm -f $$policy" EXIT; \
				printf '#!/bin/sh\nexit 101\n' >$$policy; chmod +x $$policy; \
			fi; \
			apt="apt-get -qq -o Dpkg::Use-Pty=0"; \
			$$apt install --no-install-recommends -y $$missing </dev/null >/dev/null 2>&1 || \
				{ $$apt update </dev/null && $$apt install --no-install-recommends -y $$missing </dev/null >/dev/null; } || \
				echo "could not install$$missing: what needs them will skip"; \
		fi; \
	fi
	@touch $@

# What there is to do -------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/installed
	@$(BIN)/python examples/demo.py --seconds $(DEMO_SECONDS)

TESTS ?= tests
.PHONY: test
test: $(VENV)/installed-test $(VENV)/debian
	$(BIN)/python -m pytest --numprocesses $(patsubst auto,$(shell expr $$(getconf _NPROCESSORS_ONLN) + 1),$(JOBS)) \
		-m 'not long and not proof and not objects and not slow' $(TESTS)

.PHONY: slow
slow: $(VENV)/installed-test $(VENV)/debian
	$(BIN)/python -m pytest --numprocesses $(JOBS) -m 'slow and not long' tests

# pictures of all pages are left in build/pages
.PHONY: browser
browser: $(VENV)/installed-test $(VENV)/debian
	@mkdir -p build/pages
	SNAPMIRROR_PICTURES=build/pages $(BIN)/python -m pytest --numprocesses $(JOBS) tests/test_browser.py

.PHONY: long
long: $(VENV)/installed-test $(VENV)/debian
	SNAPMIRROR_LONG=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --timeout 3600 \
		tests/test_adopt.py tests/test_real_data.py

# of a store of objects: on moto, and on a gateway of Ceph where that can be installed
.PHONY: objects
objects: $(VENV)/installed-test $(VENV)/debian-objects
	SNAPMIRROR_OBJECTS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) -rs tests/test_remote.py

ROUNDS ?= $(if $(SHORT),5,1000)
.PHONY: objects-races
objects-races: $(VENV)/installed-test $(VENV)/debian-objects
	$(BIN)/python tests/races_objects.py --rounds $(ROUNDS)

# What tries to break the promises (docs/proof.md); SHORT=1: a sample of each, which CI runs
SHORT ?=
LONG := $(if $(SHORT),,1)
PROOF = SNAPMIRROR_LONG=$(LONG) $(BIN)/python -m pytest --numprocesses $(JOBS) --timeout 3600 $(if $(SHORT),-m 'not long')
# seconds
RACES_SECONDS ?= $(if $(SHORT),40,1800)
SOAK_SECONDS ?= $(if $(SHORT),40,1800)

.PHONY: crash
crash: $(VENV)/installed-test $(VENV)/debian
	PYTHONPATH=tests $(BIN)/python tests/crashes.py $(if $(SHORT),--kills 8 --errors 1 --strace 1)
	$(PROOF) -m 'proof$(if $(SHORT), and not long)' tests/test_crash.py tests/test_killed.py tests/test_small_disk.py tests/test_adopt.py

.PHONY: power
power: $(VENV)/installed-test
	@mkdir -p build
	@rm -f build/power.txt
	SNAPMIRROR_TABLE=$(CURDIR)/build/power.txt $(PROOF) tests/test_power.py
	@printf '%-28s %7s %7s %10s\n' command calls states violations
	@sort build/power.txt
	@awk '{ states += $$(NF-1); bad += $$NF } END { printf "%-28s %7s %7d %10d\n", "in all", "", states, bad }' build/power.txt

.PHONY: races
races: $(VENV)/installed-test
	$(BIN)/python tests/races.py --seconds $(RACES_SECONDS)
	$(PROOF) tests/test_races.py tests/test_sequences.py

.PHONY: soak
soak: $(VENV)/installed-test
	$(BIN)/python tests/soak.py --seconds $(SOAK_SECONDS)

.PHONY: rot
rot: $(VENV)/installed-test
	@mkdir -p build
	SNAPMIRROR_TABLE=$(CURDIR)/build/rot.txt $(PROOF) --numprocesses 0 tests/test_rot.py
	@printf '%-16s %8s %8s %8s\n' files damaged told silent
	@cat build/rot.txt

.PHONY: fuzz
fuzz: $(VENV)/installed-fuzz
	$(BIN)/python tests/fuzz/run.py $(FUZZ_SECONDS) $(if $(SHORT),1,0) $(FUZZ)

# of what was last committed; which tests run what is found out once a commit, and mutants that were tried are not tried again
MUTANTS ?= --most 300
.PHONY: mutants
mutants: folder := build/mutants/$(shell git rev-parse --short HEAD)
mutants: $(VENV)/installed-mutants $(VENV)/debian
	@test -e $(folder)/map.json || $(BIN)/python -P tests/mutation map $(folder)
	$(BIN)/python -P tests/mutation run $(folder) $(MUTANTS)
	$(BIN)/python -P tests/mutation report $(folder)

.PHONY: fleet
fleet: $(VENV)/installed-test
	SNAPMIRROR_LONG=1 $(BIN)/python -m pytest -s --numprocesses 0 tests/test_fleet.py

.PHONY: faults
faults: $(VENV)/installed-bench $(VENV)/debian-bench
	$(BIN)/python -m bench.faults

.PHONY: chaos
chaos: $(VENV)/installed-test $(VENV)/debian
	$(BIN)/python -m pytest -s --numprocesses 0 -m long tests/test_chaos.py

.PHONY: check
check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini tests bench examples
	$(BIN)/python -m pytest --quiet tests/test_layers.py

.PHONY: bench
bench: $(VENV)/installed-bench $(VENV)/debian-bench
	$(BIN)/python -m bench $(BENCH)

.PHONY: man
man:
	@command -v mandoc >/dev/null || { echo 'mandoc is missing; on Debian and Ubuntu: apt-get install mandoc'; exit 1; }
	mandoc -T lint -W warning $(MANUALS)
	@mkdir -p build/man
	@for page in $(MANUALS); do mandoc -T html -O toc $$page >build/man/$${page##*/}.html || exit 1; done
	@echo 'rendered to build/man; to read one in a terminal: man ./man/snapmirror.1'

.PHONY: docs
docs: $(VENV)/installed-test $(VENV)/debian
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m pytest --quiet tests/test_site.py

.PHONY: install
install:
	$(PYTHON) -m venv $(PREFIX)/lib/snapmirror
	$(PREFIX)/lib/snapmirror/bin/python -m pip --quiet --disable-pip-version-check --no-input install .
	mkdir -p $(PREFIX)/bin
	ln -sf ../lib/snapmirror/bin/snapmirror $(PREFIX)/bin/snapmirror
	for page in $(MANUALS); do \
		mkdir -p $(PREFIX)/share/man/man$${page##*.} && cp $$page $(PREFIX)/share/man/man$${page##*.}/ || exit 1; \
	done

.PHONY: uninstall
uninstall:
	rm -rf $(PREFIX)/lib/snapmirror
	rm -f $(PREFIX)/bin/snapmirror
	for page in $(MANUALS); do rm -f $(PREFIX)/share/man/man$${page##*.}/$${page##*/}; done

.PHONY: clean
clean:
	rm -rf $(VENV) build dist snapmirror.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find snapmirror tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
