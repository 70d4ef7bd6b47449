"""Moving the knots of a KAN layer to its data: one small transform per input, against fitting every curve again.

`python -m benchmarks.kan_grid` prints a Markdown table.
"""

import torch

from benchmarks._kan_official import SplineLinear
from benchmarks._measure import Job, Workload, compare, table
from zoo.layers.kan import KANLinear

#: Rows, inputs, outputs.
CASES = ((1024, 256, 256), (4096, 64, 64))


def update_call(side: str, rows: int, inputs: int, outputs: int) -> Workload:
    """One whole call of `update_grid`; `side` is "ours", or "official" for efficient-kan's algorithm."""
    torch.manual_seed(0)
    x = torch.randn(rows, inputs)
    if side == "official":
        official = SplineLinear(inputs, outputs)
        return Workload(lambda: official.update_grid(x))
    layer = KANLinear(inputs, outputs)
    return Workload(lambda: layer.update_grid(x))


def main() -> None:
    rows = []
    for case in CASES:
        arguments = dict(zip(("rows", "inputs", "outputs"), case, strict=True))
        jobs = {
            side: Job("benchmarks.kan_grid:update_call", {"side": side, **arguments}) for side in ("ours", "official")
        }
        found = compare(jobs)
        ours, official = found["ours"], found["official"]
        rows.append(
            [
                f"{case[0]:,} rows, {case[1]} → {case[2]}",
                f"{ours.reuse_ms:.0f}",
                f"{official.reuse_ms:.0f}",
                f"{official.reuse_ms / ours.reuse_ms:.1f}",
                f"{official.default_ms / ours.default_ms:.1f}",
                f"{ours.peak_mb:.0f}",
                f"{official.peak_mb:.0f}",
            ]
        )
    head = ["layer", "ours ms", "official ms", "speed-up (reuse)", "speed-up (default)", "peak MB, ours", "official"]
    print(table(head, rows))
    print(
        "\n*Official* is efficient-kan's algorithm: every curve at every row, then a least-squares fit of every curve."
    )


if __name__ == "__main__":
    main()
