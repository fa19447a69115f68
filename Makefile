# `make` or `make help` lists what there is. Everything is built in release mode, once, outside the checkout.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export FILSTAR_CACHE ?= $(HOME)/.cache/filstar
export CARGO_TARGET_DIR ?= $(FILSTAR_CACHE)/target

.PHONY: help demo test check soak bench bench-sealing bench-planner cluster cluster-down params images crds clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | column -t -s '|'
	@echo
	@echo "Programs, parameters and images are kept in FILSTAR_CACHE (now $(FILSTAR_CACHE))."
	@echo "With KUBECONFIG set, the demo uses that cluster instead of a local one (FILSTAR_REGISTRY: where its images go)."

demo: ## From nothing to two proven sectors on a local cluster with a chain of its own (root or sudo)
	@deploy/demo/run

check: ## What one runs all day: format, lints, unit tests, generated files, charts (no root, no cluster)
	@scripts/check

test: ## Everything that must hold: check, licences, and the end-to-end tests on a real cluster (root or sudo)
	@scripts/test

soak: ## What takes long: the engine killed 200 times in each step, the kernels under the address sanitizer
	@scripts/soak

bench: bench-sealing bench-planner ## All benchmarks: the kernels, and the seal of one 2 KiB sector step by step
	@scripts/bench

bench-sealing: ## Our kernels and the stock library's side by side; target/bench/sealing.json (FILSTAR_BENCH_SIZE, _ONLY)
	@scripts/bench-sealing

bench-planner: ## Times of the planner on a large world, and how well servers are packed; target/bench/planner.json
	@scripts/bench-planner

cluster: ## Start the local two-node Kubernetes; then: eval "$$(tests/cluster/env)"
	@tests/cluster/up

cluster-down: ## Stop it and leave nothing behind
	@tests/cluster/down

params: ## Make or check the Groth16 parameters of 2 KiB sectors (13 minutes the first time)
	@scripts/params

images: ## Build the programs and their images, and load them into the local cluster if one runs
	@scripts/images

crds: ## Write the YAML of the kinds from their types
	@scripts/crds

clean: ## Remove what was built for this checkout; the cluster's programs and the parameters stay
	cargo clean
	rm -rf "$(FILSTAR_CACHE)/images" 2>/dev/null || sudo rm -rf "$(FILSTAR_CACHE)/images"
