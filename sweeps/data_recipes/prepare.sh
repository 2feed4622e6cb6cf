#!/usr/bin/env bash
# prepare.sh proxy|gpu: the texts of the recipes, before the studies train on them.
set -euo pipefail
if [[ $1 == gpu ]]; then python sweeps/data_recipes/recipes.py runs/recipes_gpu enwik8
else python sweeps/data_recipes/recipes.py runs/recipes; fi
