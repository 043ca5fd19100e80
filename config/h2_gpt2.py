# Figure 2A, Hypothesis 2: a co-finetuned GPT-2 124M and its Coprocessor on 40B tokens of FineWeb-Edu.
#
#   python data.py fineweb_edu --tokenizer gpt2 --shards 58
#   torchrun --nproc_per_node=8 train.py config/h2_gpt2.py
#
# 58 shards x 0.7B tokens are 81 GB on disk. The paper gives S, M, N_A, N_L and the tokens; batch, learning rate and the rest
# of the optimizer are ours. 40e9 tokens / 491,520 per step = 81,380 steps. The paper's 3 days on 8 x A100 need 19.3k raw
# tokens/s per GPU. Then Figure 2C, Table 1, and Figure 4A with Table 5:
#
#   for n in 1 2 4 8; do torchrun --nproc_per_node=8 train.py config/h2_gpt2.py --n_latents=$n; done
#   torchrun --nproc_per_node=8 evaluate.py --model=out/h2_gpt2
#   python analyze_latents.py out/h2_gpt2

variant = "h2"
init_from = "openai-community/gpt2"
data = "data/fineweb_edu_gpt2"
seq_len = 1024  # S
n_sites = 64  # M; a sequence has M x N_A = 1,024 targets
n_ahead = 16  # N_A
n_latents = 16  # N_L; S + M N_L + M (N_L + N_A - 1) = 1024 + 1024 + 1984 = 4,032 positions per sequence
tokens = 40 * 10**9
batch_size = 12
tokens_per_step = 8 * 5 * batch_size * seq_len  # 8 GPUs x 5 micro-batches x 12 sequences = 480 sequences
lr = 1e-4
compile = True
