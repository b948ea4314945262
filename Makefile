# Everything a newcomer needs: `make run` to see it work, `make test` to test it. Each target installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST ?= $(BIN)/python -m pytest
# tests run side by side: most of them wait
LANES ?= 2

.PHONY: help run demo test test-long lint verify generate lock bench score score-cluster runs mutate format cluster cluster-down cluster-kind clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.installed servers-run  ## probe a real Redis and etcd until Ctrl-C
	@PYTHONPATH=. $(BIN)/python examples/demo/demo.py

demo: $(VENV)/.installed servers-run  ## the same, unattended: faults come and go, each is seen; under a minute
	@PYTHONPATH=. $(BIN)/python examples/demo/demo.py --unattended

test: $(VENV)/.installed servers  ## all tests, on real servers
	$(PYTEST) --numprocesses $(LANES) --no-loadscope-reorder

test-long: $(VENV)/.installed servers  ## all tests, the long ones too
	$(PYTEST) -m 'long or not long'

lint: $(VENV)/.installed  ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: $(VENV)/.installed  ## write the CRDs and the reference anew
	$(BIN)/python hack/generate.py

verify: $(VENV)/.installed  ## fail when the CRDs or the reference are stale
	$(BIN)/python hack/generate.py --check

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url
lock: $(VENV)/.installed  ## pin what the image is made of; UPGRADE=--upgrade takes the newest
	$(LOCK) $(UPGRADE) pyproject.toml -o requirements.lock
	$(LOCK) $(UPGRADE) --group build -o requirements-build.lock

bench: $(VENV)/.installed servers  ## CPU, memory and lateness, beside the bare floor
	$(BIN)/python -m bench

score: $(VENV)/.installed servers  ## break a PlaceOS in 45 ways and write how right the diagnosis was; 20 minutes
	PYTHONPATH=operator:. $(BIN)/python -m tests.scenarios --write docs/diagnosis-score.md

score-cluster: $(VENV)/.installed servers  ## the same in pods of a real cluster, the operator in its own; 25 minutes
	BACKENDHEALTH_SCORE=docs/diagnosis-score-cluster.md $(PYTEST) tests/e2e/test_placeos.py -m long

runs: $(VENV)/.installed servers  ## kill the operator 200 times while it acts, on a real cluster: nothing happens twice; 15 minutes
	PYTHONPATH=operator:. $(BIN)/python -m tests.actions.many --write docs/at-most-once.md

mutate: $(VENV)/.installed servers  ## turn each reason's detection off in turn: a test must fail
	$(BIN)/python -m tests.mutation

cluster: $(VENV)/.installed servers-cluster  ## a real Kubernetes with one node, started in seconds, until cluster-down
	@$(BIN)/python -m tests.cluster up

cluster-down:  ## end it
	@$(BIN)/python -m tests.cluster down

cluster-kind: $(VENV)/.installed servers-cluster  ## the same with kind and Docker, and the images that the tests use
	kind create cluster --name backendhealth
	docker build --tag localhost/backendhealth:e2e .
	@$(BIN)/python -m tests.cluster images $(VENV)/kind-images --without-product
	for image in $(VENV)/kind-images/*.tar; do kind load image-archive --name backendhealth "$$image" || exit 1; done
	kind load docker-image --name backendhealth localhost/backendhealth:e2e

.PHONY: servers servers-run servers-cluster
servers: $(VENV)/.installed
	@PYTHON=$(BIN)/python hack/install-servers.sh all

servers-run: $(VENV)/.installed
	@PYTHON=$(BIN)/python hack/install-servers.sh run

servers-cluster: $(VENV)/.installed
	@PYTHON=$(BIN)/python hack/install-servers.sh cluster

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up $(VENV) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
