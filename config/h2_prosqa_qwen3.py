# Table 2, Hypothesis 2 on ProsQA: Qwen-3 0.6B and its Coprocessor, N_L = 12.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/h2_prosqa_qwen3.py

include = "h2_prosqa_gpt2.py"
init_from = "Qwen/Qwen3-0.6B"
tokenizer = "qwen3"
