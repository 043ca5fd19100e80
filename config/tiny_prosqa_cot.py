# Table 2 at laptop size: the reference that writes its steps, for as many epochs as the others have altogether.
#
#   python finetune_reasoning.py config/tiny_prosqa_cot.py

include = "tiny_prosqa_h2.py"
variant = "cot"
epochs_per_stage = 5
