# The Base of the tiny reasoning runs: a Qwen-3 of 3 layers that reads how a graph is told and learns to say what follows.
#
#   python prosqa.py data/statements --nodes=7 --hops 2 3 --words 4 8 --statements --counts 40000 100 100
#   python finetune_reasoning.py config/tiny_statements.py
#
# Plain statements and sums in the words of the questions, but never a question. Only what follows from the telling is
# scored (the telling itself is noise): that way "who is what" is learnt within 5,000 steps. Eight minutes on one CPU core.
# Its accuracy means little: several statements are right in the end, one is the label.

variant = "cot"
init_from = "random:mini_qwen3"  # 3 layers, 64 wide
data = "data/statements"
tokenizer = "data/statements/tokenizer.json"
epochs_per_stage = 2
batch_size = 16
micro_batch = 16
lr = 2e-3
beta2 = 0.98
weight_decay = 0.0
clip = 1.0
reset_optimizer = False
max_new_tokens = 96
log_every = 100
