#!/usr/bin/env bash
# Every run behind results/README.md, from the data to the page. A line is a run:
#
#   run  "seeds" NAME  script options      # ends as a line of results/tiny.jsonl
#   look "seeds" NAME  script options      # and analyze_latents.py looks at its latents
#   base         NAME  script options      # without seeds; others start from it, so its weights are kept in results/bases
#
# NAME is <task>_<system>[_<what is different about it>], as paper/hypotheses.txt has it; a run of seed 1 is NAME_s1. @ stands for
# the seed. --seed, --device=cpu --precision=fp32 (where no device is named) and --out_dir are added below.
#
#   bash paper/runs.sh                     # what is not finished, a run a core (WORKERS=1: one after the other)
#   bash paper/runs.sh '^(base|text)_'     # of that only runs whose name matches
#   LIST=1 bash paper/runs.sh              # the commands, and no more
#   python -m paper.page                   # what the runs say
#
# A run lies in out/paper/NAME_s1, its log beside it. What was cut off goes on where it was. A run whose very command stands in
# results/tiny.jsonl is finished. Needs bash 4.3.

set -u
ONLY=${1:-.} LIST=${LIST:-} PYTHON=${PYTHON:-.venv/bin/python} WORKERS=${WORKERS:-$(getconf _NPROCESSORS_ONLN)}
COMMIT=$(git describe --always)$(git diff --quiet HEAD -- . ':!results' || echo -dirty) # results change as runs end
export OMP_NUM_THREADS=1
[[ $LIST ]] || { mkdir -p out/paper && rm -f out/paper/failed; }
trap 'trap - TERM; kill 0; wait' INT # Ctrl-C: all runs save and leave

data() { # a file that is there afterwards, command
    [[ $LIST || -e $1 ]] && return
    echo "making $1"
    $PYTHON "${@:2}" >> out/paper/data.log 2>&1 || { tail out/paper/data.log; exit 1; }
}

one() { # run, look or base; name; command
    local out=out/paper/$2 how=--overwrite
    [[ -e $out/checkpoint && $(head -n 1 "$out.log") == *" python ${*:3}" ]] && how=--resume
    [[ $how == --resume ]] || echo "$COMMIT python ${*:3}" > "$out.log"
    {
        $PYTHON "${@:3}" $how || return
        [[ $1 == look ]] && { $PYTHON analyze_latents.py "$out" --examples=1024 || return; }
        [[ $3 == train.py ]] && { $PYTHON evaluate.py "$out" --tasks=perplexity --out_dir="${out}_eval" --overwrite || return; }
        [[ $1 == base ]] && { mkdir -p "results/bases/$2" && cp "$out"/tokenizer.json "$out"/checkpoint/base/{config.json,model.safetensors} "results/bases/$2" || return; }
        $PYTHON -m paper.collect "$out"
    } >> "$out.log" 2>&1
}

start() { # run, look or base; name; command
    local command=("${@:3}")
    [[ $2 =~ $ONLY ]] || return 0
    [[ "$*" == *--device=* ]] || command+=(--device=cpu --precision=fp32)
    command+=("--out_dir=out/paper/$2")
    if [[ $LIST ]]; then echo "$2 python ${command[*]}"; return; fi
    grep -qF "\"command\": \"python ${command[*]}\"" results/tiny.jsonl && return
    while (($(jobs -rp | wc -l) >= WORKERS)); do wait -n; done
    echo "$2 begins"
    { one "$1" "$2" "${command[@]}" && echo "$2 is finished" || echo "$2 failed: see out/paper/$2.log" | tee -a out/paper/failed; } &
}

seeds() {
    local seed command=("${@:4}")
    for seed in $2; do start "$1" "$3_s$seed" "${command[@]//@/$seed}" --seed="$seed"; done
}
run() { seeds run "$@"; }
look() { seeds look "$@"; }
base() { start base "$@"; }

