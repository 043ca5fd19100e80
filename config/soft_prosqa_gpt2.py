# Table 2, soft embeddings on ProsQA: GPT-2 124M alone, with 12 soft tokens.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/soft_prosqa_gpt2.py

include = "h2_prosqa_gpt2.py"
variant = "soft"
