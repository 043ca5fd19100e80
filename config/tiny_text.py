# Figure 2 at laptop size: large-scale training from the tiny Base, Hypothesis 2 where no variant is named.
#
#   python train.py config/tiny_text.py
#   for v in continued soft pause liu h1 h2; do python train.py config/tiny_text.py --variant=$v; done
#
# All on the same 1.6M tokens and sites (pause is a control: one soft token in every slot); one to three minutes each on two CPU
# cores. Then by N_L, and with eight times the tokens: from which budget on do latents pay?
#
#   for n in 1 4 8; do python train.py config/tiny_text.py --n_latents=$n; done
#   for v in continued soft h2; do python train.py config/tiny_text.py --variant=$v --tokens=12288000 --eval_every=500; done

include = "tiny_base.py"
variant = "h2"
init_from = "results/bases/base_gpt2"  # made by tiny_base.py
tokens = 800 * tokens_per_step  # 1.6M
lr = 1e-3  # 3e-3 disturbs a trained Base, under every variant
eval_every = 100
log_every = 100
checkpoint_every = 300
