# Table 2 at laptop size: Liu et al., as tiny_prosqa_h2.py in all else.
#
#   python finetune_reasoning.py config/tiny_prosqa_liu.py

include = "tiny_prosqa_h2.py"
variant = "liu"
