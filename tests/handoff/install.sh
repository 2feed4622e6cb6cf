#!/usr/bin/env bash
# A venv for the tests that hold exporters against the frameworks: tests/handoff/install.sh VENV
#
# It sees the packages of the Python that runs the project (PYTHON, or .venv/bin/python), torch among them, and has the
# frameworks beside them. Those pin torch and bring CUDA, so they come without what they depend on, and what their
# models and optimizers need to be imported is named here. Run again it installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:?usage: tests/handoff/install.sh VENV}
python=${PYTHON:-.venv/bin/python}

test -x "$venv/bin/python" || "$python" -m venv "$venv"
site() { "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
site "$python" > "$(site "$venv/bin/python")/project.pth"
pip=("$venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps)

# torchtitan; it imports Triton and datasets, which nothing here runs.
"${pip[@]}" torchtitan==0.3.0 spmd_types==0.2.3 torch_checkpointing==0.1.1 torchdata==0.11.0 tyro==1.0.17 \
  docstring_parser==0.18.0 typeguard==4.6.1 einops==0.8.2 tensorboard==2.21.0 triton==3.9.0 \
  datasets==4.7.0 dill==0.4.1 multiprocess==0.70.19 xxhash==4.1.0

# OLMo-core; reading from buckets is part of its import. nanoGPT-mup is on no index: tests/handoff/test_nanogpt_completep.py.
"${pip[@]}" ai2-olmo-core==3.0.0 dataclass-extensions cached_path bettermap dill boto3 botocore jmespath s3transfer \
  google-cloud-storage google-cloud-core google-api-core google-auth google-crc32c google-resumable-media \
  cryptography cffi

# What the Trainer of transformers, which the project has, needs beside it.
"${pip[@]}" accelerate==1.15.0 psutil==7.2.2

# Megatron-LM; its wheel holds megatron.training too, and is for Python 3.12: of that it uses one name more than 3.11
# has. It lies in a folder of its own, as pip installs for another Python only there.
target="$(site "$venv/bin/python")/megatron-lm"
test -d "$target/megatron" || "${pip[@]}" megatron-core==0.19.2 --target "$target" --python-version 3.12 --only-binary :all: \
  --ignore-requires-python
cat > "$(site "$venv/bin/python")/scalelab_megatron.pth" <<END
$target
import typing, typing_extensions; typing.override = typing_extensions.override
END
