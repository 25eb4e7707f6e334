#!/usr/bin/env bash
# Submits one run to LSF, as one MPI job: lsf.sh -c config -r run [options]; --help lists them.
set -uo pipefail
here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd -P)
# shellcheck source=bin/batch
. "$here/../bin/batch"

# shellcheck disable=SC2154 # trial, ranks, name, queue, single are set by bin/batch
fill() {
    sed -e "s|^\(#BSUB -J \).*|\1$name|" -e "s|^\(#BSUB -n \).*|\1$ranks|" \
        -e "s|^\(#BSUB -W \).*|\1$MPIXFEL_MINUTES|" -e "s|^\(#BSUB -wt \).*|\1$MPIXFEL_WARN_MINUTES|" \
        -e "s|^#BSUB -o .*|#BSUB -o $(quoted "$trial")/stdout/%J.out${queue:+\n#BSUB -q $(quoted "$queue")}${single:+\n#BSUB -R \"span[hosts=1]\"}|" \
        -e "$(variables)"
}
batch "$here/mpixfel.lsf" bsub "$@"
