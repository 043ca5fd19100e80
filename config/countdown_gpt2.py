# Countdown with GPT-2 124M: Hypothesis 2, 4 operands, N_L = 16.
#
#   torchrun --nproc_per_node=8 countdown.py config/countdown_gpt2.py
#
# 262,144 problems / 128 = 2,048 steps an epoch, 3 epochs, no curriculum (the batch is ours).
#
# Figure 3B; and Figure 8, h2 from the large-scale run beside the h1 and h2 above with N_L = 16:
#
#   for v in soft liu h1 h2; do for o in 3 4 5; do for n in 1 2 4 8 16; do
#       torchrun --nproc_per_node=8 countdown.py config/countdown_gpt2.py --variant=$v --operands=$o --n_latents=$n
#   done; done; done
#   for o in 3 4 5; do
#       torchrun --nproc_per_node=8 countdown.py config/countdown_gpt2.py --operands=$o --init_from=out/h2_gpt2
#   done
#
# Figure 4C with Table 5 (4 operands), Figures 9A and 9B (3 and 5):
#
#   for o in 3 4 5; do python analyze_latents.py out/countdown_gpt2,variant=h2,operands=$o,n_latents=16; done

variant = "h2"
init_from = "openai-community/gpt2"
n_latents = 16
operands = 4
epochs = 3
lr = 1e-4
batch_size = 128
micro_batch = 16
