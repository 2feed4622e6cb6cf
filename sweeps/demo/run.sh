#!/usr/bin/env bash
# The main job, end to end: check, sweep, fit, recommend, prove, report. FAST=1 makes it small.
# Usage: sweeps/demo/run.sh [FOLDER]; scalelab must be on PATH. Launched again, it runs only what is missing.
set -euo pipefail

out=${1:-runs/demo}
proxies=() target=() width=288
if [[ ${FAST:-} == 1 ]]; then
  out=${1:-runs/demo-fast} width=224
  proxies=(width=96,64,32 seed=0,1 lr=0.00390625,0.0078125,0.015625,0.03125,0.0625 tokens=25600)
  target=(lr_factor=0.5,1,2)
fi

run() {
  printf '\n\033[1m$ %s\033[0m\n' "$*"
  "$@"
}

start=$SECONDS
run scalelab check parametrization=mup --widths 64,128,256 --seeds 2 -o "$out/check"
status=0
run scalelab check parametrization=sp --widths 64,128,256 --seeds 2 -o "$out/check" || status=$?
case $status in
  1) echo "(as it should: under SP updates grow with width)" ;;
  0) echo "SP passed the coordinate check: it should not" >&2; exit 1 ;;
  *) exit "$status" ;;
esac
run scalelab train -m +sweep=demo/proxies "out=$out" "${proxies[@]}"
run scalelab fit "$out/proxies" -o "$out/laws"
run scalelab recommend --laws "$out/laws/laws.json" -p mup --target "width=$width" -o "$out/recipe.yaml"
run scalelab train -m --recipe "$out/recipe.yaml" +sweep=demo/target "out=$out" "${target[@]}"
run scalelab confirm "$out/recipe.yaml" "$out/target" --proxies "$out/proxies" -o "$out"
run scalelab report "$out" --title "Learning rate from proxies to width $width"
echo "done in $((SECONDS - start)) s"
