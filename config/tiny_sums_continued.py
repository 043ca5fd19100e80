# The Base of tiny Countdown, trained further on its sums: what more reading alone changes.
#
#   python train.py config/tiny_sums_continued.py

include = "tiny_continued.py"
init_from = "out/tiny_sums"
data = "data/countdown"
