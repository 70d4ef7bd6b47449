"""KAN layers against the libraries that people use: their arithmetic, and packages that make splines fast.

`python -m benchmarks.kan_linear` prints a Markdown table; `python -m benchmarks.kan_linear W2` only some of its rows.
The packages are optional: `pip install inkan flashkan`.
"""

import importlib.util
import itertools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks._kan_official import GaussianLinear, SplineLinear, SwitchLinear
from benchmarks._measure import Job, Measurement, Workload, compare, table
from zoo.layers.kan import KAN, KANLinear
from zoo.layers.kan.native.build import library

#: Rows, widths, intervals of B-splines.
SIZES: dict[str, tuple[int, list[int], int]] = {
    "W1": (1024, [512, 512], 5),
    "W2": (16384, [64, 64], 5),
    "W3": (256, [3136, 256, 10], 5),
    "grid 20": (1024, [64, 64], 20),
    "grid 50": (1024, [64, 64], 50),
    "grid 100": (1024, [64, 64], 100),
}
OFFICIAL: dict[str, tuple[str, Callable[..., nn.Module]]] = {
    "B-splines": ("efficient-kan's arithmetic", SplineLinear),
    "Gaussians": ("fast-kan's arithmetic", GaussianLinear),
    "switches": ("faster-kan's arithmetic", SwitchLinear),
}
PRESETS = {"B-splines": KANLinear.efficient, "Gaussians": KANLinear.fast, "switches": KANLinear.faster}
PEERS = ("inkan", "inkan, compiled", "flashkan", "flashkan, compiled")
LINEAR = "SiLU and nn.Linear, same widths"


def layers_call(side: str, basis: str, sizes: str, training: bool) -> Workload:
    """The layers in a row; `side` is "ours", "ours, compiled", "official", a package or `LINEAR`."""
    rows, widths, grid_size = SIZES[sizes]
    torch.manual_seed(0)
    x = (torch.rand(rows, widths[0]) * 2 - 1).requires_grad_(training)
    module = _module(side, basis, widths, grid_size)
    cotangent = torch.ones(rows, widths[-1])

    def inference() -> None:
        with torch.no_grad():
            module(x)

    def step() -> None:
        module.zero_grad()
        x.grad = None
        module(x).backward(cotangent)

    own = [x, *module.parameters(), *module.buffers()]
    return Workload(step, lambda: module(x), own) if training else Workload(inference)


def _module(side: str, basis: str, widths: list[int], grid_size: int) -> nn.Module:
    options: dict[str, Any] = {"grid_size": grid_size} if basis == "B-splines" else {}
    package, _, how = side.partition(", ")
    if package == "ours":
        return KAN(widths, layer=PRESETS[basis], backend="compiled" if how else "auto", **options)
    if side == "official":
        return _row(lambda *sizes: OFFICIAL[basis][1](*sizes, **options), widths)
    if side == LINEAR:
        return _row(lambda *sizes: nn.Sequential(nn.SiLU(), nn.Linear(*sizes, bias=False)), widths)
    if package == "inkan":
        inkan = __import__("inkan")
        modes: dict[str, Any] = {"compile_basis": bool(how), "basis_mode": "dense" if how else "local"}
        return _row(lambda *sizes: inkan.KANLayer(*sizes, **options, **modes), widths)
    if not how:
        torch.compiler.set_stance("force_eager")
    return _row(lambda *sizes: __import__("flashkan").KANLayer(*sizes, **options), widths)


def _row(layer: Callable[..., nn.Module], widths: list[int]) -> nn.Module:
    return nn.Sequential(*(layer(*pair) for pair in itertools.pairwise(widths)))


def _sides(basis: str, grid_size: int) -> dict[str, str]:
    """Which sides there are by what they are called; those that cannot run here have no name of a side."""
    names = {"ours": "ours", OFFICIAL[basis][0]: "official"}
    if basis == "B-splines":
        names["ours, backend='compiled'"] = "ours, compiled" if _compiles() else ""
        if grid_size == 5:
            names |= {peer: peer if importlib.util.find_spec(peer.split(",")[0]) else "" for peer in PEERS}
            names[LINEAR] = LINEAR
    return names


def _compiles() -> bool:
    try:
        library()
    except RuntimeError:
        return False
    return True


def _rows(basis: str, sizes: str, training: bool) -> list[list[str]]:
    names = _sides(basis, SIZES[sizes][2])
    arguments = {"basis": basis, "sizes": sizes, "training": training}
    jobs = {
        name: Job("benchmarks.kan_linear:layers_call", {"side": side, **arguments})
        for name, side in names.items()
        if side
    }
    found = compare(jobs)
    start = [sizes, basis, "forward + backward" if training else "forward"]
    return [[*start, name, *_cells(found.get(name), found["ours"])] for name in names]


def _cells(side: Measurement | None, ours: Measurement) -> list[str]:
    if side is None:
        return ["not installed", *[""] * 6]
    return [
        f"{side.reuse_ms:.1f}",
        f"{side.reuse_ms / ours.reuse_ms:.2f}",
        str(side.reuse_faults),
        f"{side.default_ms:.1f}",
        f"{side.default_ms / ours.default_ms:.2f}",
        "" if side.saved_mb is None else f"{side.saved_mb:.1f}",
        f"{side.peak_mb:.0f}",
    ]


def main() -> None:
    chosen = sys.argv[1:] or list(SIZES)
    rows = []
    for sizes in chosen:
        for basis in OFFICIAL if SIZES[sizes][2] == 5 else ["B-splines"]:
            for training in (False, True):
                rows += _rows(basis, sizes, training)
    head = ["sizes", "basis", "pass", "side", "ms (reuse)", "times ours", "faults", "ms (default)", "times ours"]
    print(table([*head, "saved MB", "peak MB"], rows))
    print(
        "\n*W1* is 1,024 rows, 512 → 512; *W2* 16,384 rows, 64 → 64; *W3* 256 rows, 3,136 → 256 → 10; the grids are "
        "1,024 rows, 64 → 64. Inputs are uniform in [-1, 1]; splines are cubic, over 5 intervals in W1 to W3; bells "
        "are 8. *Arithmetic* is the library's formula in torch operations under autograd. With malloc as it is, those "
        "pay page faults for large intermediate tensors in every call: that ratio is what a fresh process sees, not "
        "one of arithmetic. The packages know cubic splines over even knots and no scales of edges; compiled, they "
        "need a C++ compiler and 10 to 40 seconds for the first call."
    )


if __name__ == "__main__":
    main()
