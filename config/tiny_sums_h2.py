# The large-scale run of tiny Countdown: Hypothesis 2 on the same sums as its Base.
#
#   python train.py config/tiny_sums_h2.py

include = "tiny_h2.py"
init_from = "out/tiny_sums"
data = "data/countdown"
n_latents = 4
