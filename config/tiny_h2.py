# Hypothesis 2: Base and Coprocessor trained together, from the tiny Base, on the same tokens as tiny_continued.
#
#   python train.py config/tiny_h2.py
#
# Two to three minutes on two CPU cores.

include = "tiny_continued.py"
variant = "h2"
