# Table 2 at laptop size: Hypothesis 2 through the curriculum on small depth-matched graphs, where guessing between the two
# candidates is right half of the time.
#
#   python prosqa.py data/prosqa_tiny --nodes=7 --hops 2 3 --words 4 8 --depth_matched --counts 10000 300 500
#   python finetune_reasoning.py config/tiny_prosqa_h2.py
#
# With so few nodes every path has 2 hops: the last stage reads as the one before. It starts from the Base of
# tiny_statements.py. 312 steps an epoch; two minutes on one CPU core.

variant = "h2"
init_from = "out/tiny_statements/checkpoint/base"  # the last; the "best" means little there
data = "data/prosqa_tiny"
tokenizer = "data/statements/tokenizer.json"
stages = 2  # k
latents_per_step = 2  # c; N_L = 4
epochs_per_stage = 1
last_stage_epochs = 2
batch_size = 32
micro_batch = 32
lr = 5e-4  # at 1e-3 some runs that train their Base fall back to guessing as stage 2 begins
clip = 1.0
reset_optimizer = False
max_new_tokens = 32
log_every = 100
