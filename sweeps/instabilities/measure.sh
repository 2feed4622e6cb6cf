#!/usr/bin/env bash
# How attention and output logits grow along runs without QK norm, in FOLDER (of the study's runs), and their table
# norms.csv: measure.sh FOLDER SIZE. The smallest learning rates, at which nothing grows, are left out. About two
# core-minutes at size proxy.
set -euo pipefail
cd "$(dirname "$0")/../.."
source sweeps/found.sh
out=$1/norms size=$2
widths=32,64,128,256 steps=60 lrs=(0.01 0.0316 0.1 0.316 1.0) table=sweeps/instabilities/norms.csv
if [[ $size == gpu ]]; then
  widths=64,128,256,512,1024 steps=1000 lrs=(0.003 0.01 0.03 0.1 0.3) table=sweeps/instabilities/norms_gpu.csv
fi

for lr in "${lrs[@]}"; do
  # a limit that is passed, or a run that diverges, makes the check answer 1
  found "$out/$lr/stability_sp_width.json" scalelab check --stability "+sweep=instabilities/shared_$size" "lr=$lr" \
    --widths "$widths" --steps "$steps" --seeds 2 -o "$out/$lr"
done
python -c "
import sys
from pathlib import Path
from scalelab import replications
quantities = ('max attention logit', 'max |output logit|', 'RMS log-partition')
replications.peaks(Path(sys.argv[1]), quantities).round(4).to_csv(sys.argv[2], index=False)
" "$out" "$table"
