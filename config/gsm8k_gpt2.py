# Table 2, GSM8K with GPT-2 124M: Hypothesis 2 through the staged curriculum, N_L = k c = 12; then the systems beside it.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_gpt2.py
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_gpt2.py --variant=soft
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_gpt2.py --variant=liu --last_stage_epochs=13
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_gpt2.py --variant=h1 --last_stage_epochs=13
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_gpt2.py --variant=no_cot --last_stage_epochs=25
#
# The paper gives k = 4, c = 1 to 4, and the learning rate; the rest is Coconut's published recipe: 128 questions a step, plain
# AdamW that is reset at every epoch, 3 epochs a stage, 25 altogether. 385,620 questions / 128 = 3,012 steps an epoch.
# liu and h1 have nothing to train in stage 0; a longer last stage gives them 25 epochs, too. Only Coconut has more: its 22
# (coconut_gsm8k_gpt2.py) go on from a run of cot_gsm8k_gpt2.py, which has learnt to write chains of thought.
#
# Figure 3A, beside c = 3 above:
#
#   for v in h2 soft; do for c in 1 2 4; do
#       torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_gpt2.py --variant=$v --latents_per_step=$c
#   done; done
#
# Table 3, N_L = 16. Scratch is c = 4 of Figure 3A; the others start from the large-scale run: through the curriculum; straight
# to 16 for the first step, the later ones in words, as k = 1, c = 16 says (in tables: steps stay); or for all steps (no steps).
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_gpt2.py --latents_per_step=4 --init_from=out/h2_gpt2
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_gpt2.py --stages=1 --latents_per_step=16 \
#       --first_stage=1 --epochs_per_stage=25 --last_stage_epochs=0 --init_from=out/h2_gpt2
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_gpt2.py --stages=1 --latents_per_step=16 \
#       --first_stage=2 --last_stage_epochs=25 --init_from=out/h2_gpt2
#
# Questions that no run has seen (python evaluate.py out/gsm8k_gpt2 --questions=FILE): SVAMP, MultiArith and GSM-Hard as the hub
# has them under ChilleD/SVAMP, ChilleD/MultiArith and reasoning-machines/gsm-hard; any .json, .jsonl or .parquet of theirs.
#
# Figure 4B with Table 5, and Figure 9C, without the curriculum:
#
#   python analyze_latents.py out/gsm8k_gpt2
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_gpt2.py --first_stage=5 --last_stage_epochs=25
#   python analyze_latents.py out/gsm8k_gpt2,first_stage=5,last_stage_epochs=25

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
