# Figure 2A, Baseline 2: unified soft embeddings. S + M (N_L + N_A - 1) = 3,008 positions per sequence.
#
#   torchrun --nproc_per_node=8 train.py config/soft_gpt2.py
#   torchrun --nproc_per_node=8 evaluate.py --model=out/soft_gpt2
#
# All else as Hypothesis 2: the same sequences, sites, targets and tokens. The second line is for Table 1.

include = "h2_gpt2.py"
variant = "soft"
