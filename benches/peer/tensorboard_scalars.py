#!/usr/bin/env python3
"""Reads a run's event files with TensorBoard's own reader, and holds every number against the run's metrics.jsonl.

    pip install tensorboard
    python benches/peer/tensorboard_scalars.py OUT [more ..]

Each OUT is a folder that was written with --tensorboard, resumed as often as one likes: every line of metrics must be there once, as the
f32 of its number, and nothing else. The files are read twice: by the loader of single files, which takes no step back, and by the
accumulator that TensorBoard shows, which drops what a restart says anew.
"""
import json, math, os, struct, sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorboard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto import event_pb2

NUMBERS = ("loss", "accuracy", "lr", "spike_rate")


def f32(number):
    return struct.unpack("f", struct.pack("f", number))[0]


def wanted(path):
    """Every number of metrics.jsonl, by (tag, step)."""
    found = {}
    for line in map(json.loads, open(path)):
        kind = "train" if line["kind"] == "spikes" else line["kind"]
        numbers = {name: line[name] for name in NUMBERS if line.get(name) is not None}
        for layer in line.get("layers", []):
            numbers[f"spike_rate/layer_{layer['layer']}_{layer['site']}"] = layer["rate"]
        found |= {(f"{name}/{kind}", line["step"]): f32(number) for name, number in numbers.items() if number is not None}
    return found


def raw(folder):
    """Every number of the files, one after the other; a number that comes twice is an error."""
    found = {}
    names = sorted(name for name in os.listdir(folder) if "tfevents" in name)
    for name in names:
        # The loader checks both checksums of every record.
        for record in RawEventFileLoader(os.path.join(folder, name)).Load():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                assert (value.tag, event.step) not in found, f"{name}: {value.tag} of step {event.step} twice"
                assert value.HasField("simple_value"), f"{name}: {value.tag} is no number"
                found[value.tag, event.step] = value.simple_value
    return found, names


def shown(folder):
    """What TensorBoard shows."""
    accumulator = EventAccumulator(folder, size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    scalars = {(tag, event.step): event.value for tag in tags["scalars"] for event in accumulator.Scalars(tag)}
    assert not tags["tensors"] and not tags["images"], tags
    return scalars


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for folder in sys.argv[1:]:
        want = wanted(os.path.join(folder, "metrics.jsonl"))
        (found, names), seen = raw(folder), shown(folder)
        assert want and names, f"{folder}: no numbers, or no event files: train with --tensorboard"
        for what, numbers in (("the files", found), ("TensorBoard", seen)):
            assert numbers.keys() == want.keys(), f"{what}: {sorted(numbers.keys() ^ want.keys())[:5]}"
            differing = [key for key in want if not math.isclose(numbers[key], want[key], rel_tol=0.0)]
            assert not differing, f"{what}: {differing[:5]}"
        tags = len({tag for tag, _ in want})
        print(f"{folder}: {len(want)} numbers of {tags} curves in {len(names)} files, as TensorBoard {tensorboard.__version__} reads them")


if __name__ == "__main__":
    main()
