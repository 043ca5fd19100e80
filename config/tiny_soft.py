# Baseline 2: N_L soft embeddings, from the tiny Base, on the same tokens as tiny_continued.
#
#   python train.py config/tiny_soft.py
#
# Two to three minutes on two CPU cores.

include = "tiny_continued.py"
variant = "soft"
