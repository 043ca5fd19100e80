# Figure 2 on one GPU: a GPT-2 of 37M parameters, on the source of whatever Python packages the machine has.
#
#   python data.py sample --packages --vocab_size=8192
#   python train.py config/small_text.py --variant=continued --init_from=random:small_gpt2 --lr=1e-3 --tokens=100000000 \
#       --out_dir=out/small_base
#   python train.py config/small_text.py
#   for v in continued soft liu h1; do python train.py config/small_text.py --variant=$v; done
#
# The first run makes the Base, in two minutes on an H100. All others start from it and read the same 8M tokens with the same
# sites: about half a minute each, besides compiling.

variant = "h2"
init_from = "out/small_base"
data = "data/packages"
seq_len = 512  # S
n_sites = 32  # M; M x N_A = S, as in the paper
n_ahead = 16  # N_A
n_latents = 2
batch_size = 32
tokens_per_step = batch_size * seq_len  # 16,384
tokens = 500 * tokens_per_step  # 8.2M
lr = 2.5e-4  # as in tiny_text.py a quarter of the Base's
eval_every = 250
eval_rows = 256
log_every = 50
checkpoint_every = 10000  # only at the end
compile = True
