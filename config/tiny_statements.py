# The Base of the tiny reasoning runs: a Qwen-3 of 3 layers that reads how a graph is told and learns to say what follows.
#
#   python prosqa.py data/statements_9 --nodes=9 --hops 2 3 --words 4 8 --statements --counts 40000 100 100
#   python finetune_reasoning.py config/tiny_statements.py
#
# Plain statements and sums in the words of the questions, but never a question. Only what follows from the telling is
# scored (the telling itself is noise): that way "who is what" is learnt within 5,000 steps. Eight minutes on one CPU core.
# Its accuracy means little: several statements are right in the end, one is the label.
#
# From it, the large-scale run of tiny ProsQA on the same statements as running text, and what more reading alone changes:
#
#   python train.py config/tiny_text.py --data=data/statements_9 --init_from=out/tiny_statements/checkpoint/base \
#       --n_latents=4 --out_dir=out/tiny_statements_h2
#   python train.py config/tiny_text.py --data=data/statements_9 --init_from=out/tiny_statements/checkpoint/base \
#       --variant=continued --out_dir=out/tiny_statements_continued
#
# A Base that has met every word of the questions: this one has not met " or ", "Is", "?", and "a lumpus" only after "is", which
# matters where it stays frozen:
#
#   python prosqa.py data/worded_9 --nodes=9 --hops 2 3 --words 4 8 --statements --worded --counts 40000 100 100
#   python finetune_reasoning.py config/tiny_statements.py --data=data/worded_9 --tokenizer=data/worded_9/tokenizer.json \
#       --out_dir=out/tiny_worded

variant = "cot"
init_from = "random:mini_qwen3"  # 3 layers, 64 wide
data = "data/statements_9"
tokenizer = "data/statements_9/tokenizer.json"
epochs_per_stage = 2
batch_size = 16
micro_batch = 16
lr = 2e-3
beta2 = 0.98
weight_decay = 0.0
clip = 1.0
reset_optimizer = "never"
max_new_tokens = 96
log_every = 100
precision = "fp32"  # so small a model gains nothing from bf16
