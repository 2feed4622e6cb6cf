#!/usr/bin/env bash
# Laziness of the study's networks, in FOLDER (of the study's runs), and its table lazy.csv: measure.sh FOLDER SIZE
# A step is taken at about the best learning rate of each model. Under two core-minutes at size proxy.
set -euo pipefail
cd "$(dirname "$0")/../.."
source sweeps/found.sh
out=$1/lazy size=$2
depths=2,4,8,16 table=sweeps/depth/lazy.csv more=()
if [[ $size == gpu ]]; then depths=2,4,8,16,32,64 table=sweeps/depth/lazy_gpu.csv more=(device=cuda); fi

lazy() { # MODEL TABLE LR
  # a branch that becomes lazy makes the check answer 1
  found "$out/$1/lazy_$2_depth.json" scalelab check --lazy "+sweep=depth/${size}_$1" "parametrization=$2" "lr=$3" \
    --depths "$depths" --steps 10 --seeds 4 "${more[@]}" -o "$out/$1"
}
for kind in mup depth_mup completep; do
  lazy transformer "$kind" 0.015625
  lazy vit "$kind" 0.00390625
  lazy resnet "$kind" 0.0625
done
python -c "
import sys
from pathlib import Path
from scalelab import replications
replications.departures(Path(sys.argv[1])).round(6).to_csv(sys.argv[2], index=False)
" "$out" "$table"
