#!/usr/bin/env python3
"""What every kernel of the CUDA backend costs a multiprocessor: registers, spills, shared memory; no GPU is needed.

  KERNELS=/tmp/kernels cargo test --features cuda --test cuda_source -- --ignored sources_are_written
  pip install nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cuda-cccl nvidia-cuda-nvcc
  python3 benches/ptxas.py /tmp/kernels > benches/ptxas.md

Each source goes through NVRTC with the options that CubeCL gives it, and its PTX through `ptxas -v`, for --arch (sm_90a, an H100 or H200).
Told are the kernels of training steps, the tests' kernels that no step launches, and of those kernels' other variants the ones that spill or have
a stack.
"""

import argparse
import concurrent.futures
import ctypes
import pathlib
import re
import subprocess
import sys
import tempfile

# Of a multiprocessor of that architecture: registers, bytes of shared memory for all cubes, bytes that a cube costs beside its own, units,
# cubes.
REGISTERS, SHARED, RESERVED, UNITS, CUBES = 65536, 233472, 1024, 2048, 32


def toolkit():
    """The folder of pip's toolkit, and NVRTC's library in it."""
    import nvidia

    for root in map(pathlib.Path, nvidia.__path__):
        for library in sorted(root.glob("cu1*/lib/libnvrtc.so*")):
            if "builtins" not in library.name:
                return library.parent.parent, ctypes.CDLL(str(library))
    sys.exit("ptxas.py: pip install nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cuda-cccl nvidia-cuda-nvcc")


def to_ptx(root, nvrtc, source, arch):
    """The PTX of a source, by the options of CubeCL; for a virtual architecture NVRTC makes no machine code beside it."""
    options = [f"--gpu-architecture={arch.replace('sm_', 'compute_')}", f"--include-path={root}/include", f"--include-path={root}/include/cccl", "-lineinfo"]
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), None, 0, None, None)
    failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*map(str.encode, options)))
    kind = "ProgramLog" if failed else "PTX"
    size = ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{kind}")(program, text)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if failed:
        raise RuntimeError(text.value.decode())
    return text.value


def short(name):
    """The kernel's path below the backend, without its scalars and variants."""
    name = name.removeprefix("pspikessm::backend::cube::").split("<")[0]
    return name.rsplit("::", 1)[0] if name[0].islower() else name


def cost(root, nvrtc, path, arch):
    """The row of one kernel."""
    source = path.read_text()
    name, numbers = source.splitlines()[:2]
    units, shared = map(int, re.findall(r"\d+", numbers))
    with tempfile.NamedTemporaryFile(suffix=".ptx") as file:
        file.write(to_ptx(root, nvrtc, source, arch).rstrip(b"\0"))
        file.flush()
        said = subprocess.run([root / "bin/ptxas", "-v", f"-arch={arch}", "-o", "/dev/null", file.name], capture_output=True, text=True)
    if said.returncode:
        raise RuntimeError(f"{path}: {said.stderr}")

    def number(pattern):
        found = re.search(pattern, said.stderr)
        return int(found[1]) if found else 0

    registers, shared = number(r"Used (\d+) registers"), shared + number(r"(\d+) bytes smem")
    # Registers are given to a warp by 256.
    warps = -(-units // 32)
    fits = [CUBES, UNITS // units, REGISTERS // (-(-registers * 32 // 256) * 256 * warps), SHARED // (shared + RESERVED)]
    return {
        "of": path.stem.split("-")[0],
        "name": short(name.removeprefix("// ")),
        "units": units,
        "registers": registers,
        "stored": number(r"(\d+) bytes spill stores"),
        "loaded": number(r"(\d+) bytes spill loads"),
        "stack": number(r"(\d+) bytes stack frame"),
        "shared": shared,
        "cubes": min(fits),
        "occupied": min(fits) * warps / (UNITS / 32),
    }


def table(rows):
    """Rows by kernel; of variants of one kernel the range."""
    by = {}
    for row in rows:
        by.setdefault(row["name"], []).append(row)
    print("| kernel | variants | units | registers | spilled, B stored / loaded | stack, B | shared, KiB | cubes a multiprocessor | occupied |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, own in sorted(by.items()):

        def span(key, show=str):
            least, most = min(row[key] for row in own), max(row[key] for row in own)
            return show(least) if show(least) == show(most) else f"{show(least)} to {show(most)}"

        kib = span("shared", lambda bytes: f"{bytes / 1024:.3g}")
        spilled = f"{span('stored')} / {span('loaded')}"
        occupied = span("occupied", lambda share: f"{share:.0%}")
        cells = [name, len(own), span("units"), span("registers"), spilled, span("stack"), kib, span("cubes"), occupied]
        print("|", " | ".join(map(str, cells)), "|")


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("kernels", type=pathlib.Path)
    flags.add_argument("--arch", default="sm_90a")
    flags.add_argument("--jobs", type=int, default=2)
    flags = flags.parse_args()
    root, nvrtc = toolkit()
    for scalar in ("f32", "f64"):
        # Each source once, as a step's where a step launches it.
        paths = sorted((flags.kernels / scalar).glob("*.cu"), key=lambda path: (not path.stem.startswith("step"), path))
        paths = {path.read_text().split("\n", 2)[2]: path for path in reversed(paths)}.values()
        with concurrent.futures.ThreadPoolExecutor(flags.jobs) as pool:
            rows = list(pool.map(lambda path: cost(root, nvrtc, path, flags.arch), paths))
        steps = [row for row in rows if row["of"] == "step"]
        launched = {row["name"] for row in steps}
        more = [row for row in rows if row["name"] not in launched]
        others = [row for row in rows if row["name"] in launched and row["of"] != "step"]
        bad = [row for row in others if row["stored"] or row["loaded"] or row["stack"]]
        print(f"\n{scalar}, {flags.arch}: {len(rows)} kernels; of training steps {len(steps)}:\n")
        table(steps)
        if more:
            print(f"\n{scalar}: {len(more)} of the methods' tests, which no step launches:\n")
            table(more)
        print(f"\n{scalar}: of {len(others)} variants that the methods' tests launch beside {len(bad)} spill or have a stack{':' if bad else '.'}\n")
        if bad:
            table(bad)


if __name__ == "__main__":
    main()
