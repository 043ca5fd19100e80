# Table 2, Liu et al. on ProsQA: a frozen GPT-2 124M and its Coprocessor, N_L = 12. There is no stage 0 to train.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/liu_prosqa_gpt2.py

include = "h2_prosqa_gpt2.py"
variant = "liu"
