#!/usr/bin/env python3
"""Values and gradients of ops by PyTorch in float64: writes tests/fixtures/ops.json, which tests/layers/op_values.rs holds the crate to.

  pip install torch numpy && python benches/peer/op_values.py

A case is {"op", "args", "inputs", "output", "cotangent", "gradients"}: what `op` makes of `inputs` with the numbers in `args`, and the
gradient of every input for the gradient `cotangent` of the output (null for an input that has none). An array is {"shape", "data"};
what JSON has no number for is a string: "nan", "inf", "-inf". To add an op, add its cases below and its name to the test's match.
"""
import json, math, pathlib
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
NAN, INF = math.nan, math.inf
CASES = []


def number(value):
    if math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def array(tensor):
    return {"shape": list(tensor.shape), "data": [number(v) for v in tensor.detach().reshape(-1).tolist()]}


def case(op, f, *inputs, constant=(), gradients=True, **args):
    """One case: `f(*inputs, **args)` under the name `op`. The inputs whose places are in `constant` get no gradient."""
    leaves = [torch.tensor(x, requires_grad=gradients and i not in constant) for i, x in enumerate(inputs)]
    output = f(*leaves, **args)
    cotangent = torch.cos(torch.arange(output.numel()) + 0.5).mul(64).round().div(64).reshape(output.shape)
    if gradients:
        output.backward(cotangent)
    CASES.append({
        "op": op,
        "args": args,
        "inputs": [array(x) for x in leaves],
        "output": array(output.to(torch.float64)),
        "cotangent": array(cotangent),
        "gradients": [None if x.grad is None else array(x.grad) for x in leaves],
    })


def draws(seed, *shape, low=-2.0, high=2.0):
    """Numbers with few digits, so that the fixture stays small."""
    generator = torch.Generator().manual_seed(seed)
    return (low + (high - low) * torch.rand(shape, generator=generator)).mul(64).round().div(64).tolist()


# ---------------------------------------------------------------- functions of one number
AROUND = [-2.5, -1.0, -0.375, -1e-5, 0.0, 1e-5, 0.25, 1.5, 3.0]
ABOVE = [1e-5, 0.25, 0.5, 1.0, 1.75, 6.5]
for name, f, points in [
    ("neg", torch.neg, AROUND), ("exp", torch.exp, AROUND + [-INF]), ("ln", torch.log, ABOVE + [INF]), ("sqrt", torch.sqrt, ABOVE + [0.0]),
    ("recip", torch.reciprocal, ABOVE + [-0.5]), ("square", torch.square, AROUND), ("tanh", torch.tanh, AROUND + [INF]),
    ("sigmoid", torch.sigmoid, AROUND + [INF, -INF]), ("softplus", F.softplus, AROUND), ("relu", torch.relu, AROUND + [INF]),
    ("gelu", F.gelu, AROUND), ("sin", torch.sin, AROUND + [100.0]), ("cos", torch.cos, AROUND + [100.0]), ("tan", torch.tan, AROUND),
    ("abs", torch.abs, AROUND + [-INF]), ("sign", torch.sign, AROUND + [-INF]), ("floor", torch.floor, AROUND + [0.5, 2.5]),
    ("ceil", torch.ceil, AROUND + [0.5, 2.5]), ("round", torch.round, AROUND + [0.5, -1.5]), ("log1p", torch.log1p, ABOVE + [-0.5, 1e-18, INF]),
    ("expm1", torch.expm1, AROUND + [1e-18, -INF]), ("rsqrt", torch.rsqrt, ABOVE + [0.0, INF]), ("erf", torch.erf, AROUND + [INF, -INF]),
    ("silu", F.silu, AROUND),
]:
    case(name, f, points)
for p in [-1.5, 0.0, 0.5, 1.0, 2.0, 2.5]:
    case("powf", lambda x, p: torch.pow(x, p), ABOVE + [0.0], p=p)
case("powf", lambda x, p: torch.pow(x, p), [-2.0, -0.5, 3.0], p=3.0)
for n in [-2, 0, 1, 2, 5]:
    case("powi", lambda x, n: torch.pow(x, n), [-2.5, -0.375, 0.25, 1.5], n=n)
for slope in [0.01, -0.5]:
    case("leaky_relu", lambda x, slope: F.leaky_relu(x, slope), AROUND, slope=slope)
for alpha in [1.0, 1.75]:
    case("elu", lambda x, alpha: F.elu(x, alpha), AROUND + [-INF], alpha=alpha)
case("clamp", lambda x, low, high: torch.clamp(x, low, high), AROUND, low=-0.5, high=1.25)

# ---------------------------------------------------------------- functions of two numbers, with ties and broadcasting
LEFT, RIGHT = [-1.5, 0.0, 0.75, 2.0, 2.0, INF], [2.0, 0.0, -0.25, 2.0, 0.5, 1.0]
for name, f in [
    ("add", torch.add), ("sub", torch.sub), ("mul", torch.mul), ("minimum", torch.minimum), ("maximum", torch.maximum),
]:
    case(name, f, LEFT, RIGHT)
    case(name, f, draws(1, 2, 3), draws(2, 3))
