# Hypothesis 1: the Base frozen, the Coprocessor's cache, from the tiny Base, on the same tokens as tiny_continued.
#
#   python train.py config/tiny_h1.py
#
# Two to three minutes on two CPU cores.

include = "tiny_continued.py"
variant = "h1"
