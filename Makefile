PYTHON = .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup demo test check fmt bench docs peers guest fuzz lock clean

help:   ## what can be made
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */\1\t/' | expand -t 10

setup:  ## the virtual environment, locked dependencies and the few Debian packages
	@scripts/setup.sh

demo: setup  ## run the main job in a little internet of its own
	@$(PYTHON) -m examples.demo

test: setup  ## pass the tests
	@$(PYTHON) -m pytest -n 4 --dist worksteal $(TESTS)

check: setup  ## ruff, mypy --strict, import contracts
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

fmt: setup  ## format the code
	@.venv/bin/ruff check --fix-only . && .venv/bin/ruff format .

bench: peers  ## every benchmark, written to docs/performance.md
	@$(PYTHON) -m benchmarks --all --write docs/performance.md

docs: setup  ## the reference, from docstrings, into docs/reference
	@$(PYTHON) scripts/reference.py

peers:  ## install the programs that tests and benchmarks compare with
	@scripts/setup.sh peers

guest: setup  ## the tests that want another kernel, in an emulated machine (apt install qemu-system-x86)
	@scripts/guest-kernel.sh
	@$(PYTHON) -m tests.support.guest $(PYTHON) -m pytest -q -p no:cacheprovider --timeout 300 \
		tests/netns/test_kernel_wireguard.py

fuzz: setup  ## each fuzz entry for a minute
	@$(PYTHON) -m tests.fuzz --seconds 60

lock: setup  ## renew the locked dependencies
	@.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
		--group dev pyproject.toml -o requirements/dev.lock

clean:  ## remove what make made
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
