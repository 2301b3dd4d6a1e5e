#!/usr/bin/env bash
# Tests and times the crate on an NVIDIA GPU, beside PyTorch where python3 has it, in minutes that are counted.
#
#   benches/gpu.sh                   builds, and runs on this machine
#   benches/gpu.sh build DIR         puts all that a run needs into DIR: programs, fixtures, kernels, this script
#   DIR/gpu.sh run DIR [PART ..]     runs it, on a machine that needs neither Rust nor this checkout, nor a network
#
# The parts, in the order of their worth: f32 and f64 (conformance and fixtures), tasks (a training step and an inference pass beside PyTorch,
# then beside its compiler), pieces (convolution and sampler against a large copy), mnist (psMNIST for the time that is left). All of them
# where none is named; a second run names what was mended in between. Each has its own limit, LIMITS below, and all of them LIMIT seconds
# (480). What is found stands in LOGS (DIR/logs-1, -2, ..): summary.md, each row when it is known, and the output of every part.
#
# A build takes MNIST, a folder of the four IDX files, if psMNIST is to be trained, and compiles the kernels ahead where CUDA_PATH and
# LD_LIBRARY_PATH have NVRTC and the headers, by pip or as a toolkit, none newer than the driver that is to run them.
# A run needs NVIDIA's driver, and libnvrtc and the headers of CUDA 13 (CUDA_PATH if not in /usr/local/cuda; those that pip
# has installed, with PyTorch or as nvidia-cuda-nvrtc, nvidia-cuda-runtime and nvidia-cuda-cccl, are found).
# ROUNDS (3): how often each time is taken, in turn with PyTorch's; the median is told. BACKEND (cuda): cpu tries this script without a GPU.
set -euo pipefail

parts=(f32 f64 tasks pieces mnist)
declare -A LIMITS=([f32]=120 [f64]=70 [tasks]=150 [pieces]=40 [mnist]=480)
tests=(layers)
benches=(train_step pieces)
examples=(psmnist)
tasks=(listops psmnist image)

fail() {
    echo "gpu.sh: $*" >&2
    exit 1
}

# ------------------------------------------------------------------------------------------------ build

# The path of the binary that cargo has built from the file $1, out of its messages $2.
built() {
    sed -n "s|^ *Executable $1 (\(.*\))\$|\1|p" <<<"$2"
}

build() {
    local dir=$1 here messages path name programs
    mkdir -p "$dir/tests"
    dir=$(cd "$dir" && pwd)
    programs=$(mktemp -d)
    here=$(cd "$(dirname "$0")" && pwd)
    cd "$here/.."
    # Without a toolkit here, the calls of the driver that binaries make would be those of the newest one that is known.
    command -v nvcc >/dev/null || export CUDARC_CUDA_VERSION=${CUDARC_CUDA_VERSION:-13000}
    # Unoptimised: what takes time in the tests are kernels, which the driver's toolkit compiles.
    messages=$(CARGO_PROFILE_DEV_OPT_LEVEL=0 cargo test --features cuda --no-run "${tests[@]/#/--test=}" 2>&1) || fail "the tests do not build: $messages"
    messages+=$'\n'$(cargo bench --features cuda --no-run "${benches[@]/#/--bench=}" 2>&1) || fail "the benches do not build: $messages"
    # The benches' profile: what is below the crate is then compiled once.
    cargo build --profile bench --features cuda "${examples[@]/#/--example=}" || fail "the examples do not build"
    for path in "${tests[@]/#/tests/}" "${benches[@]/#/benches/}"; do
        name=$path.rs
        [[ -f $name ]] || name=$path/main.rs
        name=$(built "$name" "$messages")
        [[ -n $name ]] || fail "cargo has named no binary of $path: $messages"
        strip -o "$programs/${path##*/}" "$name"
    done
    for name in "${examples[@]}"; do strip -o "$programs/$name" "${CARGO_TARGET_DIR:-target}/release/examples/$name"; done
    # The unoptimised tests alone are a hundred megabytes, and an eighth of that packed.
    tar -C "$programs" -cJf "$dir/programs.tar.xz" .
    rm -rf "$programs"
    cp -R tests/fixtures "$dir/tests/"
    cp benches/gpu.sh benches/peer/torch_baseline.py "$dir/"
    if [[ -n ${MNIST:-} ]]; then
        mkdir -p "$dir/mnist"
        for path in "$MNIST"/*-ubyte; do gzip -9 <"$path" >"$dir/mnist/${path##*/}.gz"; done
    fi
    compile_ahead "$dir"
    du -sh "$dir"
}

