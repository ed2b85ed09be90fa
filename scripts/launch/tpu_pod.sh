#!/bin/bash
# Runs one command on every host of a TPU pod; the workdir must be on storage that all hosts share.
#   scripts/launch/tpu_pod.sh TPU_NAME ZONE configs/vit_pretrain.py:model=vit_l16,dataset=/mnt/photos /mnt/runs/l16
set -euo pipefail
name="$1" zone="$2" config="$3" workdir="$4"
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="cd vit_jax && \
  .venv/bin/python -m vit_jax.main --config='$config' --workdir='$workdir'"
