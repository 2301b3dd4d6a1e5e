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

# ---------------------------------------------------------------- entries by their numbers
whole = lambda index, shape=None: torch.tensor(index).reshape(shape or [-1])
case("index_select", lambda x, axis, index: x.index_select(axis, whole(index)), CUBE, axis=1, index=[2, 0, 2, 1, 1])
case("gather", lambda x, axis, index, shape: x.gather(axis, whole(index, shape)), CUBE, axis=1, index=[2, 0, 1, 1, 2, 2, 0, 0], shape=[2, 2, 2])
case("gather", lambda x, axis, index, shape: x.gather(axis, whole(index, shape)), CUBE, axis=2, index=[3, 3, 0, 1, 2, 0], shape=[1, 2, 3])
for axis, index, shape in [(0, [1, 1, 0, 1], [2, 2, 1]), (2, [3, 3, 3, 0, 1, 2, 0, 0], [2, 1, 4])]:
    scatter = lambda x, source, axis, index: x.scatter_add(axis, whole(index, source.shape), source)
    case("scatter_add", scatter, CUBE, draws(11, *shape), axis=axis, index=index)
case("slice_step", lambda x, axis, start, len, step: x[:, :, start : start + (len - 1) * step + 1 : step], CUBE, axis=2, start=0, len=2, step=3)
for axis, shift in [(1, 1), (2, -5)]:
    case("roll", lambda x, axis, shift: x.roll(shift, axis), CUBE, axis=axis, shift=shift)
case("expand", lambda x, shape: x.expand(shape), draws(12, 3, 1), shape=[2, 3, 4])
case("repeat", lambda x, counts: x.repeat(counts), draws(13, 2, 3), counts=[2, 1, 3])
case("pad", lambda x, axis, before, after, value: F.pad(x, [0, 0, before, after], value=value), CUBE, axis=1, before=2, after=1, value=-0.5)
for diagonal in [-1, 0, 2]:
    case("tril", torch.tril, CUBE, diagonal=diagonal)
    case("triu", torch.triu, CUBE, diagonal=diagonal)

# ---------------------------------------------------------------- convolutions and pooling
convolutions = [("conv1d", F.conv1d, [9]), ("conv2d", F.conv2d, [5, 4])]
for name, f, lengths in convolutions:
    axes = len(lengths)
    for options in [
        {}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2}, {"groups": 2}, {"groups": 4, "stride": 3, "padding": 2},
    ]:
        options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | options
        per_group = 4 // options["groups"]
        case(name, f, draws(14, 1, 4, *lengths), draws(15, 4, per_group, *[3] * axes), draws(16, 4), **options)
    case(name, f, draws(17, 1, 2, *lengths), draws(18, 3, 2, *range(2, 2 + axes)), stride=1, padding=0, dilation=1, groups=1)
# No two of these are equal: PyTorch's maximum of equal ones gives the gradient to the first, this crate's in shares.
several = lambda *shape: (torch.randperm(math.prod(shape), generator=torch.Generator().manual_seed(19)) / 16 - 2).reshape(shape).tolist()
for name, average, largest, lengths in [("pool1d", F.avg_pool1d, F.max_pool1d, [7]), ("pool2d", F.avg_pool2d, F.max_pool2d, [4, 5])]:
    for kernel, stride, padding in [(2, 2, 0), (3, 1, 1), (3, 2, 1)]:
        for count in [True, False]:
            mean = lambda x, kernel, stride, padding, count: average(x, kernel, stride, padding, count_include_pad=count)
            case("avg_" + name, mean, draws(20, 1, 1, *lengths), kernel=kernel, stride=stride, padding=padding, count=count)
        top = lambda x, kernel, stride, padding, dilation: largest(x, kernel, stride, padding, dilation)
        case("max_" + name, top, several(1, 1, *lengths), kernel=kernel, stride=stride, padding=padding, dilation=1)
    case("max_" + name, top, several(1, 1, *lengths), kernel=2, stride=1, padding=1, dilation=2)

