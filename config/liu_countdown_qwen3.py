# Figure 3B, Liu et al. on Countdown: Qwen-3 0.6B, 4 operands, N_L = 16.
#
#   torchrun --nproc_per_node=8 countdown.py config/liu_countdown_qwen3.py

include = "h2_countdown_qwen3.py"
variant = "liu"
