# Table 2 at laptop size: the reference that answers at once, without steps and latents.
#
#   python finetune_reasoning.py config/tiny_prosqa_no_cot.py

include = "tiny_prosqa_h2.py"
variant = "no_cot"
last_stage_epochs = 5
