# tiny_h2 with five times the tokens: from which budget on do latents pay?
#
#   python train.py config/tiny_long_h2.py

include = "tiny_h2.py"
tokens = 6000 * tokens_per_step  # 12.3M
eval_every = 500
