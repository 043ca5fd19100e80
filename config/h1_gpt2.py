# Figure 2A, Hypothesis 1: the Base frozen, the Coprocessor's cache concatenated. S + M N_L + M N_A = 3,072 positions.
#
#   torchrun --nproc_per_node=8 train.py config/h1_gpt2.py
#   torchrun --nproc_per_node=8 evaluate.py --model=out/h1_gpt2
#
# All else as Hypothesis 2: the same sequences, sites, targets and tokens. The second line is for Table 1.

include = "h2_gpt2.py"
variant = "h1"
