#!/usr/bin/env python3
"""This crate against torch_baseline.py and jax_baseline.py (same folder): the same work on the same machine, in turn, medians of all rounds.

    pip install torch numpy jax
    python benches/peer/compare.py [--rounds 3] [--only models latency memory kernels convolutions rates threads lengths startup]

Builds the benches with cargo, runs all sides alternately and prints Markdown tables. PyTorch runs `--impl fast` with its allocator
tuned (PSSM_MALLOC=tuned), its fastest setting, eager and by torch.compile (which needs a C++ compiler); JAX runs jitted. Memory is
compared with the allocator as it comes.
"""
import argparse, json, os, re, statistics, subprocess, sys, tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# The task and the batch.
MODELS = {"ListOps (batch 32)": (["listops"], "32"), "psMNIST (batch 64)": (["psmnist"], "64"), "Image (batch 4)": (["cifar"], "4")}
KERNELS = [(128, 16, 2048), (400, 64, 784), (256, 64, 16384)]
CONVOLUTIONS = [(32, 128, 100), (32, 128, 509), (64, 400, 784), (32, 128, 1000), (32, 128, 2048), (8, 128, 4093), (8, 128, 9001), (4, 128, 16384)]


def build():
    out = subprocess.run(["cargo", "bench", "--no-run"], cwd=ROOT, capture_output=True, text=True)
    if out.returncode:
        sys.exit(out.stderr)
    return {m[1]: ROOT / m[2] for m in re.finditer(r"Executable benches/(\w+)\.rs \((.+?)\)", out.stderr)}


def run(command, **env):
    out = subprocess.run([str(c) for c in command], env={**os.environ, **env}, capture_output=True, text=True)
    if out.returncode:
        sys.exit(f"{command}: {out.stderr}")
    return out.stdout


def peer(*args, malloc="tuned", compiled=False):
    return run([sys.executable, HERE / "torch_baseline.py", *args], PSSM_MALLOC=malloc, PSSM_COMPILE="1" if compiled else "")


def jax(task, batch, threads):
    """JAX takes all the processors that it is allowed to."""
    return run(["taskset", "-c", f"0-{int(threads) - 1}", sys.executable, HERE / "jax_baseline.py", task, batch])


def number(pattern, text):
    return float(re.search(pattern, text)[1])


def in_turn(rounds, *sides):
    """Calls the sides one after another, `rounds` times; the median of every figure that a side returns."""
    results = [[side() for side in sides] for _ in range(rounds)]
    return [[statistics.median(values) for values in zip(*(r[i] for r in results))] for i in range(len(sides))]


