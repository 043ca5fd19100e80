# Figures 3B and 8, Hypothesis 2 on Countdown: GPT-2 124M and its Coprocessor, 4 operands, N_L = 16.
#
#   torchrun --nproc_per_node=8 countdown.py config/h2_countdown_gpt2.py
#   torchrun --nproc_per_node=8 countdown.py config/h2_countdown_gpt2.py --sweep --sweep_variants="h2"          # Figure 3B
#   torchrun --nproc_per_node=8 countdown.py config/h2_countdown_gpt2.py --sweep --sweep_variants="h2" \
#       --sweep_latents=16 --init_from=out/h2_gpt2 --out_dir=out/resumed_countdown_gpt2                         # Figure 8
#
# 262,144 problems / 128 = 2,048 steps an epoch, 3 epochs, no curriculum (the batch is ours).

variant = "h2"
init_from = "openai-community/gpt2"
n_latents = 16
operands = 4
epochs = 3
lr = 1e-4
batch_size = 128
micro_batch = 16
