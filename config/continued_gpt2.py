# Figure 2A, Baseline 1: continued pretraining on the same tokens.
#
#   torchrun --nproc_per_node=8 train.py config/continued_gpt2.py
#   torchrun --nproc_per_node=8 evaluate.py --model=out/continued_gpt2
#
# All else as Hypothesis 2: the same sequences, sites, targets and tokens. The second line is for Table 1.

include = "h2_gpt2.py"
variant = "continued"
batch_size = 30  # 1,024 positions per sequence: 8 GPUs x 2 micro-batches x 30 = 480 sequences, as the others
