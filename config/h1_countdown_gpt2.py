# Figures 3B and 8, Hypothesis 1 on Countdown: GPT-2 124M, 4 operands, N_L = 16.
#
#   torchrun --nproc_per_node=8 countdown.py config/h1_countdown_gpt2.py

include = "h2_countdown_gpt2.py"
variant = "h1"
