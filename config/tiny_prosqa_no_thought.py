# Table 2 at laptop size, a control: the same curriculum, whose steps give way to nothing at all.
#
#   python finetune_reasoning.py config/tiny_prosqa_no_thought.py

include = "tiny_prosqa_h2.py"
variant = "no_thought"
