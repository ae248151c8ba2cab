# Two commands matter: `make repro` and `make test`. Each does all its own set-up.

PYTHON ?= python3
BASE ?= main
TEST_WORKERS ?= 2
ARGS ?=
JOBS ?=
CHROMIUM ?= chromium

PICTURE = $(CHROMIUM) --headless --no-sandbox --hide-scrollbars --virtual-time-budget=5000
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# DVC runs `python -m stages.<name>`: that must be this repository's Python.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup repro test test-slow figures bench lint format review diff sample gate unchanged preset quick ablation gpu-check ask export merge card predict new serve start why readme doctor lock clean

help:  ## List the targets
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo 'More arguments go in ARGS: make test ARGS="-k report -x", make repro JOBS=2 ARGS="--force clean".'

repro: $(INSTALLED)  ## The main job: raw data to a measured comparison; only what has changed runs again; JOBS=n stages at once
	@$(BIN)/python -m tools.run.repro $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

quick: $(INSTALLED)  ## The main job on a cut of 600 rows, in some three minutes, in a scratch copy: report/quick.html
	@$(BIN)/python -m tools.run.quick $(ARGS)

ablation: $(INSTALLED)  ## What did each data step buy, against a random control? After make repro: report/ablation.html
	@$(BIN)/dvc repro $(ARGS) ablation/dvc.yaml
	@$(BIN)/python -m tools.run.ablation_page

start: $(INSTALLED)  ## Make a clone of the template a project of its own: its results go, the code stays; asks first
	@$(BIN)/python -m tools.new.start $(ARGS)

new: $(INSTALLED)  ## Point params.yaml at your own data, with checks: make new DATA=path-or-url ARGS="--label intent --yes"
	@test -n "$(DATA)" || { echo "error: say which data: make new DATA=my_rows.csv" >&2; exit 1; }
	@$(BIN)/python -m tools.new.project "$(DATA)" $(ARGS)

preset: $(INSTALLED)  ## Write a set of approaches and budgets into params.yaml: make preset PRESET=full
	@$(BIN)/python -m tools.params.preset $(PRESET) $(ARGS)

gpu-check: $(INSTALLED)  ## Do the tests, and a step of each approach, run on this GPU? Prints a block to paste
	@$(BIN)/python -m tests.gpu_check $(ARGS)

# A file stays with one worker, so that what it shares is made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --benchmark-skip

test: $(INSTALLED)  ## Run the units and every stage once on small data, offline: a few minutes
	$(PYTEST) $(ARGS)

test-slow: $(INSTALLED)  ## Run all other tests: hermetic runs, crashes, browser, hash seeds
	$(PYTEST) -m "slow and not gpu and not figures" $(ARGS)

figures: $(INSTALLED)  ## Do docs and README say what metrics/ says? Of the template's own data; not part of make test
	$(BIN)/python -m pytest -m figures $(ARGS)

bench: $(INSTALLED)  ## Run the benchmarks; CONTRIBUTING.md compares those of two commits
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only $(ARGS)

lint: $(INSTALLED)  ## Check format, lint, types and the order of the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)  ## Format the code and mend what Ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

review: $(INSTALLED)  ## Look at the rows most worth it, in the browser: make review ARGS="--open"
	@$(BIN)/python -m tools.review.queue_page $(ARGS)

diff: $(INSTALLED)  ## Compare params, metrics and rows with a revision: make diff BASE=main
	@$(BIN)/python -m tools.changes.pull_request "$(BASE)"

sample: $(INSTALLED)  ## Renew docs/sample/: report, pull-request comment and pictures, by CHROMIUM: make sample BASE=main
	@test -f report/index.html || { echo "error: report/index.html: no such file; run \`make repro\` first" >&2; exit 1; }
	@command -v $(CHROMIUM) >/dev/null || { echo "error: no $(CHROMIUM) on PATH for the pictures; say which: make sample CHROMIUM=google-chrome" >&2; exit 1; }
	@mkdir -p docs/sample
	@$(BIN)/python -m tools.changes.pull_request "$(BASE)" >/dev/null
	@cp report/pull_request.md docs/sample/ && cp report/index.html docs/sample/report.html
	@$(PICTURE) --window-size=1200,1500 --screenshot=docs/sample/report.png "file://$(CURDIR)/report/index.html"
	@$(BIN)/python -m tools.review.queue_page --port 8798 --reviewer "A. Reviewer" & page=$$!; trap "kill $$page" EXIT; sleep 10; kill -0 $$page && \
		$(PICTURE) --window-size=1200,900 --screenshot=docs/sample/review.png http://127.0.0.1:8798/

gate: $(INSTALLED)  ## May this be merged, by the rules of `gate` in params.yaml? make gate BASE=main
	@$(BIN)/python -m tools.changes.gate "$(BASE)"

unchanged: $(INSTALLED)  ## Does this code make the same bytes as another commit's, on a small fixture? make unchanged BASE=main
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.unchanged "$(BASE)" $(ARGS)