case("div", torch.div, draws(1, 2, 3), draws(3, 2, 1, low=0.5))
case("pow", torch.pow, [0.0, 0.0, 0.0, 0.0, 2.0, -2.0, 1.5], [0.0, 2.0, 0.5, -1.0, 0.0, 2.0, -0.5])
case("pow", torch.pow, draws(4, 2, 3, low=0.25), draws(5, 3))
case("atan2", torch.atan2, [0.0, 0.0, 1.0, -1.0, 2.0], [0.0, 1.0, 0.0, -2.0, 2.0])
case("atan2", torch.atan2, draws(6, 2, 3), draws(7, 2, 1))
COMPARED = ([1.0, 2.0, 3.0, NAN, INF, 0.0], [2.0, 2.0, 2.0, NAN, INF, -0.0])
for name in ["eq", "ne", "lt", "le", "gt", "ge"]:
    case(name, getattr(torch, name), *COMPARED, gradients=False)
select = lambda mask, a, b: torch.where(mask != 0, a, b)
case("select", select, [1.0, 0.0, -2.0], [1.0, NAN, 3.0], [INF, 5.0, NAN], constant=[0])
case("select", select, [[1.0], [0.0]], draws(8, 3), draws(9, 2, 3), constant=[0])
case("masked_fill", lambda x, mask, value: x.masked_fill(mask != 0, value), [1.0, NAN, 3.0], [0.0, 1.0, 0.0], constant=[1], value=-7.5)

# ---------------------------------------------------------------- reductions
CUBE = draws(10, 2, 3, 4)
TIES = [[1.0, 3.0, 3.0, -1.0], [2.0, 2.0, 2.0, 2.0], [-INF, 0.0, -INF, 0.0]]
dims = lambda f: lambda x, axes, keep, **args: f(x, dim=axes, keepdim=keep, **args)
product = lambda x, dim, keepdim: x if not dim else product(torch.prod(x, dim[-1], keepdim=keepdim), dim[:-1], keepdim)
for name, f in [
    ("sum", torch.sum), ("mean", torch.mean), ("max", torch.amax), ("min", torch.amin), ("logsumexp", torch.logsumexp),
    ("norm", lambda x, dim, keepdim: torch.linalg.vector_norm(x, dim=dim, keepdim=keepdim)), ("prod", product),
]:
    for axes, keep in [([1], False), ([0, 2], True), ([0, 1, 2], False)]:
        case(name, dims(f), CUBE, axes=axes, keep=keep)
for name, f in [("var", torch.var), ("std", torch.std)]:
    for axes, keep, correction in [([1], False, 1), ([0, 2], True, 0), ([0, 1, 2], False, 1)]:
        case(name, dims(f), CUBE, axes=axes, keep=keep, correction=correction)
for name, f in [("max", torch.amax), ("min", torch.amin)]:
    case(name, dims(f), TIES, axes=[1], keep=False)
    case(name, dims(f), [[1.0, NAN], [0.0, 2.0]], axes=[1], keep=False, gradients=False)
case("logsumexp", dims(torch.logsumexp), [[2.0, 2.0], [-INF, 0.5], [-1000.0, 3.0]], axes=[1], keep=False)
case("logsumexp", dims(torch.logsumexp), [[1000.0, 1000.0], [-INF, -INF], [INF, 0.0]], axes=[1], keep=False, gradients=False)
case("prod", dims(product), [[0.0, 0.0, 2.0], [2.0, 3.0, 0.0], [1.0, -2.0, 3.0]], axes=[1], keep=True)
case("std", dims(torch.std), [[1.5, 1.5, 1.5], [1.0, 2.0, 4.0]], axes=[1], keep=False, correction=1)
case("norm", dims(lambda x, dim, keepdim: torch.linalg.vector_norm(x, dim=dim, keepdim=keepdim)), [[0.0, 0.0], [3.0, 4.0]], axes=[1], keep=False)
place = lambda f: lambda x, axis: f(x, dim=axis)
for name, f in [("argmax", torch.argmax), ("argmin", torch.argmin)]:
    for axis in range(3):
        case(name, place(f), CUBE, gradients=False, axis=axis)
    case(name, place(f), [[1.0, NAN, 3.0], [0.0, -1.0, -2.0]], gradients=False, axis=1)

# ---------------------------------------------------------------- along one axis
for name, f in [("cumsum", torch.cumsum), ("softmax", torch.softmax), ("log_softmax", torch.log_softmax)]:
    for axis in range(3):
        case(name, place(f), CUBE, axis=axis)
for name, f in [("softmax", torch.softmax), ("log_softmax", torch.log_softmax)]:
    case(name, place(f), [[1000.0, 1000.0], [1000.0, 0.0], [-INF, 0.5]], axis=1)
    case(name, place(f), [[-INF, -INF], [INF, 0.0], [NAN, 0.0]], gradients=False, axis=1)

text = ",\n".join(json.dumps(case, separators=(",", ":"), allow_nan=False) for case in CASES)
path = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/ops.json"
path.write_text(f'{{"torch":"{torch.__version__}","cases":[\n{text}\n]}}\n')
print(f"{len(CASES)} cases of {len({case['op'] for case in CASES})} ops, {path.stat().st_size} bytes")
