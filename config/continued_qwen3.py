# Figure 2B, Baseline 1: continued pretraining on the same tokens.
#
#   torchrun --nproc_per_node=8 train.py config/continued_qwen3.py
#   torchrun --nproc_per_node=8 evaluate.py --model=out/continued_qwen3
#
# All else as Hypothesis 2: the same sequences, sites, targets and tokens. The second line is for Table 1.

include = "h2_qwen3.py"
variant = "continued"
batch_size = 8  # 1,024 positions per sequence: 8 GPUs x 4 micro-batches x 8 = 256 sequences, as the others
