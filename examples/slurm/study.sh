#!/bin/bash
# A study on one allocation: Ray starts on every node, the command runs on the first, and Ray ends with it.
#   sbatch --nodes=4 --gpus-per-node=4 examples/slurm/study.sh variants --store stores/isic2018 --preset paper
# Given again after a stop it goes on.  Runs and store must lie on a disk that all nodes share.
#SBATCH --job-name=tatl
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --signal=B:INT@300
set -euo pipefail
set -m # or what runs in the background would not hear of INT
source .venv/bin/activate
cores="${SLURM_CPUS_ON_NODE:-1}"
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | awk 'NR == 1') # head -n 1 would break a long list's pipe
address=$(getent ahostsv4 "$head" | awk '$1 !~ /^127/ {print $1; exit}') || true # said below
[ -n "$address" ] || [ "$SLURM_NNODES" -gt 1 ] || address=127.0.0.1 # of one node alone
if [ -z "$address" ]; then
  echo "$head has no IPv4 address that other nodes reach (getent ahostsv4 $head): name it in DNS or /etc/hosts" >&2
  exit 1
fi
trap 'ray stop' EXIT
ray start --head --node-ip-address="$address" --port=6379 --num-cpus="$cores"
if [ "$SLURM_NNODES" -gt 1 ]; then # what comes later than the command is taken in
  others=$((SLURM_NNODES - 1))
  { srun --nodes="$others" --ntasks="$others" --exclude="$head" --cpus-per-task="$cores" \
    ray start --address="$address:6379" --num-cpus="$cores" --block ||
    echo "srun ended with status $?: not all of the other $others nodes are in the cluster (any more)" >&2; } &
fi
python -m tatl study "$@" --on "$address:6379" &
study=$!
# Minutes before the time is over no more is begun; what is not ready then goes on from its checkpoint another time.
trap 'kill -INT $study; (sleep 240; kill -INT $study) &' INT
wait $study || wait $study # the first wait ends with the signal
