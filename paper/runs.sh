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

# The data: the standard library's source; tiny worlds and questions about them; problems (a minute)
WORLD="--nodes=9 --hops 2 3 --words 4 8"
data data/sample/val_000.bin           data.py sample
data data/statements_9/val_000.bin     prosqa.py data/statements_9 $WORLD --statements --counts 40000 100 100
data data/worded_9/val_000.bin         prosqa.py data/worded_9 $WORLD --statements --worded --counts 40000 100 100
data data/prosqa_9/prosqa_train.json   prosqa.py data/prosqa_9 $WORLD --depth_matched --counts 10000 300 500
LONGER="--nodes=14 --hops 3 4 --words 4 12"
data data/statements_14/val_000.bin    prosqa.py data/statements_14 $LONGER --statements --counts 40000 100 100
data data/prosqa_14/prosqa_train.json  prosqa.py data/prosqa_14 $LONGER --depth_matched --counts 10000 300 500
data data/countdown/3_seed0_train.jsonl countdown.py --operands=3 --show=1
# and text that no Base has read: the source of packages of requirements.txt, file after file in a drawn order
if [[ ! $LIST && ! -e data/other.txt ]]; then
    (
        cd "$($PYTHON -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" || exit
        find torch numpy scipy sklearn matplotlib -name '*.py' -size +0 ! -path '*/test*' | sort | shuf --random-source=<(yes) |
            while read -r file; do cat "$file" && printf '<|endoftext|>'; done
    ) > data/other.txt
fi
data data/other/val_000.bin            data.py text data/other.txt --tokenizer=results/bases/base_gpt2/tokenizer.json --out=data/other

# The Bases of the runs on text (66 and 98 minutes; twice has twice the layers), and on ProsQA (10 each)
base base_gpt2    train.py config/tiny_base.py --n_sites=16
base base_twice   train.py config/tiny_base.py --n_sites=16 --init_from=random:tiny_gpt2_twice
base statements   finetune_reasoning.py config/tiny_statements.py
base worded       finetune_reasoning.py config/tiny_statements.py --data=data/worded_9 --tokenizer=data/worded_9/tokenizer.json
LONG_TOKENS="--tokenizer=data/statements_14/tokenizer.json"
base statements_14 finetune_reasoning.py config/tiny_statements.py --data=data/statements_14 $LONG_TOKENS
wait

# The Base of the runs on other text: one more pass over its own, to rate 0, so that what they gain is not what it had left over
base annealed     train.py config/tiny_text.py --variant=continued --init_from=results/bases/base_gpt2 --tokens=5392384 --lr=4e-4 --min_lr=0
wait

# Other text, which no Base has read, never twice (1 to 5 minutes). Of two rates each system has the better one, found on a seed
# that is not told: 1e-3, or three times less where the Base learns, three times more where it is frozen
OTHER="train.py config/tiny_text.py --init_from=results/bases/annealed --data=data/other"
for v in continued soft tied liu h1 h2; do
    other=3e-4 && [[ $v == liu || $v == h1 ]] && other=3e-3
    run 4 rate_${v}_1e-3               $OTHER --variant=$v --lr=1e-3
    run 4 rate_${v}_$other             $OTHER --variant=$v --lr=$other
done
for lr in 1e-3 3e-4; do
    run 4 rate_h2_scaled_$lr           $OTHER --variant=h2 --scale_latents --lr=$lr
done

# With these rates, 4.9M tokens: every system; h2 and h1 with 1, 4 and 8 latents
OTHER="$OTHER --tokens=4915200 --eval_every=300"
for v in continued soft tied; do
    run "1 2 3" text_$v                $OTHER --variant=$v
done
run "1 2 3"  text_liu                  $OTHER --variant=liu --lr=3e-3
look "1 2 3" text_h1                   $OTHER --variant=h1 --lr=3e-3
look "1 2 3" text_h2                   $OTHER --variant=h2
look "1 2 3" text_h2_scaled            $OTHER --variant=h2 --scale_latents
run "1 2 3"  text_h2_1_latent          $OTHER --variant=h2 --n_latents=1
look "1 2 3" text_h2_8_latents         $OTHER --variant=h2 --n_latents=8
run "1 2"    text_h2_4_latents         $OTHER --variant=h2 --n_latents=4
for n in 1 4 8; do
    run "1 2" text_h1_${n}_latents     $OTHER --variant=h1 --lr=3e-3 --n_latents=$n
