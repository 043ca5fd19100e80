# Table 2, Hypothesis 2 on ProsQA: GPT-2 124M and its Coprocessor through the staged curriculum, N_L = k c = 12.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/h2_prosqa_gpt2.py
#
# As on GSM8K, with Coconut's 5 epochs a stage, 50 altogether. 17,886 questions / 128 = 139 steps an epoch. The sweep of
# Figure 7 and the protocols of Table 4 take the options that h2_gsm8k_gpt2.py shows (straight to 16: --last_stage_epochs=50).

include = "h2_gsm8k_gpt2.py"
data = "prosqa"
epochs_per_stage = 5
last_stage_epochs = 25
max_new_tokens = 128
