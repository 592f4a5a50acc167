# make help: what there is.
#
# Two virtual environments, since the pins of Label Studio and of this project clash:
#   .venv               this project (editable), with its test tools once a test was asked for
#   .venv-label-studio  Label Studio, for the demo and the end-to-end tests
# Stamps inside them make a second run free; a changed setup.cfg or constraints file installs again.

PYTHON       = python3.11
STATE        = .demo
PORT         = 8080
BACKEND_PORT = 9090
BROWSER      = no
unexport STATE PORT BACKEND_PORT BROWSER

SHELL       = bash
.SHELLFLAGS = -euo pipefail -c
.DEFAULT_GOAL = help
.ONESHELL:
.PHONY: help demo test lint audit format soak docker-check clean chromium podman

APP          = .venv
AUDIT        = .venv-audit
STUDIO       = .venv-label-studio
APP_READY    = $(APP)/.ready
TEST_READY   = $(APP)/.ready-test
STUDIO_READY = $(STUDIO)/.ready
CHROMIUM     = /usr/bin/chromium
SCREENSHOTS  = .screenshots
PIP_FLAGS    = -qq --disable-pip-version-check
AGAIN        = $(MAKE) --no-print-directory# not $(MAKE) itself, or `make -n test` would run it

# Run a phase and say how long it took: $(call phase,NAME,COMMAND)
define phase
echo "== $(1)"; began=$$(date +%s); $(2); echo "== $(1): $$(( $$(date +%s) - began )) s"
endef

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
	echo "Settings of demo: STATE=$(STATE) PORT=$(PORT) BACKEND_PORT=$(BACKEND_PORT) BROWSER=no|yes"

demo: $(APP_READY) $(STUDIO_READY) ## Label Studio with this backend and 24 pictures, until Ctrl-C
	@exec $(APP)/bin/dgan-backend demo --state "$(STATE)" --port "$(PORT)" \
	    --backend-port "$(BACKEND_PORT)" --browser "$(BROWSER)" \
	    --label-studio-python $(STUDIO)/bin/python

test: ## everything CI runs: set-up, lint, types, quick tests, end-to-end tests
	@$(call phase,set-up,$(AGAIN) $(TEST_READY) $(STUDIO_READY) chromium)
	$(call phase,lint,$(AGAIN) lint)
	mkdir -p $(SCREENSHOTS)
	echo "== quick tests, 2 side by side"
	$(APP)/bin/pytest -n 2 --dist loadfile
	echo "== end-to-end tests"
	LABEL_STUDIO_PYTHON=$(STUDIO)/bin/python CHROMIUM=$(CHROMIUM) \
	    SCREENSHOT_DIR=$(SCREENSHOTS) $(APP)/bin/pytest -m e2e

lint: $(TEST_READY) ## ruff and mypy
	@$(APP)/bin/ruff check .
	$(APP)/bin/ruff format --check .
	$(APP)/bin/mypy

# With what a user gets, into an environment of its own: its pins clash with ours. What is left out
# and why: docs/security.md.
# --strict: a pin about which there was no answer is a failure, and not, as without it, no hole.
audit: $(AUDIT)/bin/pip-audit ## known holes in what we depend on (asks PyPI's database)
	@$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r constraints.txt \
	    $$(sed -n 's/^| `\(PYSEC-[^`]*\|CVE-[^`]*\|GHSA-[^`]*\)`.*/--ignore-vuln \1/p' docs/security.md) \
	|| {
	    echo "make audit failed. Holes are in a table above, with the release that mends each." >&2
	    echo "Where there is none but 'could not be audited' or a lost connection, nothing was" >&2
	    echo "audited: https://pypi.org/pypi/NAME/VERSION/json gave no answer here." >&2
	    exit 1
	}

$(AUDIT)/bin/pip-audit:
	@$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install $(PIP_FLAGS) 'pip-audit==2.10.1'

format: $(TEST_READY) ## let ruff rewrite what it can
	@$(APP)/bin/ruff check --fix .
	$(APP)/bin/ruff format .

soak: $(TEST_READY) $(STUDIO_READY) chromium ## the long tests
	@LABEL_STUDIO_PYTHON=$(STUDIO)/bin/python CHROMIUM=$(CHROMIUM) $(APP)/bin/pytest -m soak

# TORCH_INDEX is handed to the image's build where it is set: an index that has torch for CPUs.
docker-check: $(TEST_READY) podman ## build the images and run compose.yaml, with Podman (root)
	@$(APP)/bin/python docker/check/check.py

clean: ## remove the environments, the demo's state and every build product
	@rm -rf $(APP) $(STUDIO) $(AUDIT) $(STATE) $(SCREENSHOTS) build dist *.egg-info .pytest_cache \
	    .mypy_cache .ruff_cache .hypothesis .soak
	find . -name __pycache__ -prune -not -path '*/node_modules/*' -exec rm -rf {} +

chromium:
	@if [ -x $(CHROMIUM) ]; then exit 0; fi
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	    echo "The end-to-end tests need Chromium at $(CHROMIUM). As root: apt-get install chromium" >&2
	    echo "(or name another: make test CHROMIUM=/path/to/chromium)" >&2
	    exit 2
	fi
	echo "Installing Chromium with apt (about 1 minute)"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends chromium >/dev/null

podman:
	@needed="podman crun netavark aardvark-dns iptables catatonit debootstrap iproute2"
	if dpkg-query --show $$needed >/dev/null 2>&1; then exit 0; fi
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	    echo "make docker-check runs as root, on Debian 12." >&2
	    exit 2
	fi
	echo "Installing Podman and debootstrap with apt (about 1 minute)"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends $$needed >/dev/null

$(APP)/bin/python $(STUDIO)/bin/python:
	@command -v $(PYTHON) >/dev/null || {
	    echo "$(PYTHON) is not installed (or name another: make PYTHON=python3.12 ...)" >&2; exit 2; }
	$(PYTHON) -m venv $(@:/bin/python=) || {
	    echo "$(PYTHON) cannot make virtual environments. On Debian: apt-get install python3-venv" >&2
	    rm -rf $(@:/bin/python=); exit 2; }

$(APP_READY): setup.cfg pyproject.toml constraints.txt | $(APP)/bin/python
	@echo "Installing dgan-backend into $(APP) (the first time about 2 minutes)"
	$(APP)/bin/python -m pip install $(PIP_FLAGS) -c constraints.txt -e .
	touch $@

$(TEST_READY): $(APP_READY)
	@echo "Installing the test tools into $(APP) (the first time about 1 minute)"
	$(APP)/bin/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[test]'
	touch $@

$(STUDIO_READY): constraints-label-studio.txt | $(STUDIO)/bin/python
	@echo "Installing Label Studio into $(STUDIO) (the first time about 2 minutes)"
	$(STUDIO)/bin/python -m pip install $(PIP_FLAGS) -c constraints-label-studio.txt label-studio
	touch $@
