# The tiny reasoning Base, trained further on its statements as running text: what more reading alone changes.
#
#   python train.py config/tiny_statements_continued.py

include = "tiny_continued.py"
init_from = "out/tiny_statements/checkpoint/base"
data = "data/statements"
