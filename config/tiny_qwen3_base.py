# A tiny Qwen-3 (rotary positions, shared KV heads) in place of the tiny GPT-2, for Figure 2B at laptop size.
#
#   python train.py config/tiny_qwen3_base.py
#   python train.py config/tiny_h2.py --init_from=out/tiny_qwen3_base --out_dir=out/tiny_qwen3_h2      (and the others)

include = "tiny_base.py"
init_from = "random:tiny_qwen3"  # 2 layers, 64 wide
