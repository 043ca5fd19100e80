# The Base of the tiny Countdown runs that do not start from random weights. It reads sums of three numbers, the solutions
# of the training problems (of the held-out ones there is none), but never a problem.
#
#   python countdown.py --operands=3 --sums
#   python train.py config/tiny_sums.py
#
# Then Figure 8 at laptop size: h2 and h1 from this Base, and h2 from the large-scale run that starts from it.
#
#   python train.py config/tiny_sums_h2.py
#   python countdown.py config/tiny_countdown.py --init_from=out/tiny_sums --out_dir=out/sums_countdown
#   python countdown.py config/tiny_countdown.py --init_from=out/tiny_sums --variant=h1 --out_dir=out/sums_countdown_h1
#   python countdown.py config/tiny_countdown.py --init_from=out/tiny_sums_h2 --out_dir=out/resumed_countdown
#
# Two minutes on one CPU core.

include = "tiny_base.py"
init_from = "random:mini_qwen3"  # 3 layers, 64 wide
data = "data/countdown"
tokens = 1500 * tokens_per_step  # 3.1M
lr = 2e-3
