# Reference row on GSM8K, and the stage that precedes Coconut: GPT-2 124M writes the whole chain of thought.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/cot_gsm8k_gpt2.py
#
# Coconut's recipe: 25 epochs; the best on validation (after about 6, near 40 %) is kept in best/, where
# coconut_gsm8k_gpt2.py starts.

include = "gsm8k_gpt2.py"
variant = "cot"
epochs_per_stage = 25
