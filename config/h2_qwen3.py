# Figure 2B, Hypothesis 2: a co-finetuned Qwen-3 0.6B and its Coprocessor on 8B tokens of FineWeb-Edu.
#
#   python data.py fineweb_edu --tokenizer qwen3 --shards 12
#   torchrun --nproc_per_node=8 train.py config/h2_qwen3.py
#
# A shard has 2.8 GB (uint32). The paper gives S, M, N_A, N_L and the tokens; batch, learning rate and the rest of the
# optimizer are ours. 8e9 tokens / 262,144 per step = 30,517 steps. The paper's 3 days on 8 x A100 need 3.9k raw tokens/s
# per GPU. Then Figure 2D and Table 1:
#
#   for n in 1 2 4 8; do torchrun --nproc_per_node=8 train.py config/h2_qwen3.py --n_latents=$n; done
#   torchrun --nproc_per_node=8 evaluate.py --model=out/h2_qwen3

variant = "h2"
init_from = "Qwen/Qwen3-0.6B"
data = "data/fineweb_edu_qwen3"
seq_len = 1024  # S
n_sites = 64  # M
n_ahead = 16  # N_A
n_latents = 16  # N_L; 4,032 positions per sequence
tokens = 8 * 10**9
batch_size = 4
tokens_per_step = 8 * 8 * batch_size * seq_len  # 8 GPUs x 8 micro-batches x 4 sequences = 256 sequences
lr = 5e-5
compile = True
