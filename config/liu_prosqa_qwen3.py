# Table 2, Liu et al. on ProsQA: a frozen Qwen-3 0.6B and its Coprocessor, N_L = 12. There is no stage 0 to train.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/liu_prosqa_qwen3.py

include = "h2_prosqa_qwen3.py"
variant = "liu"
