# Table 2, Liu et al. on GSM8K: a frozen GPT-2 124M and its Coprocessor, N_L = 12. There is no stage 0 to train.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/liu_gsm8k_gpt2.py

include = "h2_gsm8k_gpt2.py"
variant = "liu"