# Fills CubeCL's cache of kernels. It is looked up by the kernel and not by its source: this one belongs to these binaries.
compile_ahead() {
    local dir=$1 log
    rm -rf "$dir/kernels" "$dir/kernels.tar.xz"
    if [[ -z ${CUDA_PATH:-} ]]; then
        echo "gpu.sh: CUDA_PATH is not set: no kernel is compiled ahead" >&2
        return
    fi
    log=$(CACHE=$dir/kernels CARGO_PROFILE_DEV_OPT_LEVEL=0 cargo test --features cuda --test cuda_source -- --ignored --nocapture kernels_are_compiled_ahead 2>&1) ||
        fail "the kernels are not compiled: $log"
    grep -E '^[0-9]+ kernels' <<<"$log"
    tar -C "$dir" -cJf "$dir/kernels.tar.xz" kernels
    rm -rf "$dir/kernels"
}

# ------------------------------------------------------------------------------------------------ run

# A toolkit's libraries, which need not be among the system's; or CUDA as pip installs it (with PyTorch, for one), where there is no toolkit.
find_toolkit() {
    local site root
    for root in ${CUDA_PATH:-/usr/local/cuda /opt/cuda}; do
        [[ ! -d $root/lib64 ]] || export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$root/lib64
    done
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

# Unpacks the archive $1 here. Not every machine that has Python has xz.
unpack() { tar -xJf "$1" 2>/dev/null || python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall()' "$1"; }

# The folder of a build's programs, its kernels and those that are compiled here: CubeCL reads cubecl.toml in the folder where a program starts.
enter() {
    work=$dir/work-$(sha256sum <"$dir/programs.tar.xz" | head -c 12)
    if [[ ! -d $work/kernels ]]; then
        mkdir -p "$work"
        cd "$work"
        unpack "$dir/programs.tar.xz"
        [[ ! -f $dir/kernels.tar.xz ]] || unpack "$dir/kernels.tar.xz"
        mkdir -p kernels
    fi
    printf '[compilation]\ncache = { file = "%s" }\n' "$work/kernels" >"$work/cubecl.toml"
    cd "$work"
}

# How many kernels are kept.
kept() { find "$work/kernels" -name 'toc*' -exec cat {} + | wc -l; }

# Takes a step on the device. Kernels of the build that its driver does not load would stand in the way of those that it can compile itself.
start() {
    local step=(within "$work/train_step" --backend "$backend" --task listops --batch 1 --length 64 --steps 1)
    "${step[@]}" && return
    rm -rf "$work/kernels" "$logs/failed"
    mkdir "$work/kernels"
    "${step[@]}" || fail "no $backend to run on: see $logs/start.log"
    tell "(without the build's kernels, which do not load: see start.log)"
}

# The seconds that are left to the part, and to all.
left() {
    local part=$((part_end - SECONDS)) all=$((limit - SECONDS))
    echo $((part < all ? part : all))
}

# Runs a command for as long as the part has; its output goes to the part's log, and to stdout. Fails where it fails or is cut off.
within() {
    local seconds text status=0
    seconds=$(left)
    if ((seconds < 2)); then
        echo "== no time left for: $*" >>"$logs/$part.log"
        return 1
    fi
    echo "== [$SECONDS s, $seconds left] $*" >>"$logs/$part.log"
    text=$(timeout -k 5 "$seconds" "$@" 2>&1) || status=$?
    echo "$text" | tee -a "$logs/$part.log"
    if ((status)); then
        echo "== ended with $status at $SECONDS s" >>"$logs/$part.log"
        # A command that had no time is no fault.
        ((status == 124)) || touch "$logs/failed"
        return 1
    fi
}

tell() { echo "$*" | tee -a "$logs/summary.md"; }

# The number after $1 in the text $2, or - where there is none.
number() {
    local found
    found=$(sed -nE "s/.*$1([0-9.]+).*/\1/p" <<<"$2" | tail -n 1)
    echo "${found:--}"
}

# The median of the numbers of the file $1, or -.
median() {
    [[ -f $1 ]] || { echo -; return; }
    { grep -v '^-$' "$1" || true; } | sort -g | awk '{ value[NR] = $1 } END { print NR ? value[int((NR + 1) / 2)] : "-" }'
}

# $1 over $2, or -.
ratio() {
    awk -v over="$1" -v under="$2" 'BEGIN { if (over == "-" || under == "-" || under + 0 == 0) print "-"; else printf "%.1fx\n", over / under }'
}

# The tests whose names hold one of these, those that are ignored elsewhere.
run_tests() {
    local name text
    for name in "${tests[@]}"; do
        text=$(within "$work/$name" --include-ignored "$@") || true
        tell "- $part: $name: $(grep '^test result' <<<"$text" || echo "not all: $(grep -c '\.\.\. ok$' <<<"$text") passed, $(grep -c '\.\.\. FAILED$' <<<"$text") failed")"
    done
}

run_f32() { run_tests "${backend}_f32" "on_$backend"; }

run_f64() { run_tests "${backend}_f64"; }

# One time of ours and one of PyTorch, $2 of its environment, for the task $1.
time_task() {
    local task=$1 environment=$2 text
    text=$(within "$work/train_step" --backend "$backend" --task "$task" --steps "$steps") || true
    number train_s= "$text" >>"$work/$task.train"
    number infer_s= "$text" >>"$work/$task.infer"
    ((has_torch)) || return 0
    text=$(within env $environment python3 "$dir/torch_baseline.py" model --task "${task/image/cifar}" --device "${torch_device}" --impl fast --steps "$steps") || true
    number 'train step: median ' "$text" >>"$work/$task.train.torch$environment"
    number 'inference: median ' "$text" >>"$work/$task.infer.torch$environment"
}

# The rows of all tasks, as far as they are known.
task_rows() {
    local task what ours eager compiled best
    tell ""
    tell "| task | what | PyTorch (s) | compiled (s) | pspikessm (s) | against the better one |"
    tell "|---|---|---|---|---|---|"
    for task in "${tasks[@]}"; do
        for what in train infer; do
            ours=$(median "$work/$task.$what")
            eager=$(median "$work/$task.$what.torch")
            compiled=$(median "$work/$task.$what.torchPSSM_COMPILE=1")
            best=$(printf '%s\n' "$eager" "$compiled" | { grep -v '^-$' || true; } | sort -g | head -n 1)
            tell "| $task | $what | $eager | $compiled | $ours | $(ratio "${best:--}" "$ours") |"
        done
    done
}

run_tasks() {
    local task round
    rm -f "$work"/*.train* "$work"/*.infer*
    for ((round = 1; round <= rounds; round++)); do
        for task in "${tasks[@]}"; do (($(left) < 5)) || time_task "$task" ""; done
        # Compiled once, which takes long, when there is a row of every task.
        ((round > 1 || !has_torch)) || for task in "${tasks[@]}"; do (($(left) < 30)) || time_task "$task" PSSM_COMPILE=1; done
    done
    task_rows
    ((has_torch)) || tell "(python3 has no PyTorch with CUDA: its columns are empty)"
}

# A row for a piece: $1 what, then its sizes.
run_piece() {
    local text
    text=$(within "$work/pieces" --backend "$backend" --what "$@" ${peak:+--peak-gbs "$peak"} ${repeat:+--repeat "$repeat"}) || true
    [[ $1 != copy ]] || peak=$(number forward_gbs= "$text")
    [[ $peak != - ]] || peak=
    tell "| $* | $(number forward_s= "$text") | $(number forward_gbs= "$text") | $(number forward_of_peak= "$text")" \
        "| $(number both_s= "$text") | $(number both_gbs= "$text") | $(number both_of_peak= "$text") |"
}

run_pieces() {
    local peak=
    tell ""
    tell "| piece | forward (s) | GB/s | of the copy | forward and gradient (s) | GB/s | of the copy |"
    tell "|---|---|---|---|---|---|---|"
    # A gigabyte each way, and what the others are measured by.
    run_piece copy --B "$large" --H 1024 --L 1024
    run_piece conv --B 32 --H 128 --L 2048
    run_piece sampler --B 32 --H 128 --L 2048
    run_piece conv --B 8 --H 256 --L 16384
    run_piece sampler --B 64 --H 512 --L 4096
}

# psMNIST by the paper's architecture, with as many steps as a step's time lets hope for in what is left.
run_mnist() {
    local step steps text seconds
    if [[ ! -d $dir/mnist ]]; then
        tell "- mnist: the build had no MNIST"
        return
    fi
    step=$(median "$work/psmnist.train")
    seconds=$(left)
    # Twice the step, since a run also makes batches and validates; an epoch has 844.
    steps=$(awk -v step="$step" -v left="$seconds" 'BEGIN { if (step == "-") step = 0.05; n = int((left - 25) / (2 * step)); print (n < 20) ? 20 : (n > 8440) ? 8440 : n }')
    text=$(within "$work/psmnist" --backend "$backend" --preset paper --data "$dir/mnist" --out "$logs/psmnist" --quiet --eval-passes 1 \
        --set optimizer.lr=0.004 --set "run.length.steps=$steps" --set schedule.cosine.warmup=$((steps / 12)) --set "schedule.cosine.total=$steps" \
        --set model.block.dropout=0 --set model.block.ssm.dropout=0 --rates-every 0) || true
    seconds=$((seconds - $(left)))
    [[ ! -f $logs/psmnist/metrics.jsonl ]] || cp "$logs/psmnist/metrics.jsonl" "$logs/mnist.jsonl"
    rm -rf "$logs/psmnist"
    tell "- mnist: $steps steps of 64 images planned, $seconds s with validation and test: $(grep -iE 'test|accuracy' <<<"$text" | tail -n 1)"
}

run() {
    local name before asked=("${@:2}")
    dir=$(cd "$1" 2>/dev/null && pwd) || fail "there is no folder $1: gpu.sh build DIR makes one"
    [[ -f $dir/programs.tar.xz ]] || fail "$dir holds no programs: gpu.sh build DIR puts them there"
    ((${#asked[@]})) || asked=("${parts[@]}")
    for part in "${asked[@]}"; do
        [[ -n ${LIMITS[$part]:-} ]] || fail "there is no part $part: there are ${parts[*]}"
    done
    # The tests look for fixtures below it.
    export CARGO_MANIFEST_DIR=$dir
    backend=${BACKEND:-cuda} limit=${LIMIT:-480} rounds=${ROUNDS:-3}
    steps=20 large=256 repeat= torch_device=cuda has_torch=0
    # The processor is to try the script, not to be timed.
    [[ $backend != cpu ]] || { steps=1 large=16 repeat=1 torch_device=cpu; }
    logs=${LOGS:-}
    for ((name = 1; ${#logs} == 0; name++)); do [[ -e $dir/logs-$name ]] || logs=$dir/logs-$name; done
    mkdir -p "$logs"
    logs=$(cd "$logs" && pwd)
    find_toolkit
    enter
    if python3 -c "import torch; assert '$torch_device' == 'cpu' or torch.cuda.is_available()" 2>/dev/null; then has_torch=1; fi
    name=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1) || name="no NVIDIA GPU"
    part=start part_end=$((SECONDS + 60))
    tell "$name, $(date +%F), $backend"
    start
    for part in "${asked[@]}"; do
        part_end=$((SECONDS + LIMITS[$part])) before=$(kept)
        if (($(left) < 5)); then
            tell "($part: no time is left of $limit s)"
            continue
        fi
        "run_$part"
        tell "($part: at $SECONDS s of $limit; $(($(kept) - before)) kernels compiled beside $before)"
    done
    [[ ! -e $logs/failed ]] || fail "something has failed: see $logs"
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
