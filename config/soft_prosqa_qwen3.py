# Table 2, soft embeddings on ProsQA: Qwen-3 0.6B alone, with 12 soft tokens.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/soft_prosqa_qwen3.py

include = "h2_prosqa_qwen3.py"
variant = "soft"
