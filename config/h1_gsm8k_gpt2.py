# Table 2, Hypothesis 1 on GSM8K: a frozen GPT-2 124M reads its Coprocessor's cache, N_L = 12. There is no stage 0 to train.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/h1_gsm8k_gpt2.py

include = "h2_gsm8k_gpt2.py"
variant = "h1"
