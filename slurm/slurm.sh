#!/usr/bin/env bash
# Submits one run to SLURM, as one MPI job: slurm.sh -c config -r run [options]; --help lists them.
set -uo pipefail
here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd -P)
# shellcheck source=bin/batch
. "$here/../bin/batch"

# shellcheck disable=SC2154 # trial, ranks, name, queue, single are set by bin/batch
fill() {
    sed -e "s|^\(#SBATCH --job-name=\).*|\1$name|" -e "s|^\(#SBATCH --ntasks=\).*|\1$ranks|" \
        -e "s|^\(#SBATCH --time=\).*|\1$MPIXFEL_MINUTES|" -e "s|^\(#SBATCH --signal=B:USR1@\).*|\1$((MPIXFEL_WARN_MINUTES * 60))|" \
        -e "s|^#SBATCH --output=.*|#SBATCH --output=$(quoted "$trial")/stdout/%j.out${queue:+\n#SBATCH --partition=$(quoted "$queue")}${single:+\n#SBATCH --nodes=1}|" \
        -e "$(variables)"
}
batch "$here/mpixfel.sbatch" sbatch "$@"
