#!/bin/bash
# One process per node; JAX finds its peers through SLURM (--distributed=auto is the default).
#   sbatch scripts/launch/slurm.sh configs/vit_pretrain.py:model=vit_b16,dataset=/data/photos runs/b16
#SBATCH --job-name=vit_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --signal=TERM@120   # two minutes before the limit: the run saves and stops
#SBATCH --requeue           # and the same command continues it
set -euo pipefail
srun python -m vit_jax.main --config="$1" --workdir="$2" "${@:3}"
