# Figure 3B, Liu et al. on Countdown: GPT-2 124M, 4 operands, N_L = 16.
#
#   torchrun --nproc_per_node=8 countdown.py config/liu_countdown_gpt2.py

include = "h2_countdown_gpt2.py"
variant = "liu"