# ---------------------------------------------------------------- losses
REDUCTIONS = ["mean", "sum", "none"]


def entropy(logits, labels, smoothing, weights, ignored, reduction):
    weights = None if weights is None else torch.tensor(weights)
    labels = torch.tensor(labels).reshape([logits.shape[0], *logits.shape[2:]])
    ignored = -100 if ignored is None else ignored
    return F.cross_entropy(logits, labels, weights, ignore_index=ignored, reduction=reduction, label_smoothing=smoothing)


def soft_entropy(logits, targets, smoothing, weights, reduction):
    weights = None if weights is None else torch.tensor(weights)
    return F.cross_entropy(logits, targets, weights, reduction=reduction, label_smoothing=smoothing)


for reduction in REDUCTIONS:
    for smoothing, weights, ignored in [(0.0, None, None), (0.25, None, 2), (0.0, [0.5, 2.0, 1.0], 1), (0.125, [0.5, 2.0, 0.0], None)]:
        options = {"smoothing": smoothing, "weights": weights, "reduction": reduction}
        case("cross_entropy", entropy, draws(21, 4, 3), labels=[0, 1, 2, 0], ignored=ignored, **options)
        case("cross_entropy", entropy, draws(22, 2, 3, 2), labels=[0, 1, 2, 0], ignored=ignored, **options)
        case("cross_entropy_soft", soft_entropy, draws(23, 2, 3, 2), draws(24, 2, 3, 2, low=0.0, high=1.0), **options)
    pair = (draws(25, 2, 3), draws(26, 2, 3))
    case("mse_loss", F.mse_loss, *pair, reduction=reduction)
    case("l1_loss", F.l1_loss, *pair, reduction=reduction)
    case("huber_loss", lambda x, y, delta, reduction: F.huber_loss(x, y, reduction, delta), *pair, delta=0.75, reduction=reduction)
    yes = draws(27, 2, 3, low=0.0, high=1.0)
    case("bce_with_logits", F.binary_cross_entropy_with_logits, pair[0], yes, reduction=reduction)
    weighted = lambda x, y, weight, reduction: F.binary_cross_entropy_with_logits(x, y, pos_weight=weight, reduction=reduction)
    case("bce_with_logits", weighted, pair[0], yes, [0.5, 2.0, 3.0], constant=[2], reduction=reduction)

# ---------------------------------------------------------------- the linear scan, step by step


def scan(a, b, *initial):
    h, states = initial[0] if initial else torch.zeros(b.shape[:-1], dtype=b.dtype), []
    a = a.expand(b.shape)
    for t in range(b.shape[-1]):
        h = a[..., t] * h + b[..., t]
        states.append(h)
    return torch.stack(states, -1)


def complex_scan(*planar):
    return torch.stack([(h := scan(*[torch.complex(x[0], x[1]) for x in planar])).real, h.imag])


case("scan", scan, draws(28, 3, 5, low=-1.0, high=1.0), draws(29, 2, 3, 5))
case("scan", scan, draws(30, 3, 1, low=-1.0, high=1.0), draws(31, 2, 3, 5), draws(32, 2, 3))
case("complex_scan", complex_scan, draws(33, 2, 3, 1, low=-0.75, high=0.75), draws(34, 2, 3, 4), draws(35, 2, 3))
case("complex_scan", complex_scan, draws(36, 2, 2, 4, low=-0.75, high=0.75), draws(37, 2, 2, 4))

text = ",\n".join(json.dumps(case, separators=(",", ":"), allow_nan=False) for case in CASES)
path = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/ops.json"
path.write_text(f'{{"torch":"{torch.__version__}","cases":[\n{text}\n]}}\n')
print(f"{len(CASES)} cases of {len({case['op'] for case in CASES})} ops, {path.stat().st_size} bytes")
