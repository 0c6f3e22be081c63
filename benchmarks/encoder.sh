#!/usr/bin/env bash
# Makes a Chinese encoder from raw text (its figures: docs/results.md):
#
#     benchmarks/encoder.sh cpu TEXT FIRST             # 10.5 million tokens with jieba's tags:
#                                                      # 70 minutes on one core
#     benchmarks/encoder.sh further TEXT SECOND TAGS FIRST/model    # then 20 million with word tags
#                                                      # from a file: 72 minutes on two cores
#                                                      # beside other work
#     benchmarks/encoder.sh again TEXT FOLDER TAGS SECOND/model     # then 24 million more, at half
#                                                      # the rate: the bundled encoder, 76 minutes
#     benchmarks/encoder.sh silver TEXT FOLDER TAGS    # 100 million tokens with word tags from a file
#     benchmarks/encoder.sh prepare TEXT FOLDER TAGS   # the text in tokens, for gpu; needs no GPU
#     benchmarks/encoder.sh gpu TEXT FOLDER TAGS       # as many tokens as a GPU trains in 6 minutes
#
# A killed run resumes when the same command is given again, and ends with the same weights. The
# encoder is FOLDER/model, the curve FOLDER/log.jsonl, the settings and held-out losses
# FOLDER/record.json; benchmarks/curve.py draws it. cpu needs nertune[words].
#
# All but gpu run at the lowest priority. Linux may weigh sessions (autogroups) against each other,
# and then `nice` counts only within one: so the training gets a session of its own with the lowest
# weight. Between containers or systemd slices (cgroups) neither counts.
#
# gpu: bf16, compiled, word tags from a file, rows of 256 in the last tenth. The budget follows from
# the speed that is measured first. `prepare` takes minutes on one core and may be done on another
# machine before: copy FOLDER to the same text. gpu stops after LIMIT seconds in any case; the same
# command resumes. It was not run on a GPU yet, only through its steps on a CPU with a tiny model.
#
# In the environment:
#     MORE       further options, which win, e.g. MORE="--set seed=2"
#     NERTUNE    the command, e.g. NERTUNE="python -m nertune"
#     MINUTES    of training with gpu (6): checking the files, measuring and compiling come on top
#     LIMIT      seconds after which gpu stops (530)
#     NICE       priority of all but gpu, 0 (as others) to 19 (lowest, the default)
set -euo pipefail

usage() {
  echo "expected: $0 cpu TEXT FOLDER, $0 silver|prepare|gpu TEXT FOLDER TAGS," \
    "or $0 further|again TEXT FOLDER TAGS ENCODER" >&2
  exit 2
}

# Runs a command in a session of its own at low priority, and ends it when this script ends.
at_low_priority() {
  local nice=${NICE:-19}
  # shellcheck disable=SC2016
  local lower='{ echo "$0" >/proc/self/autogroup; } 2>/dev/null || true; exec nice -n "$0" "$@"'
  local start=(bash -c "$lower" "$nice")
  if command -v setsid >/dev/null; then start=(setsid "${start[@]}"); fi
  "${start[@]}" "$@" &
  local child=$!
  trap 'kill "$child" 2>/dev/null' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  wait "$child"
  trap - EXIT
}

[[ $# -ge 3 ]] || usage
machine=$1 text=$2 folder=$3 tags=${4:-}
[[ $machine == cpu || -n $tags ]] || usage
read -ra command <<<"${NERTUNE:-nertune}"
read -ra more <<<"${MORE:-}"
options=(--set storage=fp16 --output "$folder" --resume)
if [[ $machine == further || $machine == again ]]; then
  [[ $# -ge 5 ]] || usage
  options+=(--encoder "$5" --set optimizer=muon --set embedding_factor=2 --set weight_decay=0.1)
else
  options+=(--from-scratch small --set seed=1)
fi
long_rows=(--set long_length=256 --set long_share=0.1)  # so that windows may be as long
# bf16 is twice as fast as fp32 where the processor has it, and tens of times slower where not.
precision=fp32
grep -qsE 'avx512_bf16|amx_bf16' /proc/cpuinfo && precision=bf16
case $machine in
  cpu)
    # Three lines of five are more than the budget reads.
    options+=(--words jieba --tokens 10500000 --set sample=0.6 --set batch_tokens=4096
              --set ramp=0.25 --set precision="$precision")
    ;;
  further)
    options+=(--word-tags "$tags" --tokens 20000000 --set sample=0.75 --set batch_tokens=4096
              --set ramp=0.25 --set muon_rate=0.012 --set rate=0.002 --set tag_weight=1
              --set seed=2 --set precision="$precision" "${long_rows[@]}")
    ;;
  again)
    options+=(--word-tags "$tags" --tokens 24000000 --set sample=0.62 --set batch_tokens=4096
              --set ramp=0 --set muon_rate=0.006 --set rate=0.001 --set tag_weight=1
              --set seed=3 --set precision="$precision" "${long_rows[@]}")
    ;;
  silver)
    options+=(--word-tags "$tags" --tokens 100000000 --set batch_tokens=8192 --set ramp=0.25
              --set precision="$precision" "${long_rows[@]}")
    ;;
  prepare)
    # One small step, which is thrown away: what is prepared does not depend on the budget.
    options+=(--word-tags "$tags" --tokens 1 --set batch_tokens=1024 --set device=cpu
              --set precision="$precision" "${long_rows[@]}")
    ;;
  gpu)
    options+=(--word-tags "$tags" --minutes "${MINUTES:-6}" --set batch_tokens=131072
              --set precision=bf16 --set compile=yes --set checkpoint_minutes=1 "${long_rows[@]}")
    ;;
  *) usage ;;
esac
train=("${command[@]}" pretrain "$text" "${options[@]}" ${more[@]+"${more[@]}"})
if [[ $machine == gpu ]]; then
  # INT, so that nertune says how to resume. KILL if it does not end within ten seconds.
  exec timeout --signal=INT --kill-after=10 "${LIMIT:-530}" "${train[@]}"
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
if [[ $machine == prepare && -e $folder/plan.json ]]; then
  echo "$folder holds a run of gpu already: nothing to prepare" >&2
  exit 2
fi
at_low_priority "${train[@]}"
if [[ $machine == prepare ]]; then
  rm -rf "${folder:?}"/{model,checkpoints} "$folder"/{record.json,log.jsonl}
fi
