# Reference row on GSM8K: GPT-2 124M answers at once, without steps and without latents.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/no_cot_gsm8k_gpt2.py

include = "h2_gsm8k_gpt2.py"
variant = "no_cot"
last_stage_epochs = 25
