#!/usr/bin/env bash
# measure.sh FOLDER SIZE [OVERRIDE…]: the third phase, and what judges all of them. Trains what the phases and the random
# search chose on fresh seeds, and collects all runs again.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$1 size=$2
shift 2
results=results$([[ $size == proxy ]] || echo "_$size").csv
python sweeps/independent_search/finalists.py "$results" "$folder/finalists"
for table in mup u_mup; do
  scalelab train -m --config-dir "$folder/finalists" "+sweep=independent_search/shared_$size" "out=$(dirname "$folder")" \
    "study=independent_search/finalists_$table" "parametrization=$table" \
    "+finalist_$table=lr_only,combined,random_1,random_2" seed=10,11,12,13,14,15,16 "$@"
done
scalelab collect "$folder" --csv "sweeps/independent_search/$results"
