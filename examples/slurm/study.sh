#!/bin/bash
# A study on one allocation: Ray starts on every node, the command runs on the first, and Ray ends with it.
#   sbatch --nodes=4 --gpus-per-node=4 examples/slurm/study.sh variants --store stores/isic2018 --preset paper
# Given again after a stop it goes on.  Runs and store must lie on a disk that all nodes share.
#SBATCH --job-name=tatl
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --signal=B:INT@120
set -euo pipefail
source .venv/bin/activate
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_NNODES" --num-cpus="${SLURM_CPUS_ON_NODE:-1}" -- \
  python -m tatl study "$@" --on ray
