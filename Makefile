# make report   set up, then a first report on the phantom: two attributes, three starts; ends in reports/quick/index.html
# make studies  the same of all attributes and seeds of the preset, and every other study
# make test     set up, then ruff, mypy and the tests; TESTS="" adds those of large networks
PYTHON ?= python3
PRESET ?= quick
TESTS ?= not large
BIN := .venv/bin
FIRST ?= --attributes globules,streaks
STUDIES := variants paradigms convergence data-size crop backbones
PAGES = $(BIN)/python -m analysis.report --study all --tables reports/$(PRESET)/tables --out reports/$(PRESET)

.PHONY: report studies test setup
report: .venv/ready
	$(BIN)/python -m tatl study variants --preset $(PRESET) --variants stage3,stage23 $(FIRST)
	$(BIN)/python -m analysis.report --study variants --tables reports/$(PRESET)/tables --out reports/$(PRESET)
	@echo "reports/$(PRESET)/variants.html shows the first two variants; the others, and the bound, follow"
	$(BIN)/python -m tatl study variants --preset $(PRESET) $(FIRST)
	$(BIN)/python -m analysis.bound --init random,source,tatl --preset $(PRESET) $(FIRST) --seeds 1
	$(PAGES)

studies: report
	for study in $(STUDIES); do $(BIN)/python -m tatl study $$study --preset $(PRESET) || exit 1; done
	$(BIN)/python -m analysis.bound --init all --preset $(PRESET)
	$(PAGES)

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder -m "$(TESTS)"

setup: .venv/ready
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is $$($(PYTHON) --version): Python 3.11 or newer is needed (make PYTHON=python3.12 ...)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	@touch $@
