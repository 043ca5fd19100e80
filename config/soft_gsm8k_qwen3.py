# Table 2, soft embeddings on GSM8K: Qwen-3 0.6B alone, with 12 soft tokens.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/soft_gsm8k_qwen3.py

include = "h2_gsm8k_qwen3.py"
variant = "soft"
