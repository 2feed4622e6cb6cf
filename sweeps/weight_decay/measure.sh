#!/usr/bin/env bash
# Singular values in the steady state and loss curves, as tables: measure.sh FOLDER SIZE (FOLDER: of the study's runs).
# About five core-minutes at size proxy; at size gpu, wider and longer, it still trains on the CPU and takes some hours.
set -euo pipefail
cd "$(dirname "$0")/../.."
source sweeps/found.sh
out=$1/spectra size=$2 suffix=""
widths=32,64,128 run=(tokens=131072 batch_tokens=256 context=32)
if [[ $size == gpu ]]; then
  suffix=_gpu widths=64,128,256,512 run=(tokens=4194304 batch_tokens=2048 context=128)
fi

for policy in constant root_width independent; do
  # singular values that do not stay make the check answer 1
  found "$out/$policy/spectrum_mup_width.json" scalelab check --spectrum --widths "$widths" --seeds 3 \
    "weight_decay_policy=$policy" lr=0.03125 optimizer.weight_decay=1 schedule=constant "${run[@]}" -o "$out/$policy"
done
python -c "
import sys
from pathlib import Path
from scalelab import replications
replications.singular_values(Path(sys.argv[1])).round(5).to_csv(sys.argv[2], index=False)
" "$out" "sweeps/weight_decay/spectra$suffix.csv"
scalelab collect "$1/products" --csv "sweeps/weight_decay/curves$suffix.csv" --curve 16
