# Figure 2B, Liu et al. 2024b: the Base frozen, Z as input embeddings.
#
#   torchrun --nproc_per_node=8 train.py config/liu_qwen3.py
#
# All else as Hypothesis 2: the same sequences, sites, targets and tokens.

include = "h2_qwen3.py"
variant = "liu"
