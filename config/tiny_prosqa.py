# Table 2 at laptop size: the curriculum on small depth-matched graphs, where guessing between the two candidates is right
# half of the time. Hypothesis 2, and the systems beside it:
#
#   python prosqa.py data/prosqa_9 --nodes=9 --hops 2 3 --words 4 8 --depth_matched --counts 10000 300 500
#   python finetune_reasoning.py config/tiny_prosqa.py
#   for v in coconut soft pause no_thought; do python finetune_reasoning.py config/tiny_prosqa.py --variant=$v; done
#   for v in liu h1; do python finetune_reasoning.py config/tiny_prosqa.py --variant=$v --last_stage_epochs=9; done
#   python finetune_reasoning.py config/tiny_prosqa.py --variant=cot --epochs_per_stage=15
#   python finetune_reasoning.py config/tiny_prosqa.py --variant=no_cot --last_stage_epochs=15
#
# All train 15 epochs: a frozen Base has nothing to learn in stage 0, so that the last stage of liu and h1 has three more. Two
# are controls: pause has one soft token in every slot, under no_thought the steps give way to nothing at all. Coconut's
# latents are made one after the other. With so few nodes 99 paths in 100 have 2 hops: for them the last stage reads as the
# one before. The test's graphs are not those of training with other names. The runs start from the Base of
# tiny_statements.py. 312 steps an epoch; four to eight minutes on one CPU core.
#
# Latents that spell their step (--step_weight), made side by side, in rounds, one after the other, or by the Base itself:
#
#   for v in h2 rounds coconut tied soft; do
#       python finetune_reasoning.py config/tiny_prosqa.py --variant=$v --step_weight=1
#   done
#
# Longer chains: 98 in 100 paths have 3 hops, and what latents made side by side cannot follow, rounds can.
#
#   WORLD="--nodes=14 --hops 3 4 --words 4 12"
#   python prosqa.py data/statements_14 $WORLD --statements --counts 40000 100 100
#   python prosqa.py data/prosqa_14 $WORLD --depth_matched --counts 10000 300 500
#   python finetune_reasoning.py config/tiny_statements.py --data=data/statements_14 \
#       --tokenizer=data/statements_14/tokenizer.json --out_dir=out/statements_14
#   python finetune_reasoning.py config/tiny_prosqa.py --init_from=out/statements_14/checkpoint/base --data=data/prosqa_14 \
#       --tokenizer=data/statements_14/tokenizer.json --stages=3 --variant=rounds --step_weight=1
#
# Figure 7; Table 4, from the large-scale run through the curriculum and straight to the last stage, and from a Base that has
# only read more. tiny_statements.py makes what they start from.
#
#   for c in 1 4; do python finetune_reasoning.py config/tiny_prosqa.py --latents_per_step=$c; done
#   python finetune_reasoning.py config/tiny_prosqa.py --init_from=out/tiny_statements_h2
#   python finetune_reasoning.py config/tiny_prosqa.py --init_from=out/tiny_statements_h2 --stages=1 --latents_per_step=4 \
#       --first_stage=2 --last_stage_epochs=15
#   python finetune_reasoning.py config/tiny_prosqa.py --init_from=out/tiny_statements_h2 --stages=1 --latents_per_step=4 \
#       --first_stage=1 --epochs_per_stage=15 --last_stage_epochs=0  # the other reading: only the first step goes
#   python finetune_reasoning.py config/tiny_prosqa.py --init_from=out/tiny_statements_continued

variant = "h2"
init_from = "out/tiny_statements/checkpoint/base"  # the last; the "best" means little there
data = "data/prosqa_9"
tokenizer = "data/statements_9/tokenizer.json"
stages = 2  # k
latents_per_step = 2  # c; N_L = 4
epochs_per_stage = 3  # with one, every system but cot is still at a guess after the five
last_stage_epochs = 6
batch_size = 32
micro_batch = 32
lr = 5e-4  # at 1e-3 some runs that train their Base fall back to guessing as stage 2 begins
clip = 1.0
reset_optimizer = "never"
max_new_tokens = 32
log_every = 100
precision = "fp32"  # so small a model gains nothing from bf16