ask: $(INSTALLED)  ## Talk to a language model, or ask it once: make ask MODEL=sft@lora QUESTION="How long does it take?"
	@test -n "$(MODEL)" || { echo "error: say which model: make ask MODEL=sft@lora" >&2; exit 1; }
	@$(BIN)/python -m tools.ask "$(MODEL)" $${QUESTION+--question "$$QUESTION"} $(ARGS)

export: $(INSTALLED)  ## Export a language model, its adapter merged, as safetensors, and check it: make export MODEL=sft@lora
	@test -n "$(MODEL)" || { echo "error: say which model: make export MODEL=sft@lora" >&2; exit 1; }
	@$(BIN)/python -m tools.export.language_model "$(MODEL)" $(ARGS)

merge: $(INSTALLED)  ## Merge an adapter into its base, and say what that changed: make merge APPROACH=lora
	@test -n "$(APPROACH)" || { echo "error: say which approach: make merge APPROACH=lora" >&2; exit 1; }
	@$(BIN)/python -m tools.export.merge "$(APPROACH)"

predict: $(INSTALLED)  ## Predict labels of a table: make predict MODEL=full INPUT=texts.csv OUTPUT=labels.csv; COLUMN, PRECISION, BATCH
	@test -n "$(MODEL)" -a -n "$(INPUT)" -a -n "$(OUTPUT)" || { echo "error: make predict MODEL=full INPUT=texts.csv OUTPUT=labels.csv; more: .venv/bin/python -m tools.predict --help" >&2; exit 1; }
	@$(BIN)/python -m tools.predict "$(MODEL)" "$(INPUT)" "$(OUTPUT)" $(if $(COLUMN),--column "$(COLUMN)") $(if $(PRECISION),--precision "$(PRECISION)") $(if $(BATCH),--batch-size "$(BATCH)") $(ARGS)

serve: $(INSTALLED)  ## Serve a classifier over HTTP, on 127.0.0.1:8780: make serve MODEL=full
	@test -n "$(MODEL)" || { echo "error: say which model: make serve MODEL=full" >&2; exit 1; }
	@exec $(BIN)/python -m tools.serve "$(MODEL)" $(ARGS)

card: $(INSTALLED)  ## Write cards of the data and of the models that ran into cards/, or of one: make card MODEL=full
	@$(BIN)/python -m tools.cards.make_cards $(MODEL)

why: $(INSTALLED)  ## Follow one row from the raw file to the predictions: make why ID=tweets:42, make why TEXT="it came late"
	@test -n "$${ID+$$ID}$${TEXT+$$TEXT}" || { echo "error: say which row: make why ID=tweets:42, or TEXT=\"it came late\"" >&2; exit 1; }
	@$(BIN)/python -m tools.changes.why $${ID:+"$$ID"} $${TEXT:+--text="$$TEXT"}

readme: $(INSTALLED)  ## Write the results on these data and params into README.md; nothing else does
	@$(BIN)/python -m tools.changes.readme_results --write README.md

# Works before set-up too: it is there to say what is missing.
doctor:  ## Say what this machine has, what is missing and how to get it
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m tools.doctor; else $(PYTHON) -m tools.doctor; fi

# Does not ask for the whole set-up: the lock may be what keeps that from working.
lock:  ## Pin every version anew in requirements.lock, with hashes; ARGS=--upgrade takes the newest
	@test -x $(BIN)/uv || $(MAKE) setup
	@cp requirements.lock $(VENV)/resolved.lock
	env -u UV_FIND_LINKS -u UV_INDEX_URL -u UV_DEFAULT_INDEX $(BIN)/uv pip compile --universal --python-version 3.11 \
		--group dev pyproject.toml --no-header --no-annotate --generate-hashes --quiet --output-file $(VENV)/resolved.lock $(ARGS)
	@{ echo '# Made by `make lock` from pyproject.toml. PyTorch brings its own CUDA packages, which are not in it, and has no'; \
		echo '# hash, since its builds for CPU and CUDA differ: tools/run/set_up.py takes that of the package index.'; \
		awk '/^[^ ]/ {skip = /^(nvidia-|cuda-|triton|#)/; bare = /^torch==/; if (bare) {sub(/ \\$$/, ""); print}} \
			!skip && !bare' $(VENV)/resolved.lock; } > $(VENV)/requirements.lock
	@mv $(VENV)/requirements.lock requirements.lock
	@echo "requirements.lock: $$(grep -c == requirements.lock) pins"

clean:  ## Delete caches of the tools; data, models and the DVC cache stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find stages assay tools tests -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(INSTALLED)  ## Only the set-up that every target does by itself: .venv, the locked packages, DVC
	@echo "$(VENV) is ready"

# The stamp is written last, so that a set-up cut short goes on where it stopped.
$(INSTALLED): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) on PATH; install Python 3.11 or newer, or say which: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1), and 3.11 or newer is needed; say which: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) has no venv; on Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	@command -v git >/dev/null || { echo "error: git is not installed, and DVC needs it" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "Making $(VENV) with $$($(PYTHON) --version) …"; $(PYTHON) -m venv --clear $(VENV); }
	@$(BIN)/python -m tools.run.set_up
	@test -d .dvc || $(BIN)/dvc init --quiet
	@touch $@
