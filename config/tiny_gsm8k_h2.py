# GSM8K end to end at a tiny size: real questions, the whole curriculum, far too small a model to solve them.
#
#   python finetune_reasoning.py config/tiny_gsm8k_h2.py
#
# It starts from random weights with GPT-2's tokenizer. About XX minutes on two CPU cores.

variant = "h2"
init_from = "random:tiny_qwen3"
data = "gsm8k"
tokenizer = "gpt2"
train_limit = 1024
valid_limit = 100
test_limit = 200
stages = 4
latents_per_step = 1
epochs_per_stage = 1
last_stage_epochs = 2
batch_size = 32
micro_batch = 16
lr = 1e-3
clip = 1.0
log_every = 8
