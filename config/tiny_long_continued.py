# tiny_continued with five times the tokens: from which budget on do latents pay?
#
#   python train.py config/tiny_long_continued.py

include = "tiny_continued.py"
tokens = 6000 * tokens_per_step  # 12.3M
eval_every = 500
