# Countdown at laptop size, with a Qwen-3 of 3 layers x 64 from random weights, where every number is one token.
#
#   python countdown.py config/tiny_countdown.py --show=3
#   python countdown.py config/tiny_countdown.py
#
# The first line makes the problems, in 12 s; the second is one run: h2, 3 operands, N_L = 4; five minutes on one core. One
# epoch instead of the paper's three: 262,144 problems / 64 = 4,096 steps. Figure 3B, and how much is due to latents at all:
#
#   for v in h2 soft; do for o in 3 4; do for n in 1 4 16; do
#       python countdown.py config/tiny_countdown.py --variant=$v --operands=$o --n_latents=$n
#   done; done; done
#   for o in 3 4; do python countdown.py config/tiny_countdown.py --variant=no_cot --operands=$o; done
#
# Figure 8 is in tiny_sums.py.

variant = "h2"
init_from = "random:mini_qwen3"  # 3 layers, 64 wide
operands = 3
n_latents = 4
tokenizer = "data/countdown/tokenizer.json"  # made with the problems
epochs = 1
batch_size = 64
micro_batch = 64
lr = 2e-3
beta2 = 0.98
clip = 1.0
max_new_tokens = 24
precision = "fp32"  # so small a model gains nothing from bf16
