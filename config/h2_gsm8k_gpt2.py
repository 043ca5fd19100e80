# Table 2, Hypothesis 2 on GSM8K: GPT-2 124M and its Coprocessor through the staged curriculum, N_L = k c = 12.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/h2_gsm8k_gpt2.py
#
# The paper gives k = 4, c = 1 to 4, and the learning rate; the rest is Coconut's published recipe: 128 questions a step, plain
# AdamW that is reset at every epoch, 3 epochs a stage, 25 altogether. 385,620 questions / 128 = 3,012 steps an epoch.
#
#   Figure 3A, c = 1, 2, 4:      --latents_per_step=1 --out_dir=out/h2_gsm8k_gpt2_c1, and so on
#   Table 3, scratch:            --latents_per_step=4 --out_dir=out/h2_gsm8k_gpt2_c4
#   Table 3, resume:             --latents_per_step=4 --init_from=out/h2_gpt2 --out_dir=out/h2_gsm8k_gpt2_resume
#   Table 3, straight to 16:     --stages=1 --latents_per_step=16 --first_stage=2 --last_stage_epochs=25
#                                --init_from=out/h2_gpt2 --out_dir=out/h2_gsm8k_gpt2_straight
#   Figure 9C, no curriculum:    --first_stage=5 --last_stage_epochs=25 --out_dir=out/h2_gsm8k_gpt2_plain

variant = "h2"
init_from = "openai-community/gpt2"
data = "gsm8k_aug"
tokenizer = "gpt2"
stages = 4  # k
latents_per_step = 3  # c
epochs_per_stage = 3  # stages 0 to 4
last_stage_epochs = 10
batch_size = 128
micro_batch = 16  # x 8 GPUs
lr = 1e-4
