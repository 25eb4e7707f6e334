# shellcheck shell=bash
# Site settings of slurm/slurm.sh, lsf/lsf.sh and of the jobs that they submit. Edit, or copy and name the copy in
# MPIXFEL_SITE. Each line gives way to what the environment says.

: "${MPIXFEL_QUEUE=}"            # queue or partition; empty: the batch system's default. (-q)
: "${MPIXFEL_RANKS=64}"          # MPI ranks, where neither -p nor num-cpu of the configuration say
: "${MPIXFEL_MINUTES=240}"       # time limit of a job
: "${MPIXFEL_WARN_MINUTES=5}"    # so long before the limit the run writes what it has, ends in order, and is requeued
: "${MPIXFEL_REQUEUES=10}"       # under SLURM at most so often
: "${MPIXFEL_RESULTS=results}"   # folder of all results; {experiment}, {run}, {user}, $VARIABLES are filled in. (-o)
: "${MPIXFEL_DATA=}"             # folder of the data, likewise; empty: as the configuration says. (-i)
: "${MPIXFEL_SUBMIT=}"           # more options for sbatch or bsub: account, constraint, project
: "${MPIXFEL_LAUNCH=mpirun}"     # how a job starts its ranks; -n RANKS follows
: "${MPIXFEL_CACHE=${TMPDIR:-/tmp}/mpixfel-$(id -un)}" # compiled kernels, on a disk of each node; empty: beside the program

# Modules that jobs need (bin/setup remembers those of its MPI by itself):
# module load ...
