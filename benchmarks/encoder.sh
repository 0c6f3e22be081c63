#!/usr/bin/env bash
# Makes the bundled Chinese encoder from raw text (what came of it: docs/results.md):
#
#     benchmarks/encoder.sh cpu TEXT FOLDER     # 10.5 million pieces: about 70 minutes on one core
#     benchmarks/encoder.sh gpu TEXT FOLDER     # 1.5 billion pieces, bf16, compiled
#
# A killed run goes on when the same command is given again. The encoder is FOLDER/model, the curve
# FOLDER/log.jsonl, the settings and held-out losses FOLDER/record.json; benchmarks/curve.py draws it.
# Needs nertune[words].
set -euo pipefail
machine=$1 text=$2 folder=$3
common=(--from-scratch small --words jieba --set storage=fp16 --set seed=1 --output "$folder")
resume=()
[ -d "$folder/checkpoints" ] && resume=(--resume)
case $machine in
  cpu)
    # Three lines of five are more than the budget reads. bf16 is twice as fast as fp32 where the
    # processor has it (avx512_bf16, amx); set precision=fp32 where it has not.
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    exec nertune pretrain "$text" "${common[@]}" "${resume[@]}" --tokens 10500000 \
      --set sample=0.6 --set batch_tokens=4096 --set ramp=0.25 --set precision=bf16
    ;;
  gpu)
    # Never run yet: no GPU was at hand. The batch is what 139 GiB take with room to spare.
    exec nertune pretrain "$text" "${common[@]}" "${resume[@]}" --tokens 1500000000 \
      --set batch_tokens=131072 --set mask_share=0.3
    ;;
  *)
    echo "first argument: expected cpu or gpu, got $machine" >&2
    exit 2
    ;;
esac
