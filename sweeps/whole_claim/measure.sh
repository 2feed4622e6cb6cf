#!/usr/bin/env bash
# From the proxies' runs to the target: fit, recommend, train the target with the recipe and around it, confirm.
# measure.sh FOLDER SIZE [OVERRIDE…]: FOLDER has the proxies' runs, SIZE is proxy or gpu; scalelab must be on PATH.
set -euo pipefail
cd "$(dirname "$0")/../.."
proxies=$1 size=$2 here=sweeps/whole_claim
shift 2
case $size in
  proxy) target=(width=192 depth=6 tokens=204800) suffix= ;;
  gpu) target=(width=768 depth=12 tokens=52428800) suffix=_gpu ;;
  *) printf '%s: the size is proxy or gpu\n' "$size" >&2; exit 2 ;;
esac
beside=$(dirname "$proxies")/whole_claim_target

scalelab fit "$proxies" -o "$beside/laws"
scalelab recommend --laws "$beside/laws/laws.json" -p completep --target "${target[@]}" -o "$beside/recipe.yaml"
scalelab train -m --recipe "$beside/recipe.yaml" +sweep=whole_claim/target "out=$(dirname "$beside")" "$@"
scalelab confirm "$beside/recipe.yaml" "$beside" --proxies "$proxies" -o "$beside"

# What is usually done: SP, tuned on the widest proxy, its learning rate copied to the target.
copied=$(python - "results$suffix.csv" <<'PYTHON'
import sys
from scalelab.replications import at, read, tuned
sp = at(read("whole_claim").runs(sys.argv[1]), parametrization="sp", part="width")
print(tuned(sp, along="width")["lr"].iloc[-1])
PYTHON
)
scalelab train -m --recipe "$beside/recipe.yaml" hydra/launcher=fused parametrization=sp lr_factor=1 "lr=$copied" \
  seed=0,1,2 "out=$(dirname "$beside")" study=whole_claim_copied "$@"

scalelab collect "$beside" --csv "$here/target$suffix.csv"
scalelab collect "$(dirname "$beside")/whole_claim_copied" --csv "$here/copied$suffix.csv"
cp "$beside/confirmation.json" "$here/confirmation$suffix.json"
