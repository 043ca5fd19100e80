# make demo: the paper's main job, small, on any machine.    make test: everything that must hold.
PYTHON ?= python3
SHELL = /bin/bash
BIN = .venv/bin
eq := =# written out in the name of a target it would be an assignment
TEXT = out/tiny_text,variant$(eq)
RUNS = $(TEXT)continued $(TEXT)h1 $(TEXT)h2
ASKED = out/prosqa_plain out/prosqa_steps

setup: .venv/installed
demo: setup data/sample/val_000.bin
	$(MAKE) --jobs=4 runs
	$(BIN)/python sample.py $(TEXT)h2 --prompt="def main():"
	$(BIN)/python analyze_latents.py $(TEXT)h2 --examples=256
	$(BIN)/python -m paper.figures figure2 $(RUNS) --out=out/figure2.png
runs: $(RUNS:%=%/.finished)
reasoning: setup data/prosqa_9/prosqa_train.json
	$(MAKE) --jobs=2 asked
	$(BIN)/python analyze_latents.py out/prosqa_steps --examples=256
	$(BIN)/python -m paper.figures stages $(ASKED) --out=out/reasoning.png
asked: $(ASKED:%=%/.finished)
test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses=auto --maxprocesses=8 --dist=loadgroup tests
soak: .venv/installed-dev
	SOAK=5 $(BIN)/python -m pytest -q -s tests/test_kill.py
lint: .venv/installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
bench: setup
	$(BIN)/python -m paper.bench
paper-tiny: setup
	PYTHON=$(BIN)/python bash paper/runs.sh
	$(BIN)/python -m paper.page
gpu: # with the machine's own python and torch
	$(PYTHON) -m pytest -q tests/test_cuda.py
	$(PYTHON) -m paper.bench gpu --json=out/gpu.json
full-size: setup
	$(BIN)/python tests/full_size.py
.PHONY: setup demo runs reasoning asked test soak lint bench paper-tiny gpu full-size

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@
.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# A run that was cut off goes on where it was; one whose config or Base is newer than its result starts anew.
data/sample/val_000.bin: | .venv/installed
	$(BIN)/python data.py sample
GO_ON = $$(test ! -e $@ -a \( -e $(@D)/checkpoint -o -e $(@D)/checkpoint.old \) && echo --resume || echo --overwrite)
$(TEXT)%/.finished: config/tiny_text.py config/tiny_base.py results/bases/base_gpt2/model.safetensors
	set -o pipefail; OMP_NUM_THREADS=1 $(BIN)/python train.py config/tiny_text.py --variant=$* $(GO_ON) 2>&1 \
	    | awk '{ print "$*: " $$0; fflush() }'
	touch $@

# ProsQA from a Base that has read statements of such worlds: h2 with no written step from the first epoch on, and with the
# added loss under which latents spell their step, or without
data/prosqa_9/prosqa_train.json: prosqa.py | .venv/installed
	$(BIN)/python prosqa.py data/prosqa_9 --nodes=9 --hops 2 3 --words 4 8 --depth_matched --overwrite --counts 10000 300 500
STRAIGHT = --init_from=results/bases/statements --tokenizer=results/bases/statements/tokenizer.json --first_stage=3
out/prosqa_plain/.finished: WEIGHT = 0
out/prosqa_steps/.finished: WEIGHT = 1
out/prosqa_%/.finished: data/prosqa_9/prosqa_train.json config/tiny_prosqa.py
	set -o pipefail; OMP_NUM_THREADS=1 $(BIN)/python finetune_reasoning.py config/tiny_prosqa.py $(STRAIGHT) \
	    --step_weight=$(WEIGHT) --out_dir=$(@D) $(GO_ON) 2>&1 | awk '{ print "$*: " $$0; fflush() }'
	touch $@
