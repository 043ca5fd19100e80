# Table 2 at laptop size: soft embeddings, as tiny_prosqa_h2.py in all else.
#
#   python finetune_reasoning.py config/tiny_prosqa_soft.py

include = "tiny_prosqa_h2.py"
variant = "soft"
