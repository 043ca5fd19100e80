# A tiny GPT-2 pretrained from random weights on the Python standard library's source: the Base of tiny_text.py.
#
#   python data.py sample && python train.py config/tiny_base.py
#
# 100M tokens, eighteen times the corpus: an hour on one CPU core, after which it hardly improves. Its weights are kept in
# results/bases/base_gpt2, where tiny_text.py finds them. A tiny Qwen-3 (rotary positions, shared KV heads) in its place:
#
#   python train.py config/tiny_base.py --init_from=random:tiny_qwen3 --out_dir=out/tiny_qwen3_base

variant = "continued"
init_from = "random:tiny_gpt2"  # 2 layers, 64 wide
data = "data/sample"
seq_len = 128  # S
n_sites = 8  # M; M x N_A = S, as in the paper: validation scores 128 targets per sequence, under continued too
n_ahead = 16  # N_A
n_latents = 2
batch_size = 16
tokens_per_step = batch_size * seq_len  # 2,048
tokens = 48832 * tokens_per_step  # 100M
lr = 4e-3
eval_every = 2000
eval_rows = 256
log_every = 500
checkpoint_every = 2000
precision = "fp32"  # so small a model gains nothing from bf16
