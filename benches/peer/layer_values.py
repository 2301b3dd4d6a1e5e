#!/usr/bin/env python3
"""Outputs and gradients of layers by PyTorch in float64: writes tests/fixtures/layers.json, which tests/layers/layer_values.rs holds the
crate to.

  pip install torch numpy && python benches/peer/layer_values.py

A case is {"layer", "args", "params", "inputs", "outputs", "cotangents", "gradients"}: `gradients` has those of the inputs, under their
names, and of the parameters, under theirs. Sequences are in the crate's layout, (batch, channels, length). An array is {"shape", "data"}.
"""
import json, pathlib
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
CASES = []


def array(tensor):
    return {"shape": list(tensor.shape), "data": tensor.detach().reshape(-1).tolist()}


def draws(seed, *shape):
    """Numbers with few digits, so that the fixture stays small."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(shape, generator=generator) - 1).mul(64).round().div(64)


def case(layer, module, f, inputs, **args):
    """`f(**inputs)` makes the named outputs; every parameter of the module gets few digits, too."""
    with torch.no_grad():
        for i, param in enumerate(module.parameters()):
            param.copy_(draws(100 + i, *param.shape))
    module.zero_grad()
    leaves = {name: value.clone().requires_grad_(True) for name, value in inputs.items()}
    outputs = f(**leaves)
    cotangents = {name: draws(200 + i, *value.shape) for i, (name, value) in enumerate(outputs.items())}
    torch.autograd.backward(list(outputs.values()), list(cotangents.values()))
    named = dict(module.named_parameters())
    CASES.append({
        "layer": layer,
        "args": args,
        "params": {name.removesuffix("_l0"): array(param) for name, param in named.items()},
        "inputs": {name: array(value) for name, value in leaves.items()},
        "outputs": {name: array(value) for name, value in outputs.items()},
        "cotangents": {name: array(value) for name, value in cotangents.items()},
        "gradients": {name.removesuffix("_l0"): array(x.grad) for name, x in [*leaves.items(), *named.items()]},
    })


def last(x):
    """From (batch, channels, length) to (batch, length, channels), or back."""
    return x.transpose(1, 2)


# ---------------------------------------------------------------- recurrences
gru = nn.GRU(3, 4, batch_first=True)


def run_gru(x, initial=None):
    states, final = gru(last(x), None if initial is None else initial[None])
    return {"states": last(states), "last": final[0]}


case("gru", gru, run_gru, {"x": draws(1, 2, 3, 5)})
case("gru", gru, run_gru, {"x": draws(2, 1, 3, 1), "initial": draws(3, 1, 4)})

lstm = nn.LSTM(2, 3, batch_first=True)


def run_lstm(x, hidden=None, cell=None):
    states, (h, c) = lstm(last(x), None if hidden is None else (hidden[None], cell[None]))
    return {"states": last(states), "hidden": h[0], "cell": c[0]}


case("lstm", lstm, run_lstm, {"x": draws(4, 2, 2, 5)})
case("lstm", lstm, run_lstm, {"x": draws(5, 2, 2, 3), "hidden": draws(6, 2, 3), "cell": draws(7, 2, 3)})

# ---------------------------------------------------------------- normalisation
norm = nn.RMSNorm(4, eps=1e-5)
case("rms_norm", norm, lambda x: {"y": last(norm(last(x)))}, {"x": draws(8, 2, 4, 3)})

# ---------------------------------------------------------------- attention
for heads, causal, lengths in [(1, False, None), (2, False, None), (2, True, None), (3, False, [5, 2]), (2, True, [4, 5])]:
    attention = nn.MultiheadAttention(6, heads, batch_first=True)
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    padding = None if lengths is None else torch.arange(5)[None] >= torch.tensor(lengths)[:, None]

    def run_attention(x):
        y, _ = attention(last(x), last(x), last(x), attn_mask=mask, key_padding_mask=padding, need_weights=False)
        return {"y": last(y)}

    case("attention", attention, run_attention, {"x": draws(9, 2, 6, 5)}, heads=heads, causal=causal, lengths=lengths)

# ---------------------------------------------------------------- convolution
for stride, padding, dilation, groups in [(1, 0, 1, 1), (2, 1, 1, 2), (1, 2, 3, 1), (1, 1, 1, 4)]:
    conv = nn.Conv1d(4, 8, 3, stride=stride, padding=padding, dilation=dilation, groups=groups)
    args = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    case("conv1d", conv, lambda x: {"y": conv(x)}, {"x": draws(10, 2, 4, 9)}, **args)

path = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/layers.json"
path.write_text("[\n" + ",\n".join(json.dumps(case) for case in CASES) + "\n]\n")
print(f"{len(CASES)} cases, {path.stat().st_size} bytes: {path}")
