#!/bin/sh
# Makes the pictures of examples/README.md, and those of the first command, in docs/pictures: `sh examples/pictures.sh DATA`, where DATA
# holds the folders mnist, digits, cifar-10-batches-bin and aclImdb. What is left out for want of data keeps the picture that it has.
# Takes the time of eight quick runs: some minutes each. Runs that lie finished in WORK (the second argument, or a new folder) under the
# names of the pictures are not trained again.
set -eu
cd "$(dirname "$0")/.."
data=${1:?give the folder of the data sets} work=${2:-$(mktemp -d)}
mkdir -p docs/pictures "$work"
example() { cargo run --release --quiet --example "$@"; }

for name in gradient_by_hand custom_op ssm_two_ways spikes serve two_moons gru transformer_copy heat_equation s5 custom_surrogate; do
  example $name -- docs/pictures/$name.svg
done
# The first digit of the test set as the model reads it: sixteenths, in bit-reversed order, without the class in front.
reversed='{ for (t = 0; t < 64; t++) { r = 0; for (k = 0; k < 6; k++) r = 2 * r + int(t / 2 ^ k) % 2; print $(r + 2) / 16 } }'
head -n 1 "$data/digits/test.csv" | awk -F, "$reversed" |
  example stream -- --model examples/browser/digits.safetensors --picture docs/pictures/stream.svg >/dev/null
example stream_int8 -- examples/browser/digits.safetensors "$data/digits" 20 docs/pictures/stream_int8.svg

# A picture by its name, the file of a run's folder that it is, and the example with its flags.
task() {
  name=$1 file=$2 of=$3
  shift 3
  if [ -e "$work/$name/raster.svg" ]; then
    example "$of" -- --report --out "$work/$name"
  else
    example "$of" -- --quiet --out "$work/$name" --overwrite "$@"
  fi
  cp "$work/$name/$file" "docs/pictures/$name.svg"
}
task listops curves.svg listops
task pathfinder curves.svg pathfinder
task retrieval curves.svg retrieval
task speech_commands curves.svg speech_commands
task digits raster.svg psmnist --preset digits --data "$data/digits"
[ ! -e "$data/mnist" ] || task psmnist curves.svg psmnist --data "$data/mnist"
[ ! -e "$data/cifar-10-batches-bin" ] || task image curves.svg image --data "$data"
[ ! -e "$data/aclImdb" ] || task text curves.svg text --data "$data"
ls -l docs/pictures
