#!/usr/bin/env bash
# measure.sh FOLDER SIZE: the training curves of the study's runs in FOLDER, a row a run, as curves.csv.
set -euo pipefail
cd "$(dirname "$0")/../.."
table=sweeps/width/curves$([[ $2 == proxy ]] || echo "_$2").csv
scalelab collect "$1" --csv "$table" --curve 8
python -c "
import sys
import pandas as pd
runs = pd.read_csv(sys.argv[1])
curve = [name for name in runs if name.startswith('train_loss_')]
runs[['part', 'run', *curve]].to_csv(sys.argv[1], index=False, float_format='%.5g')
" "$table"
