#!/usr/bin/env bash
# Makes a Chinese encoder from raw text (what came of it: docs/results.md):
#
#     benchmarks/encoder.sh cpu TEXT FOLDER            # 10.5 million pieces with jieba's tags, the
#                                                      # bundled encoder: 70 minutes on one core
#     benchmarks/encoder.sh silver TEXT FOLDER TAGS    # 100 million pieces with word tags from a file
#     benchmarks/encoder.sh gpu TEXT FOLDER            # 1.5 billion pieces, bf16, compiled
#
# A killed run goes on when the same command is given again, and ends with the same weights. It has
# the lowest priority. MORE holds further options, e.g. MORE="--set seed=2". NERTUNE is the
# command, e.g. NERTUNE="python -m nertune". The encoder is FOLDER/model, the curve FOLDER/log.jsonl,
# the settings and held-out losses FOLDER/record.json; benchmarks/curve.py draws it.
# cpu and gpu need nertune[words].
set -euo pipefail
machine=$1 text=$2 folder=$3
read -ra command <<<"${NERTUNE:-nertune}"
read -ra more <<<"${MORE:-}"
options=(--from-scratch small --set storage=fp16 --set seed=1 --output "$folder" --resume)
# bf16 is twice as fast as fp32 where the processor has it, and tens of times slower where not.
precision=fp32
grep -qsE 'avx512_bf16|amx_bf16' /proc/cpuinfo && precision=bf16
case $machine in
  cpu)
    # Three lines of five are more than the budget reads.
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    options+=(--words jieba --tokens 10500000 --set sample=0.6 --set batch_tokens=4096
              --set ramp=0.25 --set precision="$precision")
    ;;
  silver)
    # Rows of 256 in the last tenth, so that windows may be as long.
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    options+=(--word-tags "$4" --tokens 100000000 --set batch_tokens=8192 --set ramp=0.25
              --set precision="$precision" --set long_length=256 --set long_share=0.1)
    ;;
  gpu)
    # Never run yet: no GPU was at hand. The batch is what 139 GiB take with room to spare.
    options+=(--words jieba --tokens 1500000000 --set batch_tokens=131072 --set mask_share=0.3)
    ;;
  *)
    echo "first argument: expected cpu, silver or gpu, got $machine" >&2
    exit 2
    ;;
esac
exec nice -n 19 "${command[@]}" pretrain "$text" "${options[@]}" ${more[@]+"${more[@]}"}
