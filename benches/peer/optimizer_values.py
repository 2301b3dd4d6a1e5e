#!/usr/bin/env python3
"""What PyTorch's optimisers make of given parameters and gradients, in float64: tests/fixtures/optimizers.json, for tests/layers/rules.rs.

usage: python benches/peer/optimizer_values.py > tests/fixtures/optimizers.json     (PyTorch 2.x)
The numbers are multiples of 1/64, exact in every format, from a generator of its own: the file does not hang on PyTorch's random numbers.
"""
import json

import torch

STEPS, SIZE = 8, 5


def numbers(state):
    """Endless multiples of 1/64 between -1 and 1."""
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield ((state >> 33) % 129 - 64) / 64


CASES = [
    ("adamw", torch.optim.AdamW, dict(lr=0.05, weight_decay=0.3, betas=(0.8, 0.95), eps=1e-3)),
    ("adamw", torch.optim.AdamW, dict(lr=1e-3, weight_decay=0.01, betas=(0.9, 0.999), eps=1e-8)),
    ("adam", torch.optim.Adam, dict(lr=0.05, weight_decay=0.0, betas=(0.8, 0.95), eps=1e-3)),
    ("adam", torch.optim.Adam, dict(lr=0.05, weight_decay=0.3, betas=(0.9, 0.999), eps=1e-8)),
    ("sgd", torch.optim.SGD, dict(lr=0.1, momentum=0.0, dampening=0.0, weight_decay=0.2, nesterov=False)),
    ("sgd", torch.optim.SGD, dict(lr=0.1, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False)),
    ("sgd", torch.optim.SGD, dict(lr=0.1, momentum=0.7, dampening=0.4, weight_decay=0.2, nesterov=False)),
    ("sgd", torch.optim.SGD, dict(lr=0.1, momentum=0.9, dampening=0.0, weight_decay=0.2, nesterov=True)),
]


def main():
    draw, cases = numbers(1), []
    for name, rule, options in CASES:
        start = [next(draw) for _ in range(SIZE)]
        gradients = [[next(draw) for _ in range(SIZE)] for _ in range(STEPS)]
        parameter = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        optimizer, values = rule([parameter], **options), []
        for gradient in gradients:
            parameter.grad = torch.tensor(gradient, dtype=torch.float64)
            optimizer.step()
            values.append(parameter.tolist())
        cases.append(dict(rule=name, options=options, start=start, gradients=gradients, values=values))
    print("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]")


main()
