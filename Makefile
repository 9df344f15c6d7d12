# `make serve`, `make test` and `make bench` need Python 3.11 or 3.12 with its venv module; everything else they install themselves.
HOST ?= 127.0.0.1
PORT ?= 8000
MODEL ?= demo
ARGS ?=
VENV ?= .venv
SEED ?= 1234
COUNT ?= 24
PYTEST_ARGS ?=
BENCH_ARGS ?=

# cpu or cuda; auto takes cuda where nvidia-smi is there. To change it later, `make clean` first.
DEVICE ?= auto

# Address of the package index that holds PyTorch's CPU wheels, for machines whose pip does not know it.
TORCH_INDEX ?=

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help serve test bench lint demo-data clean

INSTALL := DEVICE='$(DEVICE)' TORCH_INDEX='$(TORCH_INDEX)' bash packaging/install.sh
LOCK := pyproject.toml packaging/install.sh packaging/winnow_torchvision.py packaging/winnow_torchvision.pth \
  constraints-cpu.txt constraints-cuda.txt

help:
	@echo "make serve      serve the demo model   (HOST=$(HOST) PORT=$(PORT) MODEL=$(MODEL) ARGS='more vLLM options')"
	@echo "make test       run the whole test suite   (PYTEST_ARGS='...')"
	@echo "make bench      the short set of benchmarks, in a few minutes   (BENCH_ARGS='...')"
	@echo "make lint       ruff"
	@echo "make demo-data  write $(COUNT) questions with their pictures to demo-data/   (SEED, COUNT)"
	@echo "make clean      remove $(VENV) and caches"

serve: $(VENV)/ready.stamp
	@echo "Starting the server for model '$(MODEL)' on http://$(HOST):$(PORT) ..."
	@exec $(VENV)/bin/python -m server --model '$(MODEL)' --host '$(HOST)' --port '$(PORT)' $(ARGS)

test: $(VENV)/ready.stamp $(VENV)/tools.stamp
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

bench: $(VENV)/ready.stamp
	@$(VENV)/bin/python -m benchmarks run --short $(BENCH_ARGS)

lint: $(VENV)/ready.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

demo-data: $(VENV)/ready.stamp
	$(VENV)/bin/python -m training.demo_data --seed $(SEED) --count $(COUNT) --out demo-data

$(VENV)/ready.stamp: $(LOCK)
	@$(INSTALL) '$(VENV)'
	@touch $@

$(VENV)/tools.stamp: packaging/tools.sh | $(VENV)/ready.stamp
	@bash packaging/tools.sh '$(VENV)/tools' '$(VENV)/bin/python'
	@touch $@

clean:
	rm -rf '$(VENV)' demo-data .pytest_cache .ruff_cache .hypothesis .schemathesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
