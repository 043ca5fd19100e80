# Table 2, Coconut's published recipe on ProsQA: c = 1, k = 6, 5 epochs a stage from stage 0 on, then 15 of answers alone.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/coconut_prosqa_gpt2.py

include = "prosqa_gpt2.py"
variant = "coconut"
stages = 6
latents_per_step = 1
last_stage_epochs = 15
