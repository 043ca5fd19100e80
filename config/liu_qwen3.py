# Figure 2B, Liu et al. 2024b: the Base frozen, Z as input embeddings.
#
#   torchrun --nproc_per_node=8 train.py config/liu_qwen3.py
#   torchrun --nproc_per_node=8 evaluate.py --model=out/liu_qwen3
#
# All else as Hypothesis 2: the same sequences, sites, targets and tokens. The second line is for Table 1.

include = "h2_qwen3.py"
variant = "liu"
