# Figure 2A, Liu et al. 2024b: the Base frozen, Z as input embeddings.
#
#   torchrun --nproc_per_node=8 train.py config/liu_gpt2.py
#   torchrun --nproc_per_node=8 evaluate.py --model=out/liu_gpt2
#
# All else as Hypothesis 2: the same sequences, sites, targets and tokens. The second line is for Table 1.

include = "h2_gpt2.py"
variant = "liu"