done
# and with 12.3M and 30.7M tokens, once (5 to 30)
for tokens in 12288000 30720000; do
    run 1 text${tokens:0:2}M_continued $OTHER --variant=continued --tokens=$tokens
    run 1 text${tokens:0:2}M_h2_scaled $OTHER --variant=h2 --scale_latents --tokens=$tokens
done

# Text in its own place, and pushed on by latents (OLD), which was the default until 2026-11-30 (1 to 2 minutes)
OLD="--text_positions=pushed"
PLACE="train.py config/tiny_text.py --init_from=results/bases/base_gpt2"
for v in continued soft tied pause liu h1 h2; do
    run "1 2" place_$v                 $PLACE --variant=$v
done
for v in soft tied pause liu h1 h2; do
    run "1 2" place_${v}_pushed        $PLACE --variant=$v $OLD
done

# ProsQA (4 to 8 minutes). All train for 15 epochs: liu and h1 have no stage 0, cot no other, no_cot only the last. The frozen
# Base of liu and h1 is one that has met all of the questions' words
PROSQA="finetune_reasoning.py config/tiny_prosqa.py"
FROM="--init_from=results/bases/statements"
WORDED="--init_from=results/bases/worded --tokenizer=data/worded_9/tokenizer.json"
look "1 2 3 4 5 6" prosqa_h2           $PROSQA $FROM
for v in soft tied; do
    run "1 2 3" prosqa_$v              $PROSQA $FROM --variant=$v
done
for v in liu h1; do
    run "1 2 3" prosqa_$v              $PROSQA $WORDED --variant=$v --last_stage_epochs=9
done
# In these no text stands behind latents: made when it was pushed on by default, they are the same
look "1 2 3 4 5"   prosqa_coconut      $PROSQA $OLD $FROM --variant=coconut
run "1 2 3 4 5 6"  prosqa_no_thought   $PROSQA $OLD $FROM --variant=no_thought
run "1 2 3 4 5"    prosqa_no_cot       $PROSQA $OLD $FROM --variant=no_cot --last_stage_epochs=15
run "1 2"          prosqa_cot          $PROSQA $OLD $FROM --variant=cot --epochs_per_stage=15

# Latents that spell their step (5 minutes); straight to all latents
STEPS="finetune_reasoning.py config/tiny_prosqa.py --step_weight=1"
look "1 2 3 4 5 6" steps_h2            $STEPS $FROM
for v in rounds tied coconut soft; do
    run "1 2 3" steps_$v               $STEPS $FROM --variant=$v
done
for v in liu h1; do
    run "1 2 3" steps_$v               $STEPS $WORDED --variant=$v --last_stage_epochs=9
done
run "1 2 3" steps_h2_straight          $STEPS $FROM --first_stage=3 --last_stage_epochs=15
for weight in 0.1 10; do
    run 1 steps_h2_weight_$weight      $STEPS $FROM --step_weight=$weight
done

# Chains that are a step longer (10), from a Base of statements as long
LONG="--data=data/prosqa_14 $LONG_TOKENS --init_from=results/bases/statements_14 --stages=3"
for v in rounds coconut h2 tied; do
    run "1 2 3" long_$v                $STEPS $LONG --variant=$v
done
run "1 2 3" long_coconut_plain         $STEPS $LONG --variant=coconut --step_weight=0
run 1       long_cot                   $STEPS $LONG --variant=cot --step_weight=0 --epochs_per_stage=18
run "1 2 3" long_rounds_scaled         $STEPS $LONG --variant=rounds --scale_latents

# Countdown from random weights (5 to 11 minutes); made when text was pushed on by default
COUNTDOWN="countdown.py config/tiny_countdown.py $OLD --operands=3"
run "1 2 3"  countdown_h2_1_latent     $COUNTDOWN --n_latents=1
run "1 2 3"  countdown_h2_4_latents    $COUNTDOWN --n_latents=4
look "1 2 3" countdown_h2_16_latents   $COUNTDOWN --n_latents=16
run "1 2 3"  countdown_soft_4_latents  $COUNTDOWN --variant=soft
run "1 2 3"  countdown_no_cot          $COUNTDOWN --variant=no_cot --n_latents=0

# in its own place, with and without spelled steps
PLACE="countdown.py config/tiny_countdown.py --operands=3"
run "1 2" equations_h2                 $PLACE
run "1 2" equations_h2_steps           $PLACE --step_weight=1

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
