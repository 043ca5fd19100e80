# Figures 3B and 8, Hypothesis 2 on Countdown: Qwen-3 0.6B and its Coprocessor, 4 operands, N_L = 16.
#
#   torchrun --nproc_per_node=8 countdown.py config/h2_countdown_qwen3.py
#
# The sweep and the resumed run take the options that h2_countdown_gpt2.py shows.

include = "h2_countdown_gpt2.py"
init_from = "Qwen/Qwen3-0.6B"
tokenizer = "qwen3"
