"""The neighbourhood attention layer: tiles against the gather form and, where it is installed, NATTEN.

The *gather* side is the definition as people write it by hand: index K x K keys and values per query, two einsums
around a softmax (it is our reference path). NATTEN from 0.20 on has neither a position bias nor, on a CPU, a backward
pass: its side is the forward pass of its layer without the bias. 0.17.3, the last version with CPU kernels of its own,
does not build against current PyTorch without changes.
"""

import importlib.util

import torch
from torch import nn

from benchmarks._measure import Job, Measurement, Workload, compare, table
from zoo.layers.neighborhood import NeighborhoodAttention2d

KERNEL = 7
HEAD_DIM = 32
# batch, side of the map, heads, dilation
CASES = (
    (1, 56, 2, 1),
    (4, 56, 2, 1),
    (1, 56, 2, 2),
    (1, 56, 2, 4),
    (1, 56, 2, 8),
    (4, 28, 4, 1),
    (4, 28, 4, 2),
    (4, 28, 4, 4),
    (4, 14, 6, 1),
    (4, 14, 6, 2),
)
SIDES = {"tiles": "tiles", "gather": "reference"}
if importlib.util.find_spec("natten") is not None:
    SIDES["natten"] = "natten"


def layer_call(backend: str, batch: int, size: int, heads: int, dilation: int, training: bool) -> Workload:
    """The whole layer: projections, attention with position bias. Training is forward and backward of the sum."""
    torch.manual_seed(0)
    dim = HEAD_DIM * heads
    x = torch.randn(batch, size, size, dim, requires_grad=training)
    if backend == "natten":
        natten = importlib.import_module("natten")
        layer = natten.NeighborhoodAttention2D(dim, heads, kernel_size=KERNEL, dilation=dilation)
    else:
        layer = NeighborhoodAttention2d(dim, heads, KERNEL, dilation, rel_pos_bias=True, backend=backend)
        nn.init.normal_(layer.rpb)

    def inference() -> None:
        with torch.no_grad():
            layer(x)

    def step() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x).sum().backward()

    if not training:
        layer.requires_grad_(False)
        return Workload(inference)
    return Workload(step, lambda: layer(x), (x, *layer.parameters()))


def measure(case: tuple[int, int, int, int], training: bool) -> dict[str, Measurement]:
    args = dict(zip(("batch", "size", "heads", "dilation"), case, strict=True), training=training)
    sides = {name: side for name, side in SIDES.items() if not (training and side == "natten")}
    return compare(
        {name: Job(f"{__spec__.name}:layer_call", {"backend": side, **args}) for name, side in sides.items()}
    )


def report() -> str:
    """Two tables, forward and forward + backward, as Markdown."""
    parts = [
        f"Layer with projections and position bias, kernel {KERNEL}, head dimension {HEAD_DIM}, float32. ms: reuse / "
        "default malloc; the ratio is to *tiles*; faults: minor page faults of a call under default malloc. *gather* "
        "copies the keys and values of every query, as one writes it by hand; *natten* is there where it is installed, "
        "without a position bias, which it has given up, and forward only: it has no backward pass on a CPU."
    ]
    for training in (False, True):
        head = ["batch, map, heads, dilation", "side", "ms", "ratio", "peak MB", "faults"]
        rows = []
        for case in CASES:
            batch, size, heads, dilation = case
            measured = measure(case, training)
            base = measured["tiles"]
            for name, found in measured.items():
                row = [
                    f"{batch}, {size}x{size}, {heads}, {dilation}",
                    name,
                    f"{found.reuse_ms:.1f} / {found.default_ms:.1f}",
                    f"{found.reuse_ms / base.reuse_ms:.1f} / {found.default_ms / base.default_ms:.1f}",
                    f"{found.peak_mb:.0f}",
                    f"{found.default_faults:,}",
                ]
                rows.append([*row, f"{found.saved_mb:.1f}"] if found.saved_mb is not None else row)
        if training:
            head.append("saved MB")
        parts.append(f"**{'Forward and backward' if training else 'Forward'}**\n\n{table(head, rows)}")
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(report())
