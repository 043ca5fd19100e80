# tiny_soft with five times the tokens: from which budget on do latents pay?
#
#   python train.py config/tiny_long_soft.py

include = "tiny_soft.py"
tokens = 6000 * tokens_per_step  # 12.3M
eval_every = 500
