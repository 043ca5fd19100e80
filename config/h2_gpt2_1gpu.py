# Hypothesis 2 on one GPU: a tenth of the paper's tokens, the same everything else.
#
#   python data.py fineweb_edu --tokenizer gpt2 --shards 6
#   python train.py config/h2_gpt2_1gpu.py
#
# An estimate, not a measurement: 2.52 TFLOP per sequence (train.flops_per_sequence) x 4e9 / 1024 sequences = 9.8e18 FLOP, that
# is 22 hours on an A100 and 7 on an H100 at 40 % of their bf16 peak. All 40B tokens: ten times that.

include = "h2_gpt2.py"
tokens = 4 * 10**9
tokens_per_step = 40 * batch_size * seq_len  # 40 micro-batches x 12 sequences
