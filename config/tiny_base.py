# A tiny GPT-2 pretrained from random weights: the Base of all tiny_* runs.
#
#   python data.py sample && python train.py config/tiny_base.py

variant = "continued"
init_from = "random:tiny_gpt2"
data = "data/sample"
seq_len = 256
n_sites = 16
n_ahead = 16
n_latents = 4
max_latents = 8
batch_size = 16
tokens_per_step = batch_size * seq_len  # 4,096
tokens = 1000 * tokens_per_step
lr = 1e-3
eval_every = 200
eval_rows = 64
log_every = 50
checkpoint_every = 500
