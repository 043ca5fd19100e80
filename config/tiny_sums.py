# The Base of the tiny Countdown runs that do not start from random weights. It reads sums of three numbers, the solutions
# of the training problems (of the held-out ones there is none), but never a problem.
#
#   python countdown.py --operands=3 --sums
#   python train.py config/tiny_sums.py
#
# Two minutes on one CPU core. From it, the large-scale run of tiny Countdown on the same sums, and what more reading alone
# changes:
#
#   python train.py config/tiny_text.py --data=data/countdown --init_from=out/tiny_sums --n_latents=4 --out_dir=out/tiny_sums_h2
#   python train.py config/tiny_text.py --data=data/countdown --init_from=out/tiny_sums --variant=continued \
#       --out_dir=out/tiny_sums_continued
#
# Figure 8 at laptop size:
#
#   for o in 3 4; do
#       python countdown.py config/tiny_countdown.py --operands=$o --init_from=out/tiny_sums
#       python countdown.py config/tiny_countdown.py --operands=$o --init_from=out/tiny_sums --variant=h1
#       python countdown.py config/tiny_countdown.py --operands=$o --init_from=out/tiny_sums_h2
#       python countdown.py config/tiny_countdown.py --operands=$o --init_from=out/tiny_sums_continued
#   done

include = "tiny_base.py"
init_from = "random:mini_qwen3"  # 3 layers, 64 wide
data = "data/countdown"
tokens = 1500 * tokens_per_step  # 3.1M
lr = 2e-3
eval_every = 500
log_every = 100
checkpoint_every = 500
