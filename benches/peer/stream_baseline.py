#!/usr/bin/env python3
"""Steps of streams in PyTorch on one thread, the same recurrence as benches/stream.rs: tensors over streams.
 eager     complex tensors, diagonal plus low rank
 planar    real and imaginary planes, diagonal plus low rank
 dense     the state matrix of every channel as a real matrix: a product for all streams at once
 compile   the planar one through torch.compile
e.g.  python stream_baseline.py                      every size, number of streams and way; the best of the ways comes last
      python stream_baseline.py --task psmnist --streams 1 --modes eager,planar
"""
import argparse, statistics as st, time
import torch
import torch.nn.functional as F
from torch_baseline import legs_dplr

SIZES = {"psmnist": (400, 64, 2, False), "speech_commands": (400, 64, 2, True), "listops": (128, 16, 4, True)}  # H, N, layers, residual


def system(H, N, mode):
    """Abar = d - u q^T (real part), Bbar, 2 C of every channel: bilinear, as the crate's kernels."""
    lam, P, B = (torch.tensor(x, dtype=torch.cdouble) for x in legs_dplr(N))
    dt = torch.exp(torch.rand(H, 1, dtype=torch.double) * 4.6 - 6.9)
    d = 1 / (1 - dt / 2 * lam)
    w = 1 / (1 + dt / 2 * 2 * (P.conj() * d * P).real.sum(-1, keepdim=True))
    u, q = 2 * d * P * w, dt * P.conj() * d
    apply = lambda x: (2 * d - 1) * x - u * (q * x).real.sum(-1, keepdim=True)
    b = dt / 2 * (apply(B.expand(H, -1)) + B)
    c = 2 * torch.randn(H, N // 2, dtype=torch.cdouble)
    if mode == "dense":
        M = N // 2
        basis = torch.cat([torch.eye(M), 1j * torch.eye(M)]).to(torch.cdouble)            # 2M, M
        columns = torch.stack([apply(e.expand(H, -1)) for e in basis], -1)                # H, M, 2M
        A = torch.cat([columns.real, columns.imag], 1).float().contiguous()               # H, 2M, 2M
        return dict(A=A, b=torch.cat([b.real, b.imag], 1).float(), c=torch.cat([c.real, -c.imag], 1).float())
    full = dict(d=2 * d - 1, u=u, q=q, b=b, c=c)
    if mode == "eager":
        return {k: v.to(torch.cfloat).contiguous() for k, v in full.items()}
    return {f"{k}{p}": getattr(v, a).float().contiguous() for k, v in full.items() for p, a in (("r", "real"), ("i", "imag"))}


def ssm_step(mode, w, x, v):
    """x after the step, and y (streams, H)."""
    if mode == "eager":
        t = (x * w["q"]).real.sum(-1, keepdim=True)
        x = x * w["d"] - t * w["u"] + w["b"] * v.unsqueeze(-1)
        return x, (x * w["c"]).real.sum(-1)
    if mode == "dense":                                                                    # x: H, 2M, streams
        x = torch.baddbmm(w["b"].unsqueeze(-1) * v.t().unsqueeze(1), w["A"], x)
        return x, torch.einsum("hms,hm->sh", x, w["c"])
    r, i = x
    t = (r * w["qr"] - i * w["qi"]).sum(-1, keepdim=True)
    v = v.unsqueeze(-1)
    x = (r * w["dr"] - i * w["di"] - t * w["ur"] + w["br"] * v, r * w["di"] + i * w["dr"] - t * w["ui"] + w["bi"] * v)
    return x, (x[0] * w["cr"] - x[1] * w["ci"]).sum(-1)


class Model:
    def __init__(self, task, streams, mode):
        self.H, N, self.layers, self.residual = SIZES[task]
        H, M = self.H, N // 2
        self.mode, lin = mode, lambda i, o: ((torch.rand(o, i) * 2 - 1) / i ** .5, (torch.rand(o) * 2 - 1) / i ** .5)
        self.encoder, self.head = lin(1, H), lin(H, 10)
        self.blocks = [(system(H, N, mode), torch.randn(H), *lin(H, H)) for _ in range(self.layers)]
        shape = dict(eager=(streams, H, M), dense=(H, 2 * M, streams)).get(mode)
        zero = lambda: torch.zeros(shape, dtype=torch.cfloat if mode == "eager" else torch.float)
        self.states = [zero() if shape else (torch.zeros(streams, H, M), torch.zeros(streams, H, M)) for _ in self.blocks]
        self.sum, self.count = torch.zeros(streams, H), 0

    def pass_once(self, value, states):
        x, after = F.linear(value, *self.encoder), []
        for (weights, skip, w, b), state in zip(self.blocks, states):
            s = (x > torch.rand_like(x)).float()
            state, y = ssm_step(self.mode, weights, state, s)
            z = (F.gelu(y + skip * s) > torch.rand_like(x)).float()
            m = F.gelu(F.linear(z, w, b))
            x = x + m if self.residual else m
            after.append(state)
        return x, after

    def step(self, value, run):
        x, self.states = run(value, self.states)
        self.sum += x
        self.count += 1
        return F.linear(self.sum / self.count, *self.head)


def bench(task, streams, mode):
    torch.manual_seed(0)
    model = Model(task, streams, mode if mode != "compile" else "planar")
    run = torch.compile(model.pass_once) if mode == "compile" else model.pass_once
    value = torch.rand(streams, 1)
    once = lambda: model.step(value, run)
    with torch.inference_mode():
        for _ in range(5):
            once()
        start = time.perf_counter(); once(); count = max(1, int(.02 / (time.perf_counter() - start)))
        times = []
        for _ in range(15):
            start = time.perf_counter()
            for _ in range(count):
                once()
            times.append((time.perf_counter() - start) / count)
    us = st.median(times) * 1e6
    print(f"bench=stream_peer task={task} mode={mode} streams={streams} step_us={us:.1f} us_a_stream={us / streams:.2f}", flush=True)
    return us


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="psmnist,speech_commands,listops")
    parser.add_argument("--streams", default="1,16,256")
    parser.add_argument("--modes", default="eager,planar,dense,compile")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for task in args.task.split(","):
        for streams in map(int, args.streams.split(",")):
            found = {}
            for mode in args.modes.split(","):
                try:
                    found[mode] = bench(task, streams, mode)
                except Exception as error:  # torch.compile needs a C++ compiler
                    print(f"bench=stream_peer task={task} mode={mode} streams={streams} failed={type(error).__name__}: {error}".splitlines()[0], flush=True)
            if found:
                best = min(found, key=found.get)
                print(f"bench=stream_peer task={task} mode=best({best}) streams={streams} step_us={found[best]:.1f}", flush=True)