def table(title, head, rows):
    print(f"\n{title}\n\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def seconds(s):
    return f"{s:.2f} s" if s >= 1 else f"{1e3 * s:.0f} ms" if s >= 0.02 else f"{1e3 * s:.1f} ms"


def versus(theirs, ours):
    return [seconds(theirs), seconds(ours), f"{theirs / ours:.1f}x"]


def versus_all(bench, rounds, args, batch):
    """Seconds of a training step and of inference: PyTorch eager and compiled, JAX, this crate."""
    def ours():
        text = run([bench["train_step"], "--task", *args])
        return [number(r"train_s=([\d.]+)", text), number(r"infer_s=([\d.]+)", text)]

    def torch(compiled):
        text = peer("model", "--impl", "fast", "--task", *args, compiled=compiled)
        return [number(r"train step: median ([\d.]+)", text), number(r"inference: median ([\d.]+)", text)]

    def jitted():
        text = jax(args[0], batch, args[args.index("--threads") + 1])
        return [number(r"train ([\d.]+)", text), number(r"infer ([\d.]+)", text)]

    return in_turn(rounds, lambda: torch(False), lambda: torch(True), jitted, ours)


def beside(figures):
    """The cells of the peers, of this crate, and of the best peer over it."""
    *peers, own = figures
    return [seconds(s) for s in figures] + [f"{min(peers) / own:.1f}x"]


PEERS = ["PyTorch", "compiled", "JAX", "this crate", ""]


def models(bench, rounds):
    rows = [[], []]
    for name, (args, batch) in MODELS.items():
        for threads in ("1", "2"):
            sides = versus_all(bench, rounds, [*args, "--batch", batch, "--threads", threads, "--steps", "3"], batch)
            for part in range(2):
                rows[part].append([name, threads, *beside([side[part] for side in sides])])
    for title, rows in zip(("Training step", "Inference"), rows):
        table(title, ["model", "threads", *PEERS], rows)


def latency(bench, rounds):
    rows = []
    for name in ("listops", "psmnist"):
        for threads in ("1", "2"):
            sides = versus_all(bench, rounds, [name, "--batch", "1", "--threads", threads, "--steps", "5"], "1")
            rows.append([name, threads, *beside([side[1] for side in sides])])
    table("Inference of one sample", ["model", "threads", *PEERS], rows)


def memory(bench, rounds):
    rows = []
    for name, (task, batch) in MODELS.items():
        same = ["--task", *task, "--batch", batch, "--threads", "2", "--steps", "1"]
        theirs = lambda: [number(r"train step:.*peakRSS ([\d.]+)GB", peer("model", "--impl", "fast", *same, malloc=""))]
        ours = lambda: [number(r"peak_rss_mb=(\d+)", run([bench["train_step"], *same, "--only", "train"]))]
        (their,), (own,) = in_turn(1, theirs, ours)
        rows.append([name, f"{their:.1f} GB", f"{own / 1e3:.2f} GB", f"1/{1e3 * their / own:.1f}"])
    table("Peak memory of a training step", ["model", "PyTorch", "this crate", ""], rows)


def pieces(bench, rounds, what, peer_args, own_args, pattern):
    theirs = lambda: [number(pattern, peer(*peer_args, "--steps", "7"))]
    def ours():
        text = run([bench["pieces"], "--what", what, *own_args, "--steps", "7"])
        return [number(r"both_s=([\d.]+)", text), number(r"peak_rss_mb=(\d+)", text)]
    return in_turn(rounds, theirs, ours)


def kernels(bench, rounds):
    rows = []
    for h, n, l in KERNELS:
        sizes = ["--H", h, "--N", n, "--L", l, "--threads", 2]
        (their,), (own, peak) = pieces(bench, rounds, "kernel", ["kernel", "--impl", "fast", *sizes], sizes, r"kernel fwd\+bwd: median ([\d.]+)")
        rows.append([f"H {h}, N {n}, L {l}", *versus(their, own), f"{peak:.0f} MB"])
    table("DPLR kernels (two a channel), forward and gradient, 2 threads", ["sizes", "PyTorch", "this crate", "", "peak memory"], rows)


def convolutions(bench, rounds):
    rows = []
    for b, h, l in CONVOLUTIONS:
        sizes = ["--B", b, "--H", h, "--L", l, "--threads", 2]
        (their,), (own, _) = pieces(bench, rounds, "conv", ["fft", *sizes], sizes, r"fftconv fwd\+bwd: median ([\d.]+)")
        rows.append([f"B {b}, H {h}, L {l}", *versus(their, own)])
    table("Long convolution, two-sided, forward and gradient, 2 threads", ["sizes", "PyTorch", "this crate", ""], rows)


def rates(bench, rounds):
    rows = []
    for rate in (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0):
        def ours():
            text = run([bench["pieces"], "--what", "mixer", "--rate", rate, "--threads", "2", "--steps", "7"])
            return [number(r"forward_s=([\d.]+)", text), number(r"both_s=([\d.]+)", text)]
        ((forward, both),) = in_turn(rounds, ours)
        rows.append([f"{rate:.0%}", seconds(forward), seconds(both)])
    table("SpikeMixer (2 x 128 to 128 channels, batch 32, length 2048) by spike rate, 2 threads", ["inputs that spike", "forward", "with gradient"], rows)


def threads(bench, rounds):
    rows = []
    for name, (task, batch) in MODELS.items():
        command = lambda threads: [str(bench["train_step"]), "--task", *task, "--batch", batch, "--threads", threads, "--steps", "3", "--only", "train"]
        once = lambda threads: [number(r"train_s=([\d.]+)", run(command(threads)))]
        def pair():
            both = [subprocess.Popen(command("1"), stdout=subprocess.PIPE, text=True) for _ in range(2)]
            return [statistics.mean(number(r"train_s=([\d.]+)", p.communicate()[0]) for p in both)]
        (one,), (two,), (side,) = in_turn(rounds, lambda: once("1"), lambda: once("2"), pair)
        rows.append([name, seconds(one), seconds(two), f"{one / two:.2f}x", f"{2 * one / side:.2f}x"])
    table("Two threads over one, training step", ["model", "1 thread", "2 threads", "", "two processes side by side"], rows)


def lengths(bench, rounds):
    sizes = [1024, 2048, 4096, 8192, 16384]
    same = [bench["train_step"], "--task", "listops", "--batch", "4", "--threads", "2", "--steps", "5", "--only", "train"]
    measure = lambda l: lambda: [number(r"train_s=([\d.]+)", run([*same, "--length", l]))]
    times = [t for (t,) in in_turn(rounds, *(measure(l) for l in sizes))]
    rows = [[str(l), seconds(t), f"{t / before:.2f}x" if before else ""] for l, t, before in zip(sizes, times, [None, *times])]
    table("ListOps model at batch 4 by length, training step, 2 threads", ["length", "time", "over half the length"], rows)


def startup(_, rounds):
    """From the start of the ListOps example to its first step, its data cached, as metrics.jsonl says."""
    subprocess.run(["cargo", "build", "--release", "--example", "listops"], cwd=ROOT, check=True, capture_output=True)
    built = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release/examples/listops"
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        def ours():
            out = tempfile.mkdtemp(dir=folder)
            run([built, "--data", data, "--steps", "1", "--eval-passes", "1", "--out", out])
            return [json.loads(Path(out, "metrics.jsonl").read_text().splitlines()[0])["seconds"]]
        ours()
        ((time,),) = in_turn(rounds, ours)
    table("Start of the example", ["preset", "to the first step"], [["quick", seconds(time)]])


def main():
    parts = {f.__name__: f for f in (models, latency, memory, kernels, convolutions, rates, threads, lengths, startup)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    args = parser.parse_args()
    bench = build()
    for name in args.only:
        parts[name](bench, args.rounds)


if __name__ == "__main__":
    main()
