# Table 2, ProsQA with GPT-2 124M: Hypothesis 2 through the staged curriculum, N_L = k c = 12; then the systems beside it.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/prosqa_gpt2.py
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/prosqa_gpt2.py --variant=soft
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/prosqa_gpt2.py --variant=liu --last_stage_epochs=30
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/prosqa_gpt2.py --variant=h1 --last_stage_epochs=30
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/prosqa_gpt2.py --variant=no_cot --last_stage_epochs=50
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/prosqa_gpt2.py --variant=cot --epochs_per_stage=50
#
# As on GSM8K (gsm8k_gpt2.py says why), with Coconut's 5 epochs a stage, 50 altogether. 17,886 questions / 128 = 139 steps an
# epoch. Coconut itself, for as many epochs: coconut_prosqa_gpt2.py.
#
# Figure 7, beside c = 3 above:
#
#   for v in h2 soft; do for c in 1 2 4; do
#       torchrun --nproc_per_node=8 finetune_reasoning.py config/prosqa_gpt2.py --variant=$v --latents_per_step=$c
#   done; done
#
# Table 4, N_L = 16. Scratch is c = 4 of Figure 7; the others start from the large-scale run: through the curriculum; straight
# to 16 for the first step, the later ones in words, as k = 1, c = 16 says (in tables: steps stay); or for all steps (no steps).
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/prosqa_gpt2.py --latents_per_step=4 --init_from=out/h2_gpt2
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/prosqa_gpt2.py --stages=1 --latents_per_step=16 \
#       --first_stage=1 --epochs_per_stage=50 --last_stage_epochs=0 --init_from=out/h2_gpt2
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/prosqa_gpt2.py --stages=1 --latents_per_step=16 \
#       --first_stage=2 --last_stage_epochs=50 --init_from=out/h2_gpt2

include = "gsm8k_gpt2.py"
data = "prosqa"
epochs_per_stage = 5
last_stage_epochs = 25
max_new_tokens = 128