# The data: the standard library's source; tiny worlds and questions about them; sums and problems (a minute)
WORLD="--nodes=9 --hops 2 3 --words 4 8"
data data/sample/val_000.bin           data.py sample
data data/statements_9/val_000.bin     prosqa.py data/statements_9 $WORLD --statements --counts 40000 100 100
data data/worded_9/val_000.bin         prosqa.py data/worded_9 $WORLD --statements --worded --counts 40000 100 100
data data/prosqa_9/prosqa_train.json   prosqa.py data/prosqa_9 $WORLD --depth_matched --counts 10000 300 500
LONGER="--nodes=14 --hops 3 4 --words 4 12"
data data/statements_14/val_000.bin    prosqa.py data/statements_14 $LONGER --statements --counts 40000 100 100
data data/prosqa_14/prosqa_train.json  prosqa.py data/prosqa_14 $LONGER --depth_matched --counts 10000 300 500
data data/countdown/train_000.bin      countdown.py --operands=3 --sums
data data/countdown/4_seed0_train.jsonl countdown.py --operands=4 --show=1

# Most of the runs below were made before text kept its own positions, with twice the sites on text: these options say so
OLD="--text_positions=pushed"

# The Bases of the runs on text (66 and 98 minutes; twice has twice the layers), on ProsQA (10 each), and on Countdown (2)
base base_gpt2    train.py config/tiny_base.py --n_sites=16
base base_twice   train.py config/tiny_base.py --n_sites=16 --init_from=random:tiny_gpt2_twice
base statements   finetune_reasoning.py config/tiny_statements.py
base worded       finetune_reasoning.py config/tiny_statements.py --data=data/worded_9 --tokenizer=data/worded_9/tokenizer.json
LONG_TOKENS="--tokenizer=data/statements_14/tokenizer.json"
base statements_14 finetune_reasoning.py config/tiny_statements.py --data=data/statements_14 $LONG_TOKENS
base sums         train.py config/tiny_sums.py --n_sites=16
wait

# Text (3 to 15 minutes a run): every system; h2 with 1 and 8 latents; a third of the budget, and two and a half times of it
TEXT="train.py config/tiny_text.py --init_from=results/bases/base_gpt2 --n_sites=16 $OLD"
for v in continued soft pause liu h1; do
    run "1 2 3" text_$v                $TEXT --tokens=4915200 --eval_every=300 --variant=$v
done
look "1 2 3" text_h2                   $TEXT --tokens=4915200 --eval_every=300 --variant=h2
run "1 2 3"  text_h2_1_latent          $TEXT --tokens=4915200 --eval_every=300 --n_latents=1
look "1 2 3" text_h2_8_latents         $TEXT --tokens=4915200 --eval_every=300 --n_latents=8
for v in continued soft liu h1 h2; do
    run "1 2 3" text_${v}_1.6M_tokens  $TEXT --variant=$v
done
for v in continued h2; do
    run "1 2" text_${v}_12.3M_tokens   $TEXT --tokens=12288000 --eval_every=500 --variant=$v
done

# Text in its own place: every system, with text pushed on beside it, M x N_A = S (1 to 2 minutes)
PLACE="train.py config/tiny_text.py --init_from=results/bases/base_gpt2"
for v in continued soft tied pause liu h1 h2; do
    run "1 2" place_$v                 $PLACE --variant=$v
done
for v in soft tied pause liu h1 h2; do
    run "1 2" place_${v}_pushed        $PLACE --variant=$v --text_positions=pushed
done

# ProsQA (4 to 8 minutes). All train for 15 epochs: liu and h1 have no stage 0, cot no other, no_cot only the last
PROSQA="finetune_reasoning.py config/tiny_prosqa.py $OLD"
FROM="--init_from=results/bases/statements"
look "1 2 3 4 5 6" prosqa_h2           $PROSQA $FROM --variant=h2
run "1 2 3 4 5 6"  prosqa_soft         $PROSQA $FROM --variant=soft
run "1 2 3 4 5 6"  prosqa_no_thought   $PROSQA $FROM --variant=no_thought
look "1 2 3 4 5"   prosqa_coconut      $PROSQA $FROM --variant=coconut
run "1 2 3 4 5"    prosqa_no_cot       $PROSQA $FROM --variant=no_cot --last_stage_epochs=15
run "1 2 3 4 5"    prosqa_liu          $PROSQA $FROM --variant=liu --last_stage_epochs=9
run "1 2 3 4 5"    prosqa_h1           $PROSQA $FROM --variant=h1 --last_stage_epochs=9
run "1 2"          prosqa_cot          $PROSQA $FROM --variant=cot --epochs_per_stage=15
# From a Base that has met all of the questions' words
WORDED="--init_from=results/bases/worded --tokenizer=data/worded_9/tokenizer.json"
run "1 2" prosqa_h1_worded             $PROSQA $WORDED --variant=h1 --last_stage_epochs=9

