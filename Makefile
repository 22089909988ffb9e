# Every chore, one word each. ARGS passes more: make serve ARGS="--port 8001", make test ARGS="-k scheduler".
.PHONY: help serve test long check parity conformance surface mutants sanitize emulated bench wheels clean

help: ## what the words mean
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

serve: ## install what is missing, then serve the embedded model on 127.0.0.1:8000
	@ci/install serve
	@exec .venv/bin/jackfield serve $(ARGS)

test: ## install what is missing, then the tests that every change runs
	@ci/install test
	@ci/test $(ARGS)

long: ## the tests that take minutes each
	@ci/install test
	@.venv/bin/python -m pytest -q -m long $(ARGS)

check: ## ruff, mypy, clang-format, import-linter
	@ci/install test
	@ci/check

parity: ## tokens compared with Hugging Face generate
	@ci/install test
	@.venv/bin/python -m pytest -q -m parity $(ARGS)

conformance: ## the kit that any platform and attention backend must pass, on the CPU and on the strict device
	@ci/install test
	@.venv/bin/jackfield conformance cpu --model-parity $(ARGS)
	@.venv/bin/jackfield conformance strict --model-parity $(ARGS)

surface: ## write down the SDK's public names anew, after a change to them that is meant
	@ci/install test
	@.venv/bin/python tests/architecture/test_sdk_surface.py

mutants: ## break the reference mechanically, and write down what the conformance kit finds: docs/conformance_mutants.md
	@ci/install test
	@.venv/bin/python tests/conformance/mutants.py

sanitize: ## the CPU kernels' tests on a library with GCC's address and undefined-behaviour sanitizers
	@ci/install test
	@ci/sanitize $(ARGS)

emulated: ## the CPU kernels' tests as Haswell and aarch64, and products as ppc64le, by qemu: ARGS=haswell for one
	@ci/install test
	@ci/emulated $(ARGS)

bench: ## offline throughput of the embedded model, then the host's share of a step
	@ci/install serve
	@.venv/bin/jackfield bench offline $(ARGS)
	@.venv/bin/jackfield bench host

wheels: ## all wheels, into dist/
	@ci/install test
	@.venv/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist \
		./platforms ./attention_backends ./quantization ./core ./gpu ./xla ./plugins/*/
	@ls dist

clean: ## remove what the other words made, .venv included
	rm -f plugins/cpu/jackfield_cpu/*.so
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
