#!/usr/bin/env bash
# Tests and times the crate on an NVIDIA GPU, beside PyTorch where python3 has it, and prints tables, each row when it is known.
#
#   benches/gpu.sh                   builds, and runs on this machine
#   benches/gpu.sh build DIR         puts all that a run needs into DIR: binaries, fixtures, this script
#   DIR/gpu.sh run DIR [PART ..]     runs it, on a machine that needs neither Rust nor this checkout, nor a network
#
# The parts are tests, tasks and pieces; all of them where none is named.
# A run needs NVIDIA's driver, and libnvrtc and the headers of CUDA 13 (CUDA_PATH if not in /usr/local/cuda; those that pip
# has installed, with PyTorch or as nvidia-cuda-nvrtc, nvidia-cuda-runtime and nvidia-cuda-cccl, are found).
# ROUNDS (3): how often each time is taken, in turn with PyTorch's; the median is told. PEAK_GBS: bandwidth of the device's memory.
set -euo pipefail

tests=(layers)
benches=(train_step pieces)
tasks=(listops psmnist image)

fail() {
    echo "gpu.sh: $*" >&2
    exit 1
}

# The path of the binary that cargo has built from the file $1, out of its messages $2.
built() {
    sed -n "s|^ *Executable $1 (\(.*\))\$|\1|p" <<<"$2"
}

build() {
    local dir=$1 here messages path name
    mkdir -p "$dir/tests"
    dir=$(cd "$dir" && pwd)
    here=$(cd "$(dirname "$0")" && pwd)
    cd "$here/.."
    # Without a toolkit here, the calls of the driver that binaries make would be those of the newest one that is known.
    command -v nvcc >/dev/null || export CUDARC_CUDA_VERSION=${CUDARC_CUDA_VERSION:-13000}
    # Unoptimised: what takes time in the tests are kernels, which the driver's toolkit compiles.
    messages=$(CARGO_PROFILE_DEV_OPT_LEVEL=0 cargo test --features cuda --no-run "${tests[@]/#/--test=}" 2>&1) || fail "the tests do not build: $messages"
    messages+=$'\n'$(cargo bench --features cuda --no-run "${benches[@]/#/--bench=}" 2>&1) || fail "the benches do not build: $messages"
    for path in "${tests[@]/#/tests/}" "${benches[@]/#/benches/}"; do
        name=$path.rs
        [[ -f $name ]] || name=$path/main.rs
        name=$(built "$name" "$messages")
        [[ -n $name ]] || fail "cargo has named no binary of $path: $messages"
        strip -o "$dir/${path##*/}" "$name"
    done
    cp -R tests/fixtures "$dir/tests/"
    cp benches/gpu.sh benches/peer/torch_baseline.py "$dir/"
    du -sh "$dir"
}

# CUDA as pip installs it (with PyTorch, for one), where no toolkit is found.
find_toolkit() {
    local site
    if [[ -n ${CUDA_PATH:-} || -d /usr/local/cuda/include || -d /opt/cuda ]] || ! command -v python3 >/dev/null; then
        return
    fi
    site=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null) || return 0
    if [[ -d $site/cu13/include ]]; then
        export CUDA_PATH=$site/cu13 LD_LIBRARY_PATH=$site/cu13/lib:${LD_LIBRARY_PATH:-}
    elif [[ -d $site/cuda_runtime/include ]]; then
        export CUDA_PATH=$site/cuda_runtime LD_LIBRARY_PATH=$site/cuda_nvrtc/lib:${LD_LIBRARY_PATH:-}
    fi
}

# The number after $1 in the text $2, or - where there is none.
number() {
    local found
    found=$(sed -nE "s/.*$1([0-9.]+).*/\1/p" <<<"$2" | tail -n 1)
    echo "${found:--}"
}

# The median of the numbers of the file $1, or -.
median() {
    { grep -v '^-$' "$1" || true; } | sort -g | awk '{ value[NR] = $1 } END { print NR ? value[int((NR + 1) / 2)] : "-" }'
}

# $1 over $2, or -.
ratio() {
    awk -v over="$1" -v under="$2" 'BEGIN { if (over == "-" || under == "-" || under + 0 == 0) print "-"; else printf "%.1fx\n", over / under }'
}

# What the device's memory can do, in GB/s, for the name $1; nothing where it is not known.
peak_of() {
    case $1 in
        *H200*) echo 4800 ;;
        *H100*PCIe*) echo 2000 ;;
        *H100*) echo 3350 ;;
        *) ;;
    esac
}

