# The demo's Baseline 1: the tiny Base, trained further on 2.5M tokens. The other tiny_* runs take all from here.
#
#   python train.py config/tiny_continued.py
#
# Less than a minute on two CPU cores.

include = "tiny_base.py"
variant = "continued"
init_from = "out/tiny_base"
tokens = 1200 * tokens_per_step  # 2.5M
lr = 1e-3  # 3e-3 disturbs a trained Base, under every variant
eval_every = 150
checkpoint_every = 300
