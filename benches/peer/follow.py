#!/usr/bin/env python3
"""Trains the PyTorch baseline on the batches of one of our runs, and sets the two loss curves side by side.

    cargo bench --bench batches -- BATCHES text --preset paper --batch-size 8 --steps 300 --data DIR
    python benches/peer/follow.py train BATCHES LOSSES --task imdb --threads 2
    python benches/peer/follow.py compare LOSSES OUT/metrics.jsonl [more ..]

`train` writes one JSON object a step, with the keys of our metrics.jsonl; `compare` prints means over windows of steps.
"""
import argparse, json, os, sys, time


def steps(path):
    """Each step of the file as (factor, inputs, labels, lengths)."""
    import numpy as np, torch

    raw = np.memmap(path, np.uint32, "r")
    at = 1
    for _ in range(int(raw[0])):
        factor = float(raw[at : at + 1].view(np.float32)[0])
        batch, length, d_input = (int(n) for n in raw[at + 1 : at + 4])
        at += 4
        take = lambda count, start=at: np.array(raw[start : start + count])
        lengths, labels = take(batch), take(batch, at + batch)
        at += 2 * batch
        size = batch * length * max(d_input, 1)
        inputs = np.array(raw[at : at + size])
        at += size
        if d_input:
            inputs = torch.from_numpy(inputs.view(np.float32).reshape(batch, length, d_input))
        else:
            inputs = torch.from_numpy(inputs.astype(np.int64).reshape(batch, length))
        as_long = lambda counts: torch.from_numpy(counts.astype(np.int64))
        yield factor, inputs, as_long(labels), as_long(lengths)


def train(a):
    import torch, torch.nn.functional as F
    import torch_baseline as peer

    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    changes = {key: int(value) for key, value in (change.split("=") for change in a.set)}
    model, config = peer.make(a.task, "fast", **changes)
    optimizer = peer.make_optimizer([model], config["lr"], config["wd"])
    rates = [group["lr"] for group in optimizer.param_groups]
    model.train()
    start = time.time()
    with open(a.losses, "w") as out:
        for number, (factor, inputs, labels, lengths) in enumerate(steps(a.batches), 1):
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * factor
            optimizer.zero_grad(set_to_none=True)
            logits = model(inputs, lengths if config.get("lengths") else None)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            accuracy = (logits.argmax(-1) == labels).float().mean().item()
            line = {"kind": "train", "step": number, "loss": loss.item(), "accuracy": accuracy, "seconds": time.time() - start}
            print(json.dumps(line), file=out, flush=True)


def compare(a):
    curves = []
    for path in a.files:
        lines = [json.loads(line) for line in open(path)]
        curves.append([(line["step"], line["loss"], line["accuracy"]) for line in lines if line["kind"] == "train"])
    last = min(curve[-1][0] for curve in curves)
    names = [os.path.basename(os.path.dirname(path)) or path for path in a.files]
    print("steps".ljust(12) + "".join(f"{name:>24}" for name in names))
    for start in range(0, last, a.window):
        row = f"{start + 1}-{start + a.window}".ljust(12)
        for curve in curves:
            # A line of ours is the mean over the steps since the line before it.
            inside = [point for point in curve if start < point[0] <= start + a.window]
            loss, accuracy = (sum(point[i] for point in inside) / len(inside) for i in (1, 2))
            row += f"{loss:>15.4f} {accuracy:>8.4f}"
        print(row)


def main():
    parser = argparse.ArgumentParser()
    what = parser.add_subparsers(required=True)
    one = what.add_parser("train")
    one.add_argument("batches"), one.add_argument("losses"), one.add_argument("--task", required=True)
    one.add_argument("--set", action="append", default=[], help="KEY=NUMBER of the peer's configuration, as in H=128, layers=3, vocab=135")
    one.add_argument("--threads", type=int, default=1), one.add_argument("--seed", type=int, default=0)
    one.set_defaults(run=train)
    two = what.add_parser("compare")
    two.add_argument("files", nargs="+"), two.add_argument("--window", type=int, default=50)
    two.set_defaults(run=compare)
    a = parser.parse_args()
    a.run(a)


if __name__ == "__main__":
    main()