# Latents that spell their step (5 minutes); chains that are a step longer (10), from a Base of statements as long
STEPS="finetune_reasoning.py config/tiny_prosqa.py --step_weight=1"
run "1 2 3 4 5 6" steps_h2             $STEPS $FROM
for v in rounds tied coconut soft; do
    run "1" steps_$v                   $STEPS $FROM --variant=$v
done
run "1 2 3" plain_h2                   finetune_reasoning.py config/tiny_prosqa.py $FROM # the same without the added loss
LONG="--data=data/prosqa_14 $LONG_TOKENS --init_from=results/bases/statements_14"
run "1 2 3" long_rounds                $STEPS $LONG --stages=3 --variant=rounds
run "1 2 3" long_rounds_scaled         $STEPS $LONG --stages=3 --variant=rounds --scale_latents

# Countdown from random weights (5 to 11 minutes); with a penalty on the overlap of latents
COUNTDOWN="countdown.py config/tiny_countdown.py $OLD"
for n in 3 4; do
    run "1 2 3" countdown${n}_h2_1_latent     $COUNTDOWN --operands=$n --n_latents=1
    run "1 2 3" countdown${n}_h2_4_latents    $COUNTDOWN --operands=$n --n_latents=4
    run "1 2 3" countdown${n}_soft_4_latents  $COUNTDOWN --operands=$n --variant=soft
    run "1 2 3" countdown${n}_no_cot          $COUNTDOWN --operands=$n --variant=no_cot --n_latents=0
done
look "1 2 3" countdown3_h2_16_latents         $COUNTDOWN --operands=3 --n_latents=16
look "1 2"   countdown4_h2_16_latents         $COUNTDOWN --operands=4 --n_latents=16
look "1 2"   countdown3_h2_penalty            $COUNTDOWN --operands=3 --n_latents=16 --orthogonality_weight=0.1

# Large-scale runs first, on text in the questions' words (2 to 6 minutes): h2, or a Base that has read as much without latents
MORE="train.py config/tiny_text.py --tokens=2457600 --eval_every=150 --n_sites=16 $OLD"
for task in statements sums; do
    text=data/statements_9 && [[ $task == sums ]] && text=data/countdown
    run "1 2 3" ${task}_h2         $MORE --init_from=results/bases/$task --data=$text --n_latents=4
    run "1 2 3" ${task}_continued  $MORE --init_from=results/bases/$task --data=$text --variant=continued
done
wait
run "1 2 3" prosqa_h2_resumed      $PROSQA --init_from=out/paper/statements_h2_s@
run "1 2 3" prosqa_h2_read_more    $PROSQA --init_from=out/paper/statements_continued_s@
for n in 3 4; do
    ss="1 2 3" && ((n == 4)) && ss="2 3"
    run "$ss" countdown${n}_h2_sums       $COUNTDOWN --operands=$n --variant=h2 --init_from=results/bases/sums
    run "$ss" countdown${n}_h1_sums       $COUNTDOWN --operands=$n --variant=h1 --init_from=results/bases/sums
    run "$ss" countdown${n}_h2_resumed    $COUNTDOWN --operands=$n --init_from=out/paper/sums_h2_s@
    run "$ss" countdown${n}_h2_read_more  $COUNTDOWN --operands=$n --init_from=out/paper/sums_continued_s@
done

# Text with 37M parameters, where there is a GPU (3 minutes, then 1 each)
if [[ $LIST ]] || command -v nvidia-smi > /dev/null; then
    SMALL="train.py config/small_text.py --device=cuda --n_sites=64 $OLD"
    data data/packages/val_000.bin data.py sample --packages --vocab_size=8192
    start run small_base $SMALL --variant=continued --init_from=random:small_gpt2 --lr=1e-3 --tokens=100000000
    wait
    for v in continued soft liu h1 h2; do
        run "1 2 3" text37M_$v $SMALL --variant=$v --init_from=out/paper/small_base
    done
fi
wait
[[ ! -s out/paper/failed ]]
