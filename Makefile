# Every target makes .venv from the lock file by itself; nothing else has to be run first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= simulated
BUNDLE ?= demo/models/shop/1
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help venv demo test lint docs api notebooks bench bench-serving engines lock clean

help:
	@echo "make demo [DATA=simulated|movielens]  raw events to a REST answer"
	@echo "make test                             all tests"
	@echo "make lint                             ruff and mypy"
	@echo "make docs                             the documentation's site, into site/"
	@echo "make api                              renew docs/api.md: a small shop, trained, served and asked"
	@echo "make notebooks                        run the notebooks and keep their outputs"
	@echo "make bench                            the figures of the README"
	@echo "make bench-serving [BUNDLE=DIR]       load and faults against the model server (make demo first)"
	@echo "make engines                          fetch Beam's engines (Flink, Spark, Prism)"
	@echo "make lock                             renew requirements.lock from setup.py"

venv: $(VENV)/.installed

$(VENV)/.installed: requirements.lock setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else f"Python 3.10 to 3.13 is needed, $(PYTHON) is {v[0]}.{v[1]}; say make PYTHON=python3.11 ...")'
	@echo "Installing into $(VENV) (once, about 2 minutes and 3 GB)"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: venv
	$(BIN)/tfrs-shop demo --data $(DATA)

test: venv
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(TESTS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

api: venv
	$(BIN)/python -m docs_tools.api_page

notebooks: venv
	$(BIN)/python -m docs_tools.notebooks

bench: venv
	$(BIN)/python -m benchmarks.run

bench-serving: venv
	$(BIN)/python -m benchmarks.serving --bundle $(BUNDLE)

engines: venv
	$(BIN)/python -m pipelines.engines fetch

lock: venv
	$(BIN)/uv pip compile setup.py --extra dev --extra notebooks --universal --python-version 3.10 --generate-hashes \
		--no-header --no-emit-index-url --no-annotate --upgrade -o requirements.lock

clean:
	rm -rf $(VENV) build dist site *.egg-info
