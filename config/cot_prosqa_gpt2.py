# Reference row on ProsQA: GPT-2 124M writes the whole chain of thought.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/cot_prosqa_gpt2.py

include = "h2_prosqa_gpt2.py"
variant = "cot"
epochs_per_stage = 50
