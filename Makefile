# Two commands to start with: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test test-slow lint format bench results clean

demo: $(VENV)/.installed
	$(BIN)/nertune compare recipes/sample/bert.toml recipes/sample/lora.toml recipes/sample/lstm.toml \
		--seeds 1 --baseline bert --output demo
	@echo
	@echo "New sentences, tagged by demo/runs/bert/seed-1/model:"
	@$(BIN)/nertune predict demo/runs/bert/seed-1/model --file recipes/sample/new_sentences.txt
	@echo
	@echo "Report with figure and examples: demo/report.html"

# Two workers of one thread each: small tensors gain nothing from more, and two cores are enough.
test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# What takes too long for every change: whole searches, compiled training.
test-slow: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

lint: $(VENV)/.installed-test
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix src tests benchmarks tools
	$(BIN)/ruff format src tests benchmarks tools

# Speed against peers, on a quiet machine; about an hour on 2 cores, on the data that NERTUNE_DATA names.
bench: $(VENV)/.installed-test
	for shape in bundled 6x384 bert-base lstm; do $(BIN)/python benchmarks/tagging_speed.py $$shape || exit 1; done
	for shape in bundled 6x384 bert-base; do for part in "" --cache --memory; do \
		$(BIN)/python benchmarks/training_speed.py $$shape $$part || exit 1; done; done
	$(BIN)/python benchmarks/table.py

# The scores of docs/results.md that depend on the bundled encoder; many hours on 2 cores.
results: $(VENV)/.installed-test
	for part in datasets sizes adapt; do $(BIN)/python benchmarks/encoders.py $$part || exit 1; done
	$(BIN)/python benchmarks/methods.py search
	for data in peoples resume weibo; do $(BIN)/python benchmarks/methods.py compare $$data || exit 1; done
	$(BIN)/python benchmarks/peoples.py

clean:
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first: a range would make pip fetch the newest build with its CUDA packages.
$(VENV)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[report]"
	@touch $@

# seqeval has a setup.py alone: an older pip would fetch what builds it without its dependencies.
$(VENV)/.installed-test: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --constraint constraints.txt --editable ".[test]"
	@touch $@
