# Table 2 at laptop size: Hypothesis 1, as tiny_prosqa_h2.py in all else.
#
#   python finetune_reasoning.py config/tiny_prosqa_h1.py

include = "tiny_prosqa_h2.py"
variant = "h1"
