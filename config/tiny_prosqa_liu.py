# Table 2 at laptop size: Liu et al., as tiny_prosqa_h2.py in all else, with as many epochs altogether:
# a frozen Base has nothing to learn in stage 0, so that the last stage has one more.
#
#   python finetune_reasoning.py config/tiny_prosqa_liu.py

include = "tiny_prosqa_h2.py"
variant = "liu"
last_stage_epochs = 3
