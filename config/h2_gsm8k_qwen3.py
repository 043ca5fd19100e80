# Table 2, Hypothesis 2 on GSM8K: Qwen-3 0.6B and its Coprocessor, N_L = 12.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/h2_gsm8k_qwen3.py

include = "h2_gsm8k_gpt2.py"
init_from = "Qwen/Qwen3-0.6B"
tokenizer = "qwen3"
