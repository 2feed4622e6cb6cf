#!/usr/bin/env bash
# One of the field's results, again: sweeps/replicate.sh NAME [proxy|gpu] [OVERRIDE…]
# Trains every sweeps/NAME/SIZE*.yaml (runs that are there are not trained again), collects them in the study's
# results.csv, runs its measure.sh FOLDER SIZE if it has one (for further tables), and analysis/NAME.py for the verdict.
# Of size gpu the table is results_gpu.csv, and the verdict stays that of the proxies.
set -euo pipefail
cd "$(dirname "$0")/.."
usage() { printf 'usage: sweeps/replicate.sh NAME [proxy|gpu] [OVERRIDE…]; NAME is one of:\n%s\n' "$(cd sweeps && echo */claim.toml | sed 's|/claim.toml||g')" >&2; exit 2; }
name=${1:-} size=proxy
name=${name%/} # a shell's completion adds it
[[ -n $name && $name != */* && -f sweeps/$name/claim.toml ]] || usage
shift
if [[ ${1:-} == proxy || ${1:-} == gpu ]]; then size=$1; shift; fi
for override in "$@"; do
  if [[ $override =~ ^\+*(out|study)= ]]; then
    printf '%s: the runs of a replication are kept in runs/replications, by its name\n' "$override" >&2
    exit 2
  fi
done
out=runs/replications/$size
results=sweeps/$name/results$([[ $size == proxy ]] || echo "_$size").csv

if [[ -x sweeps/$name/prepare.sh ]]; then "sweeps/$name/prepare.sh" "$size"; fi
for study in sweeps/"$name"/"$size"*.yaml; do
  part=$(basename "$study" .yaml)
  scalelab train -m "+sweep=$name/$part" "out=$out" "$@"
done
scalelab collect "$out/$name" --csv "$results"
if [[ -x sweeps/$name/measure.sh ]]; then "sweeps/$name/measure.sh" "$out/$name" "$size" "$@"; fi
if [[ $size == proxy ]]; then (cd analysis && python "$name.py"); fi
