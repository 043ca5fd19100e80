# Table 2, Coconut's published recipe on GSM8K: c = 2, k = 3, stages from 1 on, after a chain-of-thought stage of its own.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/cot_gsm8k_gpt2.py
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/coconut_gsm8k_gpt2.py
#
# 3 epochs for each of the stages 1, 2, 3, then 13 of answers alone: epochs 3 to 24 of the published 25. The published code
# trains GPT-2 in its library's training mode, that is with dropout 0.1; there is none here. Its curve in Figure 3A:
#
#   for c in 1 2 3 4; do
#       torchrun --nproc_per_node=8 finetune_reasoning.py config/coconut_gsm8k_gpt2.py --stages=4 --latents_per_step=$c
#   done

include = "gsm8k_gpt2.py"
variant = "coconut"
init_from = "out/cot_gsm8k_gpt2"
stages = 3
latents_per_step = 2
first_stage = 1
last_stage_epochs = 13
