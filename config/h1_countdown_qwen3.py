# Figures 3B and 8, Hypothesis 1 on Countdown: Qwen-3 0.6B, 4 operands, N_L = 16.
#
#   torchrun --nproc_per_node=8 countdown.py config/h1_countdown_qwen3.py

include = "h2_countdown_qwen3.py"
variant = "h1"