# The tests whose names hold "cuda", those that are ignored elsewhere.
run_tests() {
    local name text log
    printf '\n| tests | result |\n|---|---|\n'
    for name in "${tests[@]}"; do
        log=$work/$name.log
        if "$dir/$name" --include-ignored cuda >"$log" 2>&1; then
            text=$(grep '^test result' "$log")
        else
            touch "$work/failed"
            text=$(grep '^test result' "$log" || echo "did not finish")
            grep -E '^(test .*FAILED|thread |.*panicked)' -A 2 "$log" | head -n 60 >&2 || true
        fi
        echo "| $name | ${text#test result: } |"
    done
}

# What the command says; what a failed one says is told on stderr, and its numbers will be missing.
said() {
    local text
    if text=$("$@" 2>&1); then
        echo "$text"
    else
        echo "gpu.sh: $* failed: $text" >&2
        touch "$work/failed"
    fi
}

# A row for each task: both ways, in turn with PyTorch.
run_tasks() {
    local task file row ours theirs round
    printf '\n| task | training step, PyTorch (s) | pspikessm (s) | | inference, PyTorch (s) | pspikessm (s) | |\n|---|---|---|---|---|---|---|\n'
    for task in "${tasks[@]}"; do
        for ((round = 0; round < rounds; round++)); do
            ours=$(said "$dir/train_step" --backend cuda --task "$task" --steps 20)
            number train_s= "$ours" >>"$work/$task.train"
            number infer_s= "$ours" >>"$work/$task.infer"
            theirs=
            if ((has_torch)); then
                theirs=$(said python3 "$dir/torch_baseline.py" model --task "${task/image/cifar}" --device cuda --impl fast --steps 20)
            fi
            number 'train step: median ' "$theirs" >>"$work/$task.torch_train"
            number 'inference: median ' "$theirs" >>"$work/$task.torch_infer"
        done
        row="| $task"
        for file in train infer; do
            ours=$(median "$work/$task.$file")
            theirs=$(median "$work/$task.torch_$file")
            row+=" | $theirs | $ours | $(ratio "$theirs" "$ours")"
        done
        echo "$row |"
    done
    ((has_torch)) || echo "gpu.sh: python3 has no PyTorch with CUDA: its columns are empty" >&2
}

# A row for a piece: $1 what, then its sizes.
run_piece() {
    local text
    text=$(said "$dir/pieces" --backend cuda --what "$@" ${peak:+--peak-gbs "$peak"})
    echo "| $* | $(number forward_s= "$text") | $(number forward_gbs= "$text") | $(number forward_of_peak= "$text")" \
        "| $(number both_s= "$text") | $(number both_gbs= "$text") | $(number both_of_peak= "$text") |"
}

run_pieces() {
    printf '\n| piece | forward (s) | GB/s | of the peak | forward and gradient (s) | GB/s | of the peak |\n|---|---|---|---|---|---|---|\n'
    run_piece conv --B 32 --H 128 --L 2048
    run_piece conv --B 8 --H 256 --L 16384
    run_piece sampler --B 32 --H 128 --L 2048
    run_piece sampler --B 64 --H 512 --L 4096
}

run() {
    local name text part parts
    dir=$(cd "$1" 2>/dev/null && pwd) || fail "there is no folder $1: gpu.sh build DIR makes one"
    [[ -x $dir/train_step ]] || fail "$dir holds no binaries: gpu.sh build DIR puts them there"
    shift
    parts=("$@")
    ((${#parts[@]})) || parts=(tests tasks pieces)
    for part in "${parts[@]}"; do
        [[ $part =~ ^(tests|tasks|pieces)$ ]] || fail "there is no part $part: there are tests, tasks and pieces"
    done
    # The tests look for fixtures below it.
    export CARGO_MANIFEST_DIR=$dir
    find_toolkit
    text=$("$dir/train_step" --backend cuda --task listops --batch 1 --length 64 --steps 1 2>&1) || fail "no GPU to run on: $text"
    name=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1) || name="an NVIDIA GPU"
    peak=${PEAK_GBS:-$(peak_of "$name")}
    rounds=${ROUNDS:-3}
    has_torch=0
    if python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then has_torch=1; fi
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT

    echo "$name, $(date +%F)"
    for part in "${parts[@]}"; do "run_$part"; done
    [[ ! -e $work/failed ]] || fail "something has failed: see above"
}

case ${1:-} in
    build) build "${2:?DIR is missing}" ;;
    run) run "${2:?DIR is missing}" "${@:3}" ;;
    '')
        build target/gpu
        run target/gpu
        ;;
    *) fail "is called as gpu.sh, gpu.sh build DIR, or gpu.sh run DIR" ;;
esac
