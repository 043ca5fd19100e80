# GSM8K end to end at a tiny size: real questions, the whole curriculum, far too small a model to solve them.
#
#   python finetune_reasoning.py config/tiny_gsm8k.py
#
# It starts from random weights with GPT-2's tokenizer. Three minutes on one CPU core; it solves none of the questions.

variant = "h2"
init_from = "random:tiny_qwen3"
data = "gsm8k"
tokenizer = "gpt2"
train_limit = 512
valid_limit = 50
test_limit = 50
stages = 2
latents_per_step = 1
epochs_per_stage = 1
last_stage_epochs = 1
batch_size = 32
micro_batch = 16
lr = 1e-3
clip = 1.0
log_every = 8
precision = "fp32"  # so small a model gains nothing from bf16
