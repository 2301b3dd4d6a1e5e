#!/usr/bin/env python3
"""Trains a recipe of the example psmnist in PyTorch: the same files, steps, batch, schedule and distributions of first weights as ours.

    python benches/peer/torch_train.py --preset digits --data DIR --seeds 0 1 2
    python benches/peer/torch_train.py --preset paper --data DIR --seeds 64 --time-steps 5     # what a step takes, no training

The model is torch_baseline.py's; the recipe is read from src/train/tasks/psmnist. Random numbers are PyTorch's: seeds are not comparable
one by one. As in ours, each epoch visits the training set in a new order, the last batch of an epoch is smaller, and evaluations draw
spikes. PSSM_MALLOC=tuned is the fair setting for speed, as in torch_baseline.py. Prints the test accuracy (weights of the last step, mean over --passes), the training loss of the last 100 steps, and seconds.
"""
import argparse, csv, gzip, math, os, pathlib, statistics, sys, time, tomllib

import numpy as np, torch, torch.nn.functional as F
import torch_baseline as peer

RECIPES = pathlib.Path(__file__).parents[2] / "src/train/tasks/psmnist"


def bit_reversed(count):
    """The numbers below `count`, in the order of their bits read backwards."""
    bits = max(count - 1, 1).bit_length()
    order = (int(format(number, f"0{bits}b")[::-1], 2) for number in range(1 << bits))
    return [number for number in order if number < count]


def digits(folder):
    """Pixels from 0 to 1 and labels of train.csv and test.csv."""
    for part in "train", "test":
        with open(folder / f"{part}.csv") as file:
            rows = torch.tensor([[int(field) for field in row] for row in csv.reader(file)])
        yield rows[:, 1:] / 16, rows[:, 0]


def idx(folder, name):
    """The bytes behind the header of an IDX file, packed or not; the header is 8 bytes of labels, 16 of pictures."""
    packed = folder / f"{name}.gz"
    raw = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / name).read_bytes()
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=8 if "labels" in name else 16).copy())


def mnist(folder):
    """Pixels from 0 to 1 and labels of the 60,000 less a drawn tenth, which ours holds out, and of the 10,000."""
    for part in "train", "t10k":
        x = idx(folder, f"{part}-images-idx3-ubyte").reshape(-1, 784) / 255
        y = idx(folder, f"{part}-labels-idx1-ubyte").long()
        kept = torch.from_numpy(np.random.default_rng(0).permutation(len(y))[len(y) // 10 :]) if part == "train" else slice(None)
        yield x[kept], y[kept]


def sequences(recipe, folder):
    """Training and test set as (samples, length, 1) and labels."""
    sets = list({"digits": digits, "mnist": mnist}[recipe["data"]](folder))
    order = bit_reversed(sets[0][0].shape[1])
    return [(x[:, order].unsqueeze(-1).contiguous(), y) for x, y in sets]


def network(recipe):
    model, block = recipe["model"], recipe["model"]["block"]
    ssm = block["ssm"]
    assert ssm["lr"] == 1e-3 and not model.get("causal"), "the peer's model has no such recipe"
    config = dict(H=ssm["d_model"], layers=model["layers"], N=ssm["d_state"], out=10, d_in=1, lmax=ssm["l_max"], n_ssm=ssm["n_ssm"])
    config |= dict(bi=block["bidirectional"], prenorm=block["prenorm"], norm=block["norm"], res=block["residual"], drop=block.get("dropout", 0.0))
    return peer.Model(fast=True, **config)


def rise_and_cosine(step, warmup, total):
    """The factor of step `step`, from 0: a line up from 0, then half a cosine down to 0."""
    return step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def orders(samples, batch):
    """Batches of sample numbers without end; a single sample left over at the end of an epoch is left out."""
    while True:
        for part in torch.randperm(samples).split(batch):
            if len(part) > 1:
                yield part


def accuracy(model, x, y, batch, passes):
    model.eval()
    with torch.no_grad():
        right = sum((model(some).argmax(-1) == labels).sum().item() for _ in range(passes) for some, labels in zip(x.split(batch), y.split(batch)))
    return right / (passes * len(y))


def train(recipe, sets, seed, a):
    """Test accuracy, mean training loss of the last 100 steps, seconds a step."""
    torch.manual_seed(seed)
    (x, y), test = sets
    batch, schedule = recipe["run"]["batch"], recipe["schedule"].get("cosine")
    steps = a.time_steps or recipe["run"]["length"]["steps"]
    model = network(recipe)
    optimizer = peer.make_optimizer([model], recipe["optimizer"]["lr"], recipe["optimizer"]["weight_decay"])
    rates = [group["lr"] for group in optimizer.param_groups]
    model.train()
    losses, times = [], []
    for step, part in zip(range(steps), orders(len(y), batch)):
        start = time.perf_counter()
        factor = rise_and_cosine(step, **schedule) if schedule else 1.0
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * factor
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(x[part]), y[part])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        times.append(time.perf_counter() - start)
    found = None if a.time_steps else accuracy(model, *test, batch, a.passes)
    return found, statistics.mean(losses[-100:]), times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits"), parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2]), parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1), parser.add_argument("--time-steps", type=int, default=0)
    a = parser.parse_args()
    if os.environ.get("PSSM_MALLOC") == "tuned" and os.environ.get("GLIBC_TUNABLES") != peer._TUNE:
        os.environ["GLIBC_TUNABLES"] = peer._TUNE
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(a.threads)
    recipe = tomllib.loads((RECIPES / f"{a.preset}.toml").read_text())
    sets = sequences(recipe, a.data)
    results = []
    for seed in a.seeds:
        start, cpu = time.perf_counter(), time.process_time()
        found, loss, times = train(recipe, sets, seed, a)
        took = f"{time.perf_counter() - start:.1f} s, {time.process_time() - cpu:.1f} of a processor, median step {statistics.median(times):.4f} s"
        print(f"seed {seed}: test accuracy {'-' if found is None else format(found, '.4f')}, loss {loss:.4f}, {len(times)} steps, {took}", flush=True)
        results.append(found)
    if None not in results and len(results) > 1:
        print(f"test accuracy {statistics.mean(results):.4f}, deviation {statistics.stdev(results):.4f}; PyTorch {torch.__version__}, {a.threads} threads")


if __name__ == "__main__":
    main()
