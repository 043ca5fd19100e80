# Table 2 at laptop size: Coconut, as tiny_prosqa_h2.py in all else. Its latents are made one after the other.
#
#   python finetune_reasoning.py config/tiny_prosqa_coconut.py

include = "tiny_prosqa_h2.py"
variant = "coconut"
