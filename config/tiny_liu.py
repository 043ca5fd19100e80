# Liu et al. 2024b: the Base frozen, Z as input embeddings, from the tiny Base, on the same tokens as tiny_continued.
#
#   python train.py config/tiny_liu.py
#
# Two to three minutes on two CPU cores.

include = "tiny_continued.py"
variant = "liu"
