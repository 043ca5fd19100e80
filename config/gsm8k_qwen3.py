# Table 2, GSM8K with Qwen-3 0.6B: Hypothesis 2 through the staged curriculum, N_L = k c = 12; then the systems beside it.
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_qwen3.py
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_qwen3.py --variant=soft
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_qwen3.py --variant=liu --last_stage_epochs=13
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_qwen3.py --variant=h1 --last_stage_epochs=13
#
# The numbers are those for GPT-2: gsm8k_gpt2.py says why.
#
# Figure 3A, beside c = 3 above:
#
#   for v in h2 soft; do for c in 1 2 4; do
#       torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_qwen3.py --variant=$v --latents_per_step=$c
#   done; done
#
# Table 3, N_L = 16. Scratch is c = 4 of Figure 3A; the others start from the large-scale run: through the curriculum; straight
# to 16 for the first step, the later ones in words, as k = 1, c = 16 says (in tables: steps stay); or for all steps (no steps).
#
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_qwen3.py --latents_per_step=4 --init_from=out/h2_qwen3
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_qwen3.py --stages=1 --latents_per_step=16 \
#       --first_stage=1 --epochs_per_stage=25 --last_stage_epochs=0 --init_from=out/h2_qwen3
#   torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_qwen3.py --stages=1 --latents_per_step=16 \
#       --first_stage=2 --last_stage_epochs=25 --init_from=out/h2_qwen3

include = "gsm8k_gpt2.py"
init_from = "Qwen/Qwen3-0.6B"
tokenizer = "qwen3"
