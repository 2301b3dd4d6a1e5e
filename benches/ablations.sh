#!/usr/bin/env bash
# The switches that reviewers of the paper asked for, one at a time: a row of docs/ABLATIONS.md each, mean and deviation over seeds.
# usage: benches/ablations.sh OUT digits|mnist DATA [SEEDS]     (built: cargo build --release --example psmnist)
set -euo pipefail
out=$1 set=$2 data=$3 seeds=${4:-3}
program=${PSPIKESSM_PSMNIST:-target/release/examples/psmnist}
case $set in
  digits) base=(--preset digits --steps 1500) ;;
  mnist) base=(--preset quick --steps 400 --set model.block.ssm.d_model=64 --set model.block.ssm.d_state=16) ;;
  *) echo "the second argument is digits or mnist" >&2; exit 2 ;;
esac
half=$("$program" "${base[@]}" --print-recipe | awk '/^steps/ { print int($3 / 2); exit }')

# The field NAME=.. of the last line of a run's output.
field() { sed -n "s/.*[ ]$1=\([^ ]*\).*/\1/p" "$2" | tail -n 1; }
# Mean and deviation of the numbers on the standard input.
spread() { awk '{ s += $1; q += $1 * $1; n++ } END { m = s / n; v = n > 1 ? (q - n * m * m) / (n - 1) : 0; printf "%.3f ± %.3f", m, (v > 0 ? sqrt(v) : 0) }'; }

# A row: a name, and what differs from the preset.
row() {
  local name=$1 file seed; shift
  mkdir -p "$out/$name"
  for ((seed = 0; seed < seeds; seed++)); do
    file="$out/$name/$seed"
    [ -s "$file.expected" ] && continue
    "$program" "${base[@]}" --data "$data" --seed "$seed" --out "$file" --overwrite --quiet "$@" > "$file.sampled"
    "$program" --data "$data" --checkpoint "$file/checkpoint.safetensors" --eval-only --expected --quiet > "$file.expected"
  done
  printf '| %s | %s | %s | %s |\n' "$name" \
    "$(for ((seed = 0; seed < seeds; seed++)); do field test_accuracy "$out/$name/$seed.sampled"; done | spread)" \
    "$(for ((seed = 0; seed < seeds; seed++)); do field test_accuracy "$out/$name/$seed.expected"; done | spread)" \
    "$(for ((seed = 0; seed < seeds; seed++)); do field spike_rate "$out/$name/$seed.sampled"; done | spread)"
}

echo '| what | accuracy, drawn spikes | accuracy, expected spikes | spike rate |'
echo '|---|---|---|---|'
row as-it-is
row expected --set run.spikes=expected
row annealed --set run.spikes.annealed="$half"
row penalty-1 --set run.spike_penalty='{ weight = 1 }'
row penalty-10 --set run.spike_penalty='{ weight = 10 }'
row fixed-thresholds --set 'run.freeze=["blocks.*.forward.sampler", "blocks.*.output"]'
row relu --set model.block.activation=relu --set model.block.ssm.activation=relu
echo
echo 'Votes of 1, 2, .. 10 passes of the first seed as it is:'
"$program" --data "$data" --checkpoint "$out/as-it-is/0/checkpoint.safetensors" --eval-only --votes --eval-passes 10 --quiet | grep '^votes'
