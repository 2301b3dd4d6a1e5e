#!/usr/bin/env bash
# Two processes of one thread beside one process of one thread and of two: a table of seconds a step, traffic included, for docs/CLUSTER.md.
# usage: benches/cluster.sh PROGRAM [ROUNDS [STEPS]]     (PROGRAM: cargo bench --no-run --features mpi --bench cluster says where it is)
# In every round each variant has its turn; a number is the median over the rounds of the medians of STEPS steps. A quiet machine is needed.
set -euo pipefail
program=$1 rounds=${2:-5} steps=${3:-5}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
launcher=${PSPIKESSM_MPIRUN:-mpirun}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# variant FILE LAUNCHER.. -- FLAGS..: a line of the program, kept under a name.
variant() {
  local file="$work/$1"; shift
  local before=()
  while [ "$1" != -- ]; do before+=("$1"); shift; done
  shift
  "${before[@]}" "$program" --steps "$steps" "$@" | grep '^bench=cluster' | tee -a "$file" >&2
}
field() { sed -n "s/.* $1=\([^ ]*\).*/\1/p" "$2" | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
row() {
  local seconds
  seconds=$(field step_s "$work/$2.$3")
  printf '| %s | %s | %.4f | %.3f | %s |\n' "$2" "$1" "$seconds" "$(awk "BEGIN { print $(field step_s "$work/$2.one") / $seconds }")" \
    "$(field kb_sent "$work/$2.$3")"
}

for ((round = 0; round < rounds; round++)); do
  for task in listops psmnist; do
    variant $task.whole -- --task $task --accumulate 1 --threads 1
    variant $task.one -- --task $task --accumulate 2 --threads 1
    variant $task.two "$launcher" -n 2 --bind-to none -- --task $task --accumulate 2 --threads 1
    variant $task.behind "$launcher" -n 2 --bind-to none -- --task $task --accumulate 2 --threads 1 --message 1000000000
    variant $task.threads -- --task $task --accumulate 2 --threads 2
  done
done
echo '| task | what | seconds a step | times one thread | kB sent a step |'
echo '|---|---|---|---|---|'
for task in listops psmnist; do
  row '1 process, 1 thread, 1 micro-batch' $task whole
  row '1 process, 1 thread, 2 micro-batches' $task one
  row '1 process, 2 threads, 2 micro-batches' $task threads
  row '2 processes of 1 thread' $task two
  row '2 processes of 1 thread, all sent at the end' $task behind
done
