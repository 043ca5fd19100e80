# Figure 3B at laptop size: Countdown with a Qwen-3 of 3 layers x 64 from random weights, where every number is one token.
#
#   python countdown.py config/tiny_countdown.py --show=3                                   # makes the problems; 12 s
#   python countdown.py config/tiny_countdown.py                                            # one run: h2, 3 operands, N_L = 4
#
# One epoch instead of the paper's three: 262,144 problems / 64 = 4,096 steps.

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
