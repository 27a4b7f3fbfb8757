# make book: set up, train what is missing, build the site.   make test: set up, check everything.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11 python,$(shell $(p) -c \
	'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
SCALE ?= laptop
PORT ?= 8000
# Results under results/ and the working ledger decide what is trained; REPRO_DATA says where MNIST lies.

.PHONY: book test setup lab serve notebooks bench advice lint clean
book: setup
	@$(BIN)/repro build --scale $(SCALE) $(if $(REPOSITORY),--repository $(REPOSITORY))

test: setup lint
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

setup: .venv/installed

.venv/installed: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed, and none is on the PATH; \
	install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "setting up .venv with $(PYTHON) (once; a minute or more and 6.5 GB, most of it PyTorch)"
	@$(PYTHON) -m venv --clear .venv
	@{ $(PIP) uv==0.13.8 && \
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --cache-dir .venv/uv --requirement requirements.txt; } || { \
	echo "uv, which is quick, could not; trying pip, which takes some minutes"; \
	$(PIP) --requirement requirements.txt; }
	@rm -rf .venv/uv
	@$(PIP) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q src # once, also where Python is told to write no bytecode
	@touch $@

lab: setup
	@$(BIN)/jupyter lab notebooks

serve:
	@test -f _build/site/index.html || { echo "error: no site yet; run 'make book' first"; exit 1; }
	@$(BIN)/python -c "import socket; socket.socket().bind(('127.0.0.1', $(PORT)))" 2>/dev/null || { \
	echo "error: port $(PORT) cannot be used; choose another: make serve PORT=8001"; exit 1; }
	@echo "the site is at http://localhost:$(PORT)/ (Ctrl-C ends it)"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/site $(PORT)

notebooks: setup
	@$(BIN)/repro refresh

bench: setup
	@$(BIN)/python benchmarks/bench.py --json benchmarks/bench.json

advice: setup
	@$(BIN)/python benchmarks/examples.py

clean:
	rm -rf .venv _build build .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
