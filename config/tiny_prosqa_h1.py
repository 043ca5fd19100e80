# Table 2 at laptop size: Hypothesis 1, as tiny_prosqa_h2.py in all else, with as many epochs altogether:
# a frozen Base has nothing to learn in stage 0, so that the last stage has one more.
#
#   python finetune_reasoning.py config/tiny_prosqa_h1.py

include = "tiny_prosqa_h2.py"
variant = "h1"
last_stage_epochs = 3
