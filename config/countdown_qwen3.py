# Countdown with Qwen-3 0.6B: Hypothesis 2, 4 operands, N_L = 16.
#
#   torchrun --nproc_per_node=8 countdown.py config/countdown_qwen3.py
#
# Figure 3B; and Figure 8, h2 from the large-scale run beside the h1 and h2 above with N_L = 16:
#
#   for v in soft liu h1 h2; do for o in 3 4 5; do for n in 1 2 4 8 16; do
#       torchrun --nproc_per_node=8 countdown.py config/countdown_qwen3.py --variant=$v --operands=$o --n_latents=$n
#   done; done; done
#   for o in 3 4 5; do
#       torchrun --nproc_per_node=8 countdown.py config/countdown_qwen3.py --operands=$o --init_from=out/h2_qwen3
#   done

include = "countdown_gpt2.py"
init_from = "Qwen/Qwen3-0.6B"
tokenizer = "qwen3"
