#!/usr/bin/env bash
# The speed suite on a GPU: training with LoRA and tagging against their peers, results as JSON in
# benchmarks/results (…-cuda.json). About ten minutes. NERTUNE_DATA names the folder that holds peoples/.
# Never run yet: no GPU was at hand.
set -euo pipefail
here=$(dirname "$0")
for shape in bert-base bundled; do
  python "$here/training_speed.py" $shape --device cuda --precision bf16 --sentences 2000 --rounds 3
  python "$here/tagging_speed.py" $shape --device cuda --sentences 2000 --rounds 3
done
