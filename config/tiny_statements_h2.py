# The large-scale run of tiny ProsQA: Hypothesis 2 on plain statements as running text. Table 4 at laptop size:
#
#   python finetune_reasoning.py config/tiny_statements.py      (its data: see there)
#   python train.py config/tiny_statements_h2.py
#   python finetune_reasoning.py config/tiny_prosqa_h2.py --init_from=out/tiny_statements_h2 --out_dir=out/resumed_prosqa
#   python finetune_reasoning.py config/tiny_prosqa_h2.py --init_from=out/tiny_statements_h2 --out_dir=out/straight_prosqa \
#       --stages=1 --latents_per_step=4 --first_stage=2 --last_stage_epochs=5

include = "tiny_h2.py"
init_from = "out/tiny_statements/checkpoint/base"
data = "data/statements"
n_latents = 4
