# Table 2, Hypothesis 1 on ProsQA: a frozen Qwen-3 0.6B reads its Coprocessor's cache, N_L = 12. There is no stage 0 to train.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/h1_prosqa_qwen3.py

include = "h2_prosqa_qwen3.py"
variant = "h1"
