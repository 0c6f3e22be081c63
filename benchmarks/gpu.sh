#!/usr/bin/env bash
# What must hold on a GPU, and how fast tagging and training are there against their peers:
#
#     NERTUNE_DATA=FOLDER benchmarks/gpu.sh
#
# FOLDER holds peoples/. Results as JSON in benchmarks/results (…-cuda.json); `python
# benchmarks/table.py` shows them as a table. It stops after LIMIT seconds (540), whatever is left
# out. It was never run on a GPU, only its tests and its steps on a CPU.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
limit=${LIMIT:-540}
end=$((SECONDS + limit))

# Runs a command for as long as there is time, and goes on if it fails: its fault is said.
step() {
  local left=$((end - SECONDS))
  if ((left < 10)); then
    echo "gpu.sh: no time left for: $*" >&2
    failed=1
    return
  fi
  timeout --signal=INT --kill-after=10 "$left" "$@" || { echo "gpu.sh: failed: $*" >&2; failed=1; }
}

failed=0
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "gpu.sh: PyTorch finds no CUDA device here" >&2
  exit 2
fi
cd "$here/.."
step "$python" -m pytest -m gpu -p no:cacheprovider -x --timeout=240 tests/gpu
step "$python" "$here/training_speed.py" bert-base --device cuda --precision bf16 --sentences 2000 --rounds 3
step "$python" "$here/tagging_speed.py" bert-base --device cuda --sentences 2000 --rounds 3
step "$python" "$here/mixed_adapters.py" --device cuda --shapes bert-base --threads 1
step "$python" "$here/training_speed.py" bundled --device cuda --precision bf16 --sentences 2000 --rounds 3
step "$python" "$here/tagging_speed.py" bundled --device cuda --sentences 2000 --rounds 3
"$python" "$here/table.py"
exit "$failed"
