# A Base of the tiny reasoning runs that has met every word of the questions: tiny_statements has not met " or ", "Is", "?",
# and "a lumpus" only after "is". It looks up one told fact, not two at once, so that its answers need steps or latents.
#
#   python prosqa.py data/worded --nodes=7 --hops 2 3 --words 4 8 --statements --worded --counts 40000 100 100
#   python finetune_reasoning.py config/tiny_worded.py
#   python finetune_reasoning.py config/tiny_prosqa_coconut.py --init_from=out/tiny_worded/checkpoint/base \
#       --tokenizer=data/worded/tokenizer.json --out_dir=out/worded_prosqa_coconut

include = "tiny_statements.py"
data = "data/worded"
tokenizer = "data/worded/tokenizer.json"
